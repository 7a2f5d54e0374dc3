"""
What this process knows of the read side: live generations, and how far each is in the partitions asked for.

It is asked for by one small statement a second, on a notification while somebody waits, and whenever a read
meets a generation that is not known. Two uses: who waits for a position is woken here, and every answer must be
at least as new as what the primary said some seconds ago (`floor`), so that neither a late replica nor a cache
that nobody writes to any more is believed for long.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from event_store.wake import Listener
from infra.sql import load_sql
from infra.telemetry import log
from query_api.replicas import GenerationGone
from query_api.statements import positional
from schemas.errors import Overloaded, StoreUnavailable, Unavailable

POLL_SECONDS = 1.0
POLL_WAITED_SECONDS = 0.25
FLOOR_SECONDS = 2.0
WAITERS_MAX = 1_000


class Reads(Protocol):
    """A server to ask: `query_api.replicas.Server`."""

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Sequence[Any]:
        """Run one statement."""
        ...


@dataclass(eq=False)
class ReadModelMissing(Unavailable):
    """The read model has not been built yet."""

    projection: str


class Applied(NamedTuple):
    """How far a projection is in a partition."""

    position: int
    hash_prefix: str


NOTHING = Applied(0, "00000000")
Place = tuple[str, int]
"""Projection and partition."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the primary said at one time."""

    generations: dict[str, int] = field(default_factory=dict)
    applied: dict[Place, Applied] = field(default_factory=dict)


class ReadSide:
    """The state of the read side, kept up to date while the block runs."""

    def __init__(self, primary: Reads, namespace: str, *, listen_url: str | None = None) -> None:
        self._primary = primary
        self._statement = positional(load_sql("query_api", "sql/applied.sql", namespace=namespace))
        urls = [listen_url] if listen_url else []
        self._listeners = (
            Listener(urls, f"{namespace}_applied", self._heard),
            Listener(urls, f"{namespace}_generations", lambda _payload: self._news.set()),
        )
        self._partitions: set[int] = set()
        self._now = Snapshot()
        self._floor = Snapshot()
        self._next_floor = Snapshot()
        self._floor_due = 0.0
        self._refreshing: asyncio.Task[None] | None = None
        self._waiting: dict[int, set[asyncio.Event]] = defaultdict(set)
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "ReadSide":
        for listener in self._listeners:
            await listener.__aenter__()
        self._task = asyncio.create_task(self._keep(), name="read side")
        return self

    async def __aexit__(self, *exception: object) -> None:
        for listener in self._listeners:
            await listener.__aexit__(*exception)
        tasks = [task for task in (self._task, self._refreshing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def generations(self, projections: Iterable[str]) -> tuple[tuple[str, int], ...]:
        """
        Return the live generations of projections.

        Raises:
            ReadModelMissing: One has none.
            StoreUnavailable: None is known yet, and the primary does not answer.
        """
        found = self.known_generations(projections)
        if found is None:
            await self.refresh()
            found = self.known_generations(projections)
        if found is None:
            missing = next(name for name in projections if name not in self._now.generations)
            raise ReadModelMissing(missing)
        return found

    def known_generations(self, projections: Iterable[str]) -> tuple[tuple[str, int], ...] | None:
        """Return the live generations of projections as far as is known; None when one is not."""
        known = self._now.generations
        try:
            return tuple((name, known[name]) for name in projections)
        except KeyError:
            return None

    def floor(self, projection: str, generation: int, partition: int) -> int:
        """Return the position that every answer must reflect, whoever gives it."""
        if self._floor.generations.get(projection) != generation:
            return 0
        return self._floor.applied.get((projection, partition), NOTHING).position

    def applied(self, projection: str, partition: int) -> Applied:
        """Return how far a projection was when the primary was last asked."""
        return self._now.applied.get((projection, partition), NOTHING)

    async def refresh(self) -> None:
        """
        Ask the primary now; who asks meanwhile shares the answer.

        Raises:
            StoreUnavailable: It does not answer.
        """
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh(), name="refresh read side")
        await asyncio.shield(self._refreshing)

    async def wait(self, projections: Sequence[str], partition: int, position: int, until: float) -> bool:
        """
        Wait until all of these projections have applied a position, by the loop's clock until `until`.

        Raises:
            Overloaded: Too many are waiting already.
        """
        return await self._wait(
            partition,
            until,
            lambda: all(self.applied(name, partition).position >= position for name in projections),
        )

    async def wait_for_change(
        self, projections: Sequence[str], partition: int, position: int, until: float
    ) -> bool:
        """
        Wait until any of these projections has applied more than a position.

        Raises:
            Overloaded: Too many are waiting already.
        """
        return await self._wait(
            partition,
            until,
            lambda: any(self.applied(name, partition).position > position for name in projections),
        )

    async def _wait(self, partition: int, until: float, holds: Any) -> bool:
        self._partitions.add(partition)
        waiting = sum(map(len, self._waiting.values()))
        if waiting >= WAITERS_MAX:
            raise Overloaded(waiting=waiting)
        loop = asyncio.get_running_loop()
        moved = asyncio.Event()
        self._waiting[partition].add(moved)
        self._news.set()
        try:
            while not holds():
                if (left := until - loop.time()) <= 0:
                    return False
                moved.clear()
                try:
                    async with asyncio.timeout(left):
                        await moved.wait()
                except TimeoutError:
                    return bool(holds())
            return True
        finally:
            self._waiting[partition].discard(moved)
            if not self._waiting[partition]:
                del self._waiting[partition]

    def watch(self, partition: int) -> None:
        """Keep an eye on a partition from now on."""
        self._partitions.add(partition)

    def _heard(self, payload: str) -> None:
        if payload.isdigit() and int(payload) in self._waiting:
            self._news.set()

    async def _keep(self) -> None:
        """Ask every now and then: at once when there is news and somebody waits, else by the clock."""
        while True:
            try:
                await self.refresh()
            except StoreUnavailable:
                await asyncio.sleep(POLL_WAITED_SECONDS)
            except Exception as error:
                log.error("cannot learn how far the read side is", error=repr(error), exc_info=error)
                await asyncio.sleep(POLL_SECONDS)
            try:
                seconds = POLL_WAITED_SECONDS if self._waiting else POLL_SECONDS
                async with asyncio.timeout(seconds):  # wait_for may swallow a cancellation
                    await self._news.wait()
            except TimeoutError:
                continue
            self._news.clear()

    async def _refresh(self) -> None:
        watched = sorted(self._partitions)
        try:
            rows = await self._primary.fetch(
                self._statement.sql, self._statement.arguments({"partitions": watched})
            )
        except GenerationGone:  # the database has not been migrated yet: nothing has been built
            rows = []
        self._now = Snapshot(
            {row["name"]: row["generation"] for row in rows},
            {
                (row["name"], row["partition"]): Applied(row["position"], row["hash_prefix"])
                for row in rows
                if row["partition"] is not None
            },
        )
        if time.monotonic() >= self._floor_due:
            self._floor, self._next_floor = self._next_floor, self._now
            self._floor_due = time.monotonic() + FLOOR_SECONDS
        for partition in self._waiting:
            for moved in self._waiting[partition]:
                moved.set()
