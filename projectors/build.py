"""
Builds generations from the log beside the live ones, and swaps them in.

A build is the live fold with larger pages: the same members, the same checkpoints, the same transactions. So it goes
on where it was when it is killed, two builders of one generation cannot both write, and what it builds is what a
live projector would have built. It goes live when it has reached the live one, while that is held for a moment.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import asyncpg

from event_store.checkpoints import Checkpoints, Connection
from event_store.feed import LogFeed, until
from event_store.leases import RENEW_SECONDS, Leases, process_identity
from event_store.log import EventLog
from infra.failpoints import failpoint
from infra.sql import load_sql
from infra.telemetry import log as logger
from projectors.compare import Difference, first_difference
from projectors.decoding import Decoder
from projectors.generations import LOCK_SECONDS_MAX, Generation, GenerationBehind, Generations
from projectors.live import LiveMember
from projectors.projection import Projection, Row
from projectors.tables import Table, read_tables
from projectors.writing import Writer
from schemas.errors import Rejection, Unavailable
from schemas.registry import Registry

PAGE_EVENTS_MAX = 20_000
ROWS_REMEMBERED_MAX = 200_000
PARTITIONS_AT_ONCE = 2
HOLD_SECONDS_MAX = 3.0
SWAP_ATTEMPTS_MAX = 20
SWAP_PAUSE_SECONDS = 0.2

Goals = Mapping[int, int] | None
"""By partition the position to stop at; None: the head."""
Progress = Callable[[str, int, int], None]
"""Told a projection, a partition, and the position that it has reached."""


@dataclass(eq=False)
class BeingBuilt(Rejection):
    """Another process is building this projection."""

    projection: str


@dataclass(eq=False)
class NotSwapped(Unavailable):
    """The new generation could not be brought level with the live one; it is kept, and the next attempt goes on."""

    projection: str = ""


@dataclass(frozen=True)
class Built:
    """What became of a build."""

    projection: str
    version: int
    generation: int
    events: int
    seconds: float
    swapped: bool
    rows: int | None = None
    """How many rows were compared; None: nothing was to be compared with."""
    difference: Difference | None = None


@dataclass(frozen=True)
class Workshop:
    """What building needs."""

    log: EventLog
    registry: Registry
    generations: Generations
    checkpoints: Checkpoints


class Build:
    """One projection's new generation."""

    def __init__(
        self,
        shop: Workshop,
        kind: type[Projection[Row]],
        *,
        events_per_second_max: int | None = None,
        progress: Progress = lambda _projection, _partition, _position: None,
    ) -> None:
        self.kind = kind
        self._shop = shop
        self._rate = events_per_second_max
        self._progress = progress
        self._sql = partial(load_sql, "projectors", namespace=shop.checkpoints.namespace)
        self._members: dict[int, LiveMember] = {}
        self._tables: Mapping[str, Table] = {}
        self.events = 0

    async def run(self, *, verify: bool = False, even_behind: bool = False) -> Built:
        """
        Build, compare if asked to, and swap.

        Raises:
            BeingBuilt: Another process does it already.
            Held: An event is in the log that this program does not know.
            NotSwapped: It could not be brought level with the live generation.
        """
        started = time.monotonic()
        name = self.kind.name
        async with self._alone():
            await self._shop.generations.open_first(self.kind)
            live = (await self._shop.generations.live())[name]
            generation = await self._shop.generations.begin(self.kind)
            await self._open(generation)
            compares = verify and live.version == self.kind.version and not even_behind
            await self.advance(await self._positions(live.generation) if compares else None)
            failpoint("build.before_swap")
            rows, difference = None, None
            if compares:
                rows, difference = await self.compare(live.generation)
            if difference is None:
                await self.swap(generation, live.generation, even_behind=even_behind)
            else:
                await self._shop.generations.refuse(generation, "the live rows differ from their fold")
            failpoint("build.after_swap")
            await self._shop.generations.drop_old(name)
        seconds = time.monotonic() - started
        swapped = difference is None
        logger.info("generation built", projection=name, generation=generation.number, swapped=swapped)
        return Built(
            name, self.kind.version, generation.number, self.events, seconds, swapped, rows, difference
        )

    async def build_into(self, schema: str, goals: Goals) -> int:
        """Build into a schema of its own up to some positions, beside all generations; return the number of events."""
        tables = await read_tables(self._shop.checkpoints.pool, self.kind, schema)
        await self._open_members(0, tables, f"{schema}/{self.kind.name}")
        await self.advance(goals)
        return self.events

    async def bring_back(self, generation: Generation, live: int) -> None:
        """Bring an earlier generation of the same version up to date, and make it the live one again."""
        async with self._alone():
            await self._open(generation)
            await self.swap(generation, live)

    # -- folding ------------------------------------------------------------------------------------------

    async def advance(self, goals: Goals) -> None:
        """Fold up to some positions, or to the log's present end."""
        gate = asyncio.Semaphore(PARTITIONS_AT_ONCE)

        async def one(partition: int) -> None:
            async with gate:
                await self._advance_partition(partition, None if goals is None else goals.get(partition, 0))

        async with asyncio.TaskGroup() as tasks:
            for partition in self._shop.log.partitions:
                tasks.create_task(one(partition))

    async def _advance_partition(self, partition: int, goal: int | None) -> None:
        member = self._members[partition]
        feed = LogFeed(self._shop.log, partition, events_max=PAGE_EVENTS_MAX)
        try:
            while goal is None or member.checkpoint.mark.position < goal:
                started = time.monotonic()
                page = await feed.next(member.checkpoint.mark, wait_seconds=0)
                if goal is not None:
                    page = until(page, goal)
                if not page.events:
                    return
                failpoint("build.page")
                await member.take(page)
                self.events += len(page.events)
                self._progress(self.kind.name, partition, page.end.position)
                if self._rate:
                    await asyncio.sleep(
                        max(0.0, len(page.events) / self._rate - (time.monotonic() - started))
                    )
        finally:
            await feed.close()

    async def _open(self, generation: Generation) -> None:
        self._tables = await read_tables(self._shop.checkpoints.pool, self.kind, generation.schema)
        await self._open_members(generation.number, self._tables)

    async def _open_members(self, number: int, tables: Mapping[str, Table], side: str | None = None) -> None:
        writer = Writer(self.kind.name, number, tables, self._shop.checkpoints)
        for partition in self._shop.log.partitions:
            projection = self.kind()
            member = LiveMember(
                projection,
                number,
                partition,
                Decoder(self._shop.registry, [projection]),
                self._shop.checkpoints,
                writer,
                rows_max=ROWS_REMEMBERED_MAX,
            )
            if side is not None:
                member.checkpoint.kind, member.checkpoint.consumer = "side", side
            await self._shop.checkpoints.open([member.checkpoint])
            self._members[partition] = member

    async def _positions(self, generation: int) -> dict[int, int]:
        rows = await self._shop.checkpoints.pool.fetch(self._sql("sql/marks.sql"), self.kind.name, generation)
        return {row["partition"]: row["position"] for row in rows}

    # -- comparing and swapping ---------------------------------------------------------------------------

    async def compare(self, live: int) -> tuple[int, Difference | None]:
        """Compare with the live generation as it stands at one moment; it is held only until that moment is fixed."""
        pool = self._shop.checkpoints.pool
        schema = self._shop.generations.schema_of(self.kind.name, live)
        live_tables = await read_tables(pool, self.kind, schema)
        async with (
            pool.acquire() as snapshot,
            snapshot.transaction(isolation="repeatable_read", readonly=True),
        ):
            async with pool.acquire() as holder, holder.transaction():
                await self._level(holder, live)
                await snapshot.fetchval("SELECT count(*) FROM pg_catalog.pg_class LIMIT 1")
            return await first_difference(snapshot, live_tables, self._tables)

    async def swap(self, generation: Generation, live: int, *, even_behind: bool = False) -> None:
        """
        Bring the generation level with the live one and make it the live one.

        Raises:
            NotSwapped: That did not succeed within the attempts.
        """
        for _ in range(SWAP_ATTEMPTS_MAX):
            await self.advance(None)
            try:
                async with self._shop.checkpoints.pool.acquire() as connection, connection.transaction():
                    if not even_behind:
                        await self._level(connection, live)
                    await self._shop.generations.swap(
                        connection, self.kind.name, generation.number, even_behind=even_behind
                    )
            except (TimeoutError, GenerationBehind, asyncpg.LockNotAvailableError) as error:
                logger.info("not swapped yet", projection=self.kind.name, error=repr(error))
                await asyncio.sleep(SWAP_PAUSE_SECONDS)
            else:
                await self._shop.generations.announce(self.kind.name)
                return
        raise NotSwapped(self.kind.name)

    async def _level(self, holder: Connection, live: int) -> None:
        """Hold the live generation in the holder's transaction, and reach it."""
        await holder.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS_MAX}s'")
        rows = await holder.fetch(self._sql("sql/hold.sql"), self.kind.name, live)
        goals = {row["partition"]: row["position"] for row in rows}
        async with asyncio.timeout(HOLD_SECONDS_MAX):
            await self.advance(goals)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Keep other processes from building the same projection meanwhile."""
        checkpoints = self._shop.checkpoints
        leases = Leases(
            checkpoints.pool, checkpoints.namespace, f"build/{self.kind.name}", [0], holder=process_identity()
        )
        held, _ = await leases.renew()
        if not held:
            await leases.leave()
            raise BeingBuilt(self.kind.name)

        async def keep() -> None:
            while True:
                await asyncio.sleep(RENEW_SECONDS)
                await leases.renew()

        keeping = asyncio.create_task(keep(), name=f"lease of build {self.kind.name}")
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await leases.leave()
