"""
Folds the log in memory and compares every live row with it, all at one moment of the read tables.

The moment is a snapshot of the database: its checkpoints say up to where to fold, its rows what there is. Nothing is
held up. One partition's rows are in memory at a time; tenants that have lived in several are folded by themselves.
"""

import random
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from event_store.checkpoints import Connection
from event_store.consumer import Held
from event_store.feed import LogFeed, until
from event_store.residences import Residences
from infra.sql import load_sql
from projectors.compare import Difference
from projectors.decoding import Decoder
from projectors.folding import Folding, Place
from projectors.generations import Live
from projectors.moved import moved_tenants, residences_for
from projectors.projection import Projection, Row
from projectors.read_side import ReadSide
from projectors.row_fold import Skipped, fold_tenant
from projectors.tables import Table, read_tables
from projectors.writing import Writer, changes_of
from schemas.envelope import CommitMark

PAGE_EVENTS_MAX = 10_000
ROWS_FETCHED = 1_000

Progress = Callable[[str, int], None]
"""Told a projection and how many events of it have been folded since the last time."""


@dataclass
class ProjectionReport:
    """What a check of one projection found."""

    name: str
    rows: int = 0
    equal: bool = True
    first_difference: Difference | None = None
    reason: str | None = None

    def document(self) -> dict[str, Any]:
        """Return the report as `verify --json` prints it."""
        difference: Any = self.first_difference.document() if self.first_difference else self.reason
        return {"name": self.name, "rows": self.rows, "equal": self.equal, "first_difference": difference}


@dataclass
class Check:
    """One projection under check, in one snapshot."""

    kind: type[Projection[Row]]
    live: Live
    tables: Mapping[str, Table]
    writer: Writer
    marks: dict[int, CommitMark]
    tenants: dict[str, list[str]]
    """By table."""
    report: ProjectionReport
    sample: Container[Place] | None = field(default=None)
    where: Callable[[Table], str] = lambda _table: "true"
    """What holds for the rows of the sample, as SQL; more may come, and are left out."""
    found: Callable[[Difference], None] = lambda _difference: None


async def verify_projections(
    side: ReadSide,
    names: Sequence[str] = (),
    *,
    sample: int | None = None,
    seed: int = 0,
    progress: Progress = lambda _name, _events: None,
) -> list[ProjectionReport]:
    """Compare live rows with their fold; with `sample` so many rows of each table, chosen by chance."""
    reports = []
    live = await side.generations.live()
    for name in names or sorted(side.kinds):
        if name not in live:
            continue
        async with (
            side.pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            check = await open_check(side, connection, side.kinds[name], live[name])
            if check.report.reason is None:
                if sample is not None:
                    check.sample = await _choose(connection, check, sample, random.Random(seed))
                moved = await moved_tenants(side.log, side.log.partitions)
                for partition in side.log.partitions:
                    if check.report.equal:
                        await _check_partition(side, connection, check, partition, moved, progress)
                for tenant in sorted(moved):
                    if check.report.equal:
                        await _check_tenant(side, connection, check, tenant, progress)
            reports.append(check.report)
    return reports


async def open_check(
    side: ReadSide, connection: Connection, kind: type[Projection[Row]], live: Live
) -> Check:
    """Return a check of a live generation in a connection's snapshot."""
    sql = partial(load_sql, "projectors", namespace=side.settings.namespace)
    rows = await connection.fetch(sql("sql/marks.sql"), kind.name, live.generation)
    marks = {row["partition"]: CommitMark(row["position"], row["commit_hash"]) for row in rows}
    tables = await read_tables(connection, kind, side.generations.schema_of(kind.name, live.generation))
    report = ProjectionReport(kind.name)
    if live.version != kind.version:
        report.equal = False
        report.reason = (
            f"the live generation is of version {live.version}, this program folds version {kind.version}"
        )
    tenants = {
        name: [row[0] for row in await connection.fetch(f"SELECT DISTINCT tenant FROM {table.full_name}")]
        for name, table in tables.items()
    }
    writer = Writer(kind.name, live.generation, tables, side.checkpoints)
    return Check(kind, live, tables, writer, marks, tenants, report)


async def _choose(connection: Connection, check: Check, sample: int, chance: random.Random) -> set[Place]:
    chosen: set[Place] = set()
    for name, table in check.tables.items():
        keys = ", ".join(f'"{column}"' for column in ("tenant", *table.key))
        rows = await connection.fetch(
            f"SELECT {keys} FROM {table.full_name} ORDER BY hashtextextended(concat_ws('/', {keys}), $1) LIMIT $2",
            chance.getrandbits(31),
            sample,
        )
        chosen |= {Place(name, row[0], tuple(row)[1:]) for row in rows}
    return chosen


async def _check_partition(
    side: ReadSide,
    connection: Connection,
    check: Check,
    partition: int,
    moved: Collection[str],
    progress: Progress,
) -> None:
    projection = check.kind()
    folding = Folding(projection, complete=True, leaves_out=moved)
    parked, folding.skipped = await check.writer.read_standing(partition)
    decoder = Decoder(side.registry, [projection])
    goal = check.marks.get(partition, CommitMark(0, bytes(32)))
    mark = CommitMark(0, bytes(32))
    feed = LogFeed(side.opened, partition, events_max=PAGE_EVENTS_MAX)
    try:
        while mark.position < goal.position:
            page = until(await feed.next(mark, wait_seconds=0), goal.position)
            decoded = decoder.decode(page)
            if decoded.held is not None:
                raise Held(check.kind.name, partition, *decoded.held)
            steps = folding.plan(decoded.events)
            if check.sample is not None:
                steps = [step for step in steps if step[0] in check.sample]
            folding.fold(steps)
            mark = page.end
            progress(check.kind.name, len(page.events))
    finally:
        await feed.close()
    here = await tenants_of(side, check, partition, moved)
    await compare(connection, check, here, folding, parked | folding.parked)


async def _check_tenant(
    side: ReadSide, connection: Connection, check: Check, tenant: str, progress: Progress
) -> None:
    fold = await begin_tenant(side, connection, check, tenant)
    progress(
        check.kind.name, await fold.on(side, {part: mark.position for part, mark in check.marks.items()})
    )
    await compare(connection, check, {tenant}, fold.folding, fold.parked | fold.folding.parked)


@dataclass
class TenantFold:
    """A tenant that has moved, folded over all partitions that it has lived in."""

    folding: Folding
    residences: Residences
    parked: set[Place]
    skipped: Skipped
    marks: dict[int, CommitMark] = field(default_factory=dict)

    async def on(self, side: ReadSide, positions: Mapping[int, int]) -> int:
        """
        Fold on up to some positions, by partition; return how many steps it took.

        Raises:
            Held: An event is in it that this program does not know.
        """
        return await fold_tenant(
            side.opened, side.registry, self.folding, self.residences, self.marks, positions, self.skipped
        )


async def begin_tenant(side: ReadSide, connection: Connection, check: Check, tenant: str) -> TenantFold:
    """Return the fold of a tenant that has moved, with nothing in it yet, as a snapshot knows the tenant."""
    residences = await residences_for(
        side.log, connection, side.settings.namespace, check.kind.name, check.live.generation, tenant
    )
    skipped: dict[int, set[tuple[int, Place]]] = {}
    parked: set[Place] = set()
    for stay in residences:
        parked, skipped[stay.partition] = await check.writer.read_standing_in(connection, stay.partition)
    return TenantFold(Folding(check.kind(), complete=True, only=check.sample), residences, parked, skipped)


async def tenants_of(side: ReadSide, check: Check, partition: int, moved: Collection[str]) -> Collection[str]:
    """Return the tenants with rows that live in a partition, and have lived nowhere else."""
    tenants = {tenant for some in check.tenants.values() for tenant in some} - set(moved)
    return {
        tenant for tenant in tenants if (await side.log.residences_of(tenant)).present.partition == partition
    }


async def compare(
    connection: Connection, check: Check, here: Collection[str], folding: Folding, parked: set[Place]
) -> None:
    """Take every live row of some tenants off what is expected; what is left over is missing."""
    for name, changes in changes_of(folding, check.tables).items():
        table = check.tables[name]
        expected = {
            written[0]: (written[2], values)
            for written, values in zip(changes.written, table.comparable_rows(changes.written), strict=True)
        }
        async for row in connection.cursor(
            f"SELECT {table.as_written} FROM {table.full_name} WHERE tenant = ANY ($1) AND {check.where(table)}",
            [tenant for tenant in check.tenants[name] if tenant in here],
            prefetch=ROWS_FETCHED,
        ):
            place = _place(table, row)
            if place in parked or (check.sample is not None and place not in check.sample):
                continue
            check.report.rows += 1
            document, values = expected.pop(place, (None, None))
            if values is None or tuple(row) != values:
                _differs(check, Difference(name, place.tenant, place.key, row["doc"], document))
        for place, (document, _) in expected.items():
            if place not in parked:
                _differs(check, Difference(name, place.tenant, place.key, None, document))


def _place(table: Table, row: Any) -> Place:
    return Place(table.name, row["tenant"], tuple(row[name] for name in table.key))


def _differs(check: Check, difference: Difference) -> None:
    first = check.report.first_difference
    check.report.equal = False
    check.found(difference)
    if first is None or difference[:3] < first[:3]:
        check.report.first_difference = difference
