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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from event_store.wake import Listener
from infra.sql import load_sql
from infra.telemetry import log
from query_api.replicas import GenerationGone
from query_api.statements import positional
from query_api.vetting import Claim, Vetting
from schemas.errors import Overloaded, StoreUnavailable, Unavailable

POLL_SECONDS = 1.0
POLL_WAITED_SECONDS = 0.25
FLOOR_SECONDS = 2.0
WAITERS_MAX = 1_000
LOOKS_MAX = 3
"""How often the primary is asked for what one read needs: an answer under way may not be about it."""


class Reads(Protocol):
    """A server to ask: `query_api.replicas.Server`."""

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Sequence[Any]:
        """Run one statement."""
        ...


@dataclass(eq=False)
class ReadModelMissing(Unavailable):
    """The read model has not been built yet."""

    projection: str


@dataclass(eq=False)
class ReadModelVoid(Unavailable):
    """The read model rests on events that the log has lost; it is being built anew from those that it has."""

    projection: str


class Applied(NamedTuple):
    """How far a projection is in a partition."""

    position: int
    hash_prefix: str
    revision: int = 0
    """How often its rows have changed without an event."""


NOTHING = Applied(0, "00000000")
Place = tuple[str, int]
"""Projection and partition."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the primary said at one time."""

    generations: dict[str, int] = field(default_factory=dict)
    applied: dict[Place, Applied] = field(default_factory=dict)
    era: str = ""
    versions: dict[tuple[str, int], int] = field(default_factory=dict)
    """Of the projections as they are live, by name and generation."""


class ReadSide:
    """The state of the read side, kept up to date while the block runs."""

    def __init__(
        self,
        primary: Reads,
        namespace: str,
        *,
        listen_url: str | None = None,
        vetting: Vetting | None = None,
        require: Callable[[], None] = lambda: None,
    ) -> None:
        """Make it; `require` raises while nothing at all may be served."""
        self.require = require
        self._primary = primary
        self._vetting = vetting
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

    @property
    def era(self) -> str:
        """Which life of the tables' database it is."""
        return self._now.era

    async def generations(self, projections: Iterable[str], partition: int) -> tuple[tuple[str, int], ...]:
        """
        Return the live generations of projections, once what they have in a partition is found to rest on the log.

        Raises:
            ReadModelMissing: One has none.
            ReadModelVoid: One rests on events that the log has lost.
            StoreUnavailable: The primary or the log must be asked, and does not answer.
        """
        self._partitions.add(partition)
        for _ in range(LOOKS_MAX):
            found = self.sound_generations(projections, partition)
            if found is not None:
                return found
            if void := self._void(projections, partition):
                raise ReadModelVoid(void)
            await self.refresh()
        if self.known_generations(projections) is None:
            missing = next(name for name in projections if name not in self._now.generations)
            raise ReadModelMissing(missing)
        raise StoreUnavailable

    def sound_generations(
        self, projections: Iterable[str], partition: int
    ) -> tuple[tuple[str, int], ...] | None:
        """Return the live generations of projections that are known to rest on the log; None when one is not."""
        found = self.known_generations(projections)
        if found is None or self._vetting is None:
            return found
        sound = self._vetting.sound
        for name, generation in found:
            if (name, generation, partition) not in sound:
                return None
        return found

    def _void(self, projections: Iterable[str], partition: int) -> str | None:
        void = self._vetting.void if self._vetting is not None else ()
        live = self._now.generations
        return next((name for name in projections if (name, live.get(name), partition) in void), None)

    def trusts_cache(self, projection: str, generation: int, partition: int) -> bool:
        """Say whether the cache is known to speak of the log's own history here."""
        return self._vetting is None or (projection, generation, partition) in self._vetting.cached

    def known_generations(self, projections: Iterable[str]) -> tuple[tuple[str, int], ...] | None:
        """Return the live generations of projections as far as is known; None when one is not."""
        known = self._now.generations
        try:
            return tuple((name, known[name]) for name in projections)
        except KeyError:
            return None

    def version(self, projection: str, generation: int) -> int:
        """Return the version of a projection that a live generation was folded by; 0: it is not known to be live."""
        return self._now.versions.get((projection, generation), 0)

    def floor(self, projection: str, generation: int, partition: int) -> int:
        """Return the position that every answer must reflect, whoever gives it."""
        if self._floor.generations.get(projection) != generation or self._floor.era != self._now.era:
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
        waiting = sum(map(len, self._waiting.values()))
        if waiting >= WAITERS_MAX:
            raise Overloaded(waiting=waiting)
        loop = asyncio.get_running_loop()
        with self.following(partition) as moved:
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

    @contextmanager
    def following(self, partition: int) -> Iterator[asyncio.Event]:
        """Have an event set, for a block, whenever there may be news of a partition."""
        self._partitions.add(partition)
        moved = asyncio.Event()
        self._waiting[partition].add(moved)
        self._news.set()
        try:
            yield moved
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
                (row["name"], row["partition"]): Applied(row["position"], row["hash_prefix"], row["revision"])
                for row in rows
                if row["partition"] is not None
            },
            rows[0]["era"] if rows else "",
            {(row["name"], row["generation"]): row["version"] for row in rows},
        )
        if time.monotonic() >= self._floor_due:
            self._floor, self._next_floor = self._next_floor, self._now
            self._floor_due = time.monotonic() + FLOOR_SECONDS
        if self._vetting is not None:
            await self._vet(self._vetting, watched)
        for partition in self._waiting:
            for moved in self._waiting[partition]:
                moved.set()

    async def _vet(self, vetting: Vetting, partitions: Sequence[int]) -> None:
        claims = {
            (name, generation, partition): Claim(partition, *self.applied(name, partition)[:2])
            for name, generation in self._now.generations.items()
            for partition in partitions
        }
        try:
            await vetting.look(self._now.era, claims)
        except StoreUnavailable:
            log.warning("the log cannot be asked what the read side rests on")
