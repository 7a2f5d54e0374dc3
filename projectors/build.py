"""
Builds generations from the log beside the live ones, and swaps them in.

A build is the live fold with larger pages: the same folds, the same checkpoints, one transaction for rows and
checkpoint. So it goes on where it was when it is killed, two builders of one generation cannot both write, and what it
builds is what a live projector would have built. Long stretches are folded in memory and copied in (`bulk.py`), what
is left by the live members. It goes live when it has reached the live one, while that is held for a moment.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import asyncpg

from event_store.checkpoints import Checkpoints, Connection
from event_store.consumer import AtFence
from event_store.feed import LogFeed, until
from event_store.leases import RENEW_SECONDS, Leases, process_identity
from event_store.log import EventLog, Page
from infra.failpoints import failpoint
from infra.sql import load_sql
from infra.telemetry import log as logger
from projectors.bulk import BulkFold, Refused
from projectors.compare import Difference, first_difference
from projectors.decoding import Decoder
from projectors.folding import Folding, Place
from projectors.generations import LOCK_SECONDS_MAX, Generation, GenerationBehind, Generations
from projectors.live import LiveMember
from projectors.projection import Projection, Row
from projectors.row_fold import RowFold
from projectors.tables import Table, read_tables
from projectors.throttle import Throttle
from projectors.writing import Writer
from schemas.errors import Rejection, Unavailable
from schemas.registry import Registry

PAGE_EVENTS_MAX = 20_000
POSITION_MAX = 2**63 - 1
ROWS_REMEMBERED_MAX = 10_000
BULK_EVENTS_MIN = 2_000
"""A stretch that is shorter is left to the live members, which write page by page."""
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
class GenerationVoid(Rejection):
    """The generation rests on events that the log has lost; build a new one with `everfold replay`."""

    projection: str
    generation: int


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


class Stretch(NamedTuple):
    """A partition of a generation, to be folded in bulk up to a position."""

    projection: str
    generation: int
    schema: str
    side: str | None
    partition: int
    goal: int
    events_per_second_max: int | None


class Workers(Protocol):
    """Other processes that take stretches off a build; see build_workers.py."""

    number: int

    async def fold(self, stretch: Stretch, reached: Callable[[int], None]) -> int:
        """Fold a stretch; return how many events that took."""
        ...


class Build:
    """One projection's new generation."""

    def __init__(
        self,
        shop: Workshop,
        kind: type[Projection[Row]],
        *,
        events_per_second_max: int | None = None,
        progress: Progress = lambda _projection, _partition, _position: None,
        workers: Workers | None = None,
    ) -> None:
        self.kind = kind
        self._shop = shop
        self._events_per_second_max = events_per_second_max
        self._throttle = Throttle(events_per_second_max)
        self._progress = progress
        self._workers = workers
        self._sql = partial(load_sql, "projectors", namespace=shop.checkpoints.namespace)
        self._members: dict[int, LiveMember] = {}
        self._tables: Mapping[str, Table] = {}
        self._schema = ""
        self._side: str | None = None
        self._writer: Writer | None = None
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
            generation = await self._begin()
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
        await self._open_members(0, schema, f"{schema}/{self.kind.name}")
        await self.advance(goals)
        return self.events

    async def bring_back(self, generation: Generation, live: int) -> None:
        """
        Bring an earlier generation of the same version up to date, and make it the live one again.

        Raises:
            GenerationVoid: The log has lost events that it rests on.
        """
        async with self._alone():
            await self._open(generation)
            if not await self._rests_on_the_log():
                raise GenerationVoid(generation.projection, generation.number)
            await self.swap(generation, live)

    async def _begin(self) -> Generation:
        """Take up what an earlier build left behind, unless the log has lost what it rests on, or begin anew."""
        while True:
            generation = await self._shop.generations.begin(self.kind)
            await self._open(generation)
            if await self._rests_on_the_log():
                return generation
            await self._shop.generations.refuse(generation, "the log has lost events that it rests on")

    async def _rests_on_the_log(self) -> bool:
        """Say whether the log has the commits that the generation's checkpoints name."""
        for partition, member in self._members.items():
            mark = member.checkpoint.mark
            commit = await self._shop.log.commit_of(partition, mark.position) if mark.position else None
            if mark.position and (commit is None or commit.mark != mark):
                return False
        return True

    # -- folding ------------------------------------------------------------------------------------------

    async def advance(self, goals: Goals, *, is_held: bool = False) -> None:
        """
        Fold up to some positions, or to the log's present end; at full speed while the live one is held.

        A partition in which a tenant arrives is gone on with when the one that it left has been folded up to there.

        Raises:
            AtFence: That is beyond the position up to which the other partition is to be folded.
        """
        gate = asyncio.Semaphore(
            max(PARTITIONS_AT_ONCE, self._workers.number) if self._workers else PARTITIONS_AT_ONCE
        )
        heads = (
            {} if is_held else {part: mark.position for part, mark in (await self._shop.log.heads()).items()}
        )
        bulk = {
            partition
            for partition, member in self._members.items()
            if min(heads.get(partition, 0), self._goal(goals, partition)) - member.checkpoint.mark.position
            >= BULK_EVENTS_MIN
        }

        waiting: dict[int, AtFence] = {}

        async def one(partition: int) -> None:
            async with gate:
                goal = None if goals is None else goals.get(partition, 0)
                throttle = self._throttle if not is_held else Throttle(None)
                try:
                    if partition in bulk:
                        end = min(heads[partition], self._goal(goals, partition))
                        if self._workers is not None:
                            await self._advance_by(self._workers, partition, end)
                        await self._advance_in_bulk(partition, end)
                    await self._advance_partition(partition, goal, throttle)
                except AtFence as fence:
                    waiting[partition] = fence

        try:
            async with self._open_to_builder(is_needed=bool(bulk)):
                due: Collection[int] = self._shop.log.partitions
                while due:
                    before = self._reached()
                    async with asyncio.TaskGroup() as tasks:
                        for partition in due:
                            tasks.create_task(one(partition))
                    if waiting and self._reached() == before:
                        raise next(iter(waiting.values()))
                    due, waiting = list(waiting), {}
        except ExceptionGroup as group:  # callers know the error, not how many partitions met it
            raise group.exceptions[0] from group

    def _reached(self) -> Mapping[int, int]:
        return {partition: member.checkpoint.mark.position for partition, member in self._members.items()}

    @staticmethod
    def _goal(goals: Goals, partition: int) -> int:
        return POSITION_MAX if goals is None else goals.get(partition, 0)

    @asynccontextmanager
    async def _open_to_builder(self, *, is_needed: bool) -> AsyncIterator[None]:
        if not is_needed:
            yield
            return
        generations, tables = self._shop.generations, list(self._tables)
        await generations.open_to_builder(self._schema, tables, is_open=True)
        try:
            yield
        finally:
            await generations.open_to_builder(self._schema, tables, is_open=False)

    async def fold_stretch(self, stretch: Stretch) -> int:
        """Fold a stretch of another process's build; return the number of events."""
        await self._open_members(stretch.generation, stretch.schema, stretch.side, [stretch.partition])
        with suppress(AtFence):  # the build itself knows when it may go on
            await self._advance_in_bulk(stretch.partition, stretch.goal)
        return self.events

    async def _advance_by(self, workers: Workers, partition: int, goal: int) -> None:
        """Have a worker fold in bulk; what it leaves undone, whatever the reason, is left to this process."""
        checkpoint, limit = self._members[partition].checkpoint, self._events_per_second_max
        stretch = Stretch(
            self.kind.name, checkpoint.generation, self._schema, self._side, partition, goal,
            None if limit is None else max(1, limit // workers.number),
        )  # fmt: skip
        try:
            await workers.fold(stretch, partial(self._progress, self.kind.name, partition))
        except Exception as error:
            logger.warning("stretch not folded by a worker", stretch=stretch, error=repr(error))
        before = checkpoint.mark.position
        await self._shop.checkpoints.open([checkpoint])
        self.events += checkpoint.mark.position - before
        self._progress(self.kind.name, partition, checkpoint.mark.position)

    async def _advance_in_bulk(self, partition: int, goal: int) -> None:
        """Fold in bulk; one page where a tenant arrives is left to the live member, which knows when it may go on."""
        member = self._members[partition]
        while True:
            bulk = self._bulk_fold(member)
            try:
                if await self._fold_in_bulk(bulk, partition, goal):
                    return
                member.forget()
                await self._advance_partition(partition, goal, self._throttle, pages_max=1)
            except Refused as refused:
                await self._advance_partition(partition, refused.mark.position, self._throttle)
            finally:
                member.forget()  # its rows are the tables' no more

    async def _fold_in_bulk(self, bulk: BulkFold, partition: int, goal: int) -> bool:
        """Fold up to a goal, and say that it is reached; or up to where a tenant arrives."""
        feed = LogFeed(self._shop.log, partition, events_max=PAGE_EVENTS_MAX)
        page: Page | None = None
        try:
            while bulk.mark.position < goal:
                page = until(await feed.next(bulk.mark, wait_seconds=0), goal)
                if not page.events or page.arrival is not None:
                    break
                await bulk.take(page)
                self._count(partition, page)
                await self._throttle.took(len(page.events))
            await bulk.write()
            return page is None or page.arrival is None
        finally:
            await feed.close()

    def _bulk_fold(self, member: LiveMember) -> BulkFold:
        assert self._writer is not None
        projection = self.kind()
        decoder = Decoder(self._shop.registry, [projection])
        return BulkFold(
            projection, member.checkpoint, decoder, self._shop.checkpoints, self._writer, self._tables
        )

    async def _advance_partition(
        self, partition: int, goal: int | None, throttle: Throttle, *, pages_max: int | None = None
    ) -> None:
        member, pages = self._members[partition], 0
        feed = LogFeed(self._shop.log, partition, events_max=PAGE_EVENTS_MAX)
        try:
            while (goal is None or member.checkpoint.mark.position < goal) and pages != pages_max:
                page = await feed.next(member.checkpoint.mark, wait_seconds=0)
                if goal is not None:
                    page = until(page, goal)
                if not page.events:
                    return
                failpoint("build.page")
                await member.step(page, fence_seconds=0.0)
                pages += 1
                self._count(partition, page)
                await throttle.took(len(page.events))
        finally:
            await feed.close()

    def _count(self, partition: int, page: Page) -> None:
        self.events += len(page.events)
        self._progress(self.kind.name, partition, page.end.position)

    async def _open(self, generation: Generation) -> None:
        await self._open_members(generation.number, generation.schema)

    async def _open_members(
        self, number: int, schema: str, side: str | None = None, partitions: Sequence[int] | None = None
    ) -> None:
        self._schema, self._side = schema, side
        self._tables = await read_tables(self._shop.checkpoints.pool, self.kind, schema)
        writer = self._writer = Writer(self.kind.name, number, self._tables, self._shop.checkpoints)
        for partition in self._shop.log.partitions if partitions is None else partitions:
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
            self._progress(self.kind.name, partition, member.checkpoint.mark.position)

    async def _positions(self, generation: int) -> dict[int, int]:
        rows = await self._shop.checkpoints.pool.fetch(self._sql("sql/marks.sql"), self.kind.name, generation)
        return {row["partition"]: row["position"] for row in rows}

    # -- comparing and swapping ---------------------------------------------------------------------------

    async def compare(self, live: int) -> tuple[int, Difference | None]:
        """
        Compare with the live generation as it stands at one moment; it is held only until that moment is fixed.

        Of the first row that differs it is said, too, what a fold of the log in memory makes of it.
        """
        pool = self._shop.checkpoints.pool
        schema = self._shop.generations.schema_of(self.kind.name, live)
        live_tables = await read_tables(pool, self.kind, schema)
        async with (
            pool.acquire() as snapshot,
            snapshot.transaction(isolation="repeatable_read", readonly=True),
        ):
            async with pool.acquire() as holder, holder.transaction():
                goals = await self._level(holder, live)
                await snapshot.fetchval("SELECT count(*) FROM pg_catalog.pg_class LIMIT 1")
            rows, found = await first_difference(snapshot, live_tables, self._tables)
        return rows, found and found._replace(expected=await self._expected(found, goals))

    async def _expected(self, found: Difference, goals: Mapping[int, int]) -> bytes | None:
        assert self._writer is not None
        place = Place(found.table, found.tenant, found.key)
        residences = await self._shop.log.residences_of(found.tenant)
        skipped = {
            stay.partition: (await self._writer.read_standing(stay.partition))[1] for stay in residences
        }
        fold = RowFold(place, Folding(self.kind(), complete=True, only=(place,)))
        await fold.on(self._shop.log, self._shop.registry, residences, goals, skipped)
        return None if fold.row is None else fold.row.encode()

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

    async def _level(self, holder: Connection, live: int) -> Mapping[int, int]:
        """Hold the live generation in the holder's transaction, and reach it; return where it stands."""
        await holder.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS_MAX}s'")
        rows = await holder.fetch(self._sql("sql/hold.sql"), self.kind.name, live)
        goals = {row["partition"]: row["position"] for row in rows}
        async with asyncio.timeout(HOLD_SECONDS_MAX):
            await self.advance(goals, is_held=True)
        return goals

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
