"""
Looks for rows that are not what the log says, all the time and by little steps, and puts them right.

The rows of a projection in a partition are cut into slices by a hash of their keys. A slice is folded from the log,
with pauses, and compared with the live rows in one snapshot of the database; the slice that was looked at longest ago
comes first. So every row is compared once in `EVERFOLD_DRIFT_SWEEP_SECONDS`, as far as that can be done with the share
of a processor that is given to it: that, and what one slice takes, is the bound within which a changed row is found.
Each process looks at the partitions that it holds. What cannot be folded is parked, and no drift.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import md5
from typing import NamedTuple

from event_store.checkpoints import Connection
from event_store.consumer import Held
from event_store.failures import NO_REPLY
from event_store.feed import LogFeed, until
from infra.sql import load_sql
from infra.telemetry import Counter, Gauge
from infra.telemetry import log as logger
from infra.waiting import keep_at
from projectors.compare import Difference
from projectors.decoding import Decoder
from projectors.folding import Folding, Place
from projectors.generations import Live
from projectors.mend import mender_of
from projectors.projection import Projection, Row
from projectors.read_side import ReadSide
from projectors.row_fold import RowFold
from projectors.tables import Table
from projectors.verify import Check, begin_tenant, compare, open_check, tenants_of
from projectors.writing import Writer, encode_key
from schemas.envelope import BEGINNING, CommitMark
from schemas.errors import EpochChanged, Unavailable

SLICE_ROWS = 10_000
"""About so many rows are folded at a time: what is in memory."""
DUTY = 0.1
"""The share of a processor that folding for this takes."""
PAGE_EVENTS_MAX = 2_000
MENDED_MAX = 20
"""If more rows of a slice differ the others are left: their projection needs a replay, and somebody's attention."""
IDLE_SECONDS_MAX = 60.0
RETRY_SECONDS = 5.0
HASH_BITS = 28
AWAY = (Unavailable, EpochChanged, Held, *NO_REPLY)

COMPARED = Counter("everfold_drift_rows_total", "Rows compared with their fold", ["projection"])
DIFFERED = Counter("everfold_drift_differences_total", "Rows that differed from their fold", ["projection"])
OLDEST = Gauge("everfold_drift_oldest_check_seconds", "Time since the slice that waits longest was compared")


@dataclass(frozen=True)
class Slice:
    """Some of a projection's rows, by a hash of their keys: what SQL and Python agree about."""

    number: int
    of: int

    def __contains__(self, place: object) -> bool:
        assert isinstance(place, Place)
        text = "\x1f".join((place.table, place.tenant, *place.key))
        return int(md5(text.encode(), usedforsecurity=False).hexdigest()[:7], 16) % self.of == self.number

    def where(self, table: Table) -> str:
        """Return the same as a condition on a table's rows."""
        columns = ", ".join(f'"{name}"' for name in ("tenant", *table.key))
        text = f"concat_ws(E'\\x1f', '{table.name}', {columns})"
        return f"('x' || substr(md5({text}), 1, 7))::bit({HASH_BITS})::integer % {self.of} = {self.number}"


class Unit(NamedTuple):
    """What is compared at a time."""

    projection: str
    generation: int
    partition: int
    slice: Slice


@dataclass
class Drift:
    """What a look at a unit has found."""

    unit: Unit
    rows: int
    differences: Sequence[Difference]
    seconds: float
    mended: int = 0


class DriftDetector:
    """Compares the live rows of the partitions that a process holds, again and again."""

    def __init__(
        self,
        side: ReadSide,
        partitions: Callable[[], Sequence[int]],
        *,
        sweep_seconds: float,
        slice_rows: int = SLICE_ROWS,
        duty: float = DUTY,
    ) -> None:
        self._side = side
        self._partitions = partitions
        self._sweep_seconds = sweep_seconds
        self._slice_rows = slice_rows
        self._duty = duty
        self._sql = partial(load_sql, "projectors", namespace=side.settings.namespace)

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop`."""
        await keep_at(self._step, stop, what="looking for drift", retry_seconds=RETRY_SECONDS, passing=AWAY)

    async def _step(self) -> float:
        """Look at the unit that waits longest; return for how long to rest."""
        started = time.monotonic()
        units = await self._units()
        if not units:
            return RETRY_SECONDS
        pace = self._sweep_seconds / len(units)
        age, unit = units[0]
        OLDEST.set(age)
        if age < self._sweep_seconds - pace:  # all were looked at not long ago
            return min(self._sweep_seconds - pace - age, IDLE_SECONDS_MAX)
        await self.look(unit)
        return max(0.0, min(pace - (time.monotonic() - started), IDLE_SECONDS_MAX))

    async def _units(self) -> list[tuple[float, Unit]]:
        """Return what this process is to look at, with how long ago it was; what waits longest comes first."""
        side, held = self._side, list(self._partitions())
        live = await side.generations.live()
        names = [
            name for name, kind in side.kinds.items() if name in live and live[name].version == kind.version
        ]
        rows = await side.pool.fetch(self._sql("sql/drift_ages.sql"), names, held)
        rows_of: dict[tuple[str, int], int] = {}
        for row in rows:
            place = row["projection"], row["partition"]
            rows_of[place] = rows_of.get(place, 0) + row["rows"]
        ages = {(row["projection"], row["generation"], row["partition"], row["slice"], row["slices"]): row["age"]
                for row in rows}  # fmt: skip
        units = []
        for name in names:
            schema = side.generations.schema_of(name, live[name].generation)
            estimated = await side.pool.fetchval(self._sql("sql/rows_estimated.sql"), schema)
            average = max(0, estimated or 0) / len(side.log.partitions)
            for part in held:
                slices = slices_for(max(average, rows_of.get((name, part), 0)), self._slice_rows)
                for number in range(slices):
                    age = ages.get((name, live[name].generation, part, number, slices))
                    unit = Unit(name, live[name].generation, part, Slice(number, slices))
                    units.append((float("inf") if age is None else age, unit))
        random.shuffle(
            units
        )  # those that were never looked at come in no order that somebody could reckon with
        units.sort(key=lambda one: -one[0])
        return [(min(age, self._sweep_seconds), unit) for age, unit in units]

    async def look(self, unit: Unit) -> Drift | None:
        """Compare a unit's rows with their fold, mend those that differ, and note what was found."""
        started = time.monotonic()
        kind = self._side.kinds[unit.projection]
        live = (await self._side.generations.live())[unit.projection]
        if live.generation != unit.generation:
            return None
        found: list[Difference] = []
        folding, mark, rows = await self._compared(kind, live, unit, found.append)
        drift = Drift(unit, rows, found, time.monotonic() - started)
        COMPARED.labels(unit.projection).inc(rows)
        if found:
            DIFFERED.labels(unit.projection).inc(len(found))
            await self._mend(kind, drift, folding, mark)
        await self._side.pool.execute(
            self._sql("sql/drift_checked.sql"),
            unit.projection, unit.generation, unit.partition, unit.slice.number, unit.slice.of,
            rows, drift.seconds, len(found),
        )  # fmt: skip
        return drift

    async def _compared(
        self, kind: type[Projection[Row]], live: Live, unit: Unit, found: Callable[[Difference], None]
    ) -> tuple[Folding, CommitMark, int]:
        side, pool = self._side, self._side.pool
        projection = kind()
        moved = await side.log.moved_tenants(unit.partition)
        folding = Folding(projection, complete=True, only=unit.slice, leaves_out=moved)
        fold = _Fold(self._side, projection, folding, unit.partition)
        marks = await pool.fetch(self._sql("sql/marks.sql"), kind.name, live.generation)
        goal = next((row["position"] for row in marks if row["partition"] == unit.partition), 0)
        try:
            writer = Writer(kind.name, live.generation, {}, side.checkpoints)
            _, folding.skipped = await writer.read_standing(unit.partition)
            await fold.until(goal, duty=self._duty)
            async with (
                pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                check = await open_check(side, connection, kind, live)
                check.sample, check.where, check.found = unit.slice, unit.slice.where, found
                parked, skipped = await check.writer.read_standing_in(connection, unit.partition)
                # An operator has decided something meanwhile, or a tenant has moved: the next look knows it.
                if skipped == folding.skipped and await side.log.moved_tenants(unit.partition) == moved:
                    await fold.until(check.marks.get(unit.partition, BEGINNING).position, duty=1.0)
                    here = await tenants_of(side, check, unit.partition, moved)
                    await compare(connection, check, here, folding, parked | folding.parked)
                    for tenant in sorted(moved):
                        await self._compare_moved(connection, check, unit, tenant)
        finally:
            await fold.close()
        return folding, fold.mark, check.report.rows

    async def _compare_moved(self, connection: Connection, check: Check, unit: Unit, tenant: str) -> None:
        """Compare the rows of a tenant that has moved: with the partition that it lived in first."""
        fold = await begin_tenant(self._side, connection, check, tenant)
        if next(iter(fold.residences)).partition == unit.partition:
            await fold.on(self._side, {part: mark.position for part, mark in check.marks.items()})
            await compare(connection, check, {tenant}, fold.folding, fold.parked | fold.folding.parked)

    async def _mend(
        self, kind: type[Projection[Row]], drift: Drift, folding: Folding, mark: CommitMark
    ) -> None:
        mender = await mender_of(self._side, kind)
        unit = drift.unit
        for number, one in enumerate(drift.differences):
            place = Place(one.table, one.tenant, one.key)
            what = "missing" if one.live is None else "extra" if one.expected is None else "differs"
            mended = "not mended: too many rows differ, replay the projection"
            if number < MENDED_MAX:
                known = _row_fold(kind, place, folding, unit.partition, mark)
                mended = await mender.mend(place, None if one.tenant in folding.leaves_out else known)
                drift.mended += mended.startswith("folded")
            logger.error(
                "row is not what the log says", projection=kind.name, partition=unit.partition, table=one.table,
                tenant=one.tenant, key=list(one.key), what=what, mended=mended,
            )  # fmt: skip
            if number < MENDED_MAX:
                await self._side.pool.execute(
                    self._sql("sql/drift_found.sql"), unit.projection, unit.generation, unit.partition, one.tenant,
                    one.table, encode_key(one.key), what, mended.startswith("folded"),
                )  # fmt: skip


class _Fold:
    """Folds a partition's events into the rows of a slice, with pauses."""

    def __init__(self, side: ReadSide, projection: Projection[Row], folding: Folding, part: int) -> None:
        self.mark = BEGINNING
        self._folding = folding
        self._decoder = Decoder(side.registry, [projection])
        self._feed = LogFeed(side.opened, part, events_max=PAGE_EVENTS_MAX)

    async def until(self, position: int, *, duty: float) -> None:
        """
        Fold up to a position, and rest as long as the share of time says.

        Raises:
            Held: An event is in it that this program does not know.
        """
        while self.mark.position < position:
            page = until(await self._feed.next(self.mark, wait_seconds=0), position)
            started = time.monotonic()
            decoded = self._decoder.decode(page)
            if decoded.held is not None:
                raise Held(self._folding.projection.name, page.partition, *decoded.held)
            self._folding.fold(self._folding.plan(decoded.events))
            self.mark = page.end
            await asyncio.sleep((time.monotonic() - started) * (1 / duty - 1))

    async def close(self) -> None:
        """Let go of the feed."""
        await self._feed.close()


def _row_fold(
    kind: type[Projection[Row]], place: Place, folding: Folding, partition: int, mark: CommitMark
) -> RowFold:
    """Return what a slice's fold knows of one row, to be gone on with."""
    one = Folding(kind(), complete=True, only=(place,))
    if place in folding.rows:
        one.rows[place] = folding.rows[place]
        one.changes[place] = folding.changes[place]
    return RowFold(place, one, {partition: mark})


def slices_for(rows: float, rows_max: int) -> int:
    """Return into how many slices so many rows are cut: a power of two, so that it seldom changes."""
    slices = 1
    while rows / slices > rows_max:
        slices *= 2
    return slices
