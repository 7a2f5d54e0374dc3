"""
Finds what was made of a person's data, and makes it anew now that the data cannot be read.

Rows are folded again from the log, so they are what a rebuild would make of them. While they are written the generation
is held and its revision raised: whoever has rows or events in hand from before commits nothing of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from event_store.feed import LogFeed, until
from event_store.log import Page
from event_store.residences import Residences
from event_store.sealed_log import opened_events, place_of
from event_store.sealing import Sealable, subjects_in
from event_store.subject_keys import Subject
from infra.failpoints import failpoint
from infra.sql import load_sql
from projectors.decoding import Decoder
from projectors.folding import Folding, Place
from projectors.generations import Generation
from projectors.moved import residences_for
from projectors.projection import Projection, Row
from projectors.read_side import ReadSide
from projectors.row_fold import fold_tenant
from projectors.tables import read_tables
from projectors.writing import Writer, changes_of
from schemas.envelope import BEGINNING, CommitMark, RecordedEvent
from schemas.errors import Rejection, StoreUnavailable

PAGE_EVENTS_MAX = 10_000

Progress = Callable[[int, int], None]
"""Told up to which position the log has been looked through, and where it ends."""


@dataclass(eq=False)
class OtherVersionLives(Rejection):
    """The live generation is of another version than this program folds: erase with the program that folds it."""

    projection: str
    live_version: int
    own_version: int


@dataclass(frozen=True)
class Traces:
    """Where a person's data stands in the log."""

    subject: Subject
    residences: Residences
    """The tenant's."""
    events: Sequence[RecordedEvent]
    """As they are stored."""

    @property
    def partitions(self) -> Sequence[int]:
        """Where the tenant lives and has lived, in the order of its history."""
        return [stay.partition for stay in self.residences]

    @property
    def streams(self) -> Sequence[str]:
        """The streams that hold some of it."""
        return sorted({event.stream for event in self.events})


@dataclass(frozen=True)
class Scrubbed:
    """What became of one generation's rows."""

    generation: Generation
    kind: type[Projection[Row]] | None
    """None: this program does not fold the generation, and it was dropped."""
    places: Sequence[Place]
    mark: CommitMark = BEGINNING
    """Where the generation stood."""


async def find_traces(
    side: ReadSide, subject: Subject, progress: Progress = lambda _position, _end: None
) -> Traces:
    """Look through the partitions that the tenant lives or has lived in for events that hold something of a person."""
    residences = await side.log.residences_of(subject.tenant)
    found: list[RecordedEvent] = []
    heads = await side.log.heads()
    for stay in residences:
        end = stay.last_position or heads[stay.partition].position
        found += await _find_in(side, subject, stay.partition, end, progress)
    return Traces(subject, residences, found)


async def _find_in(
    side: ReadSide, subject: Subject, partition: int, end: int, progress: Progress
) -> Sequence[RecordedEvent]:
    personal = side.registry.personal
    found: list[RecordedEvent] = []
    mark = BEGINNING
    feed = LogFeed(side.log, partition, events_max=PAGE_EVENTS_MAX)
    try:
        while mark.position < end:
            page = until(await feed.next(mark, wait_seconds=0), end)
            for event in page.events:
                kind = event.type, event.schema_version
                if event.tenant == subject.tenant and kind in personal:
                    message = Sealable(event.tenant, place_of(event.id, kind), personal[kind], event.data)
                    if subject in subjects_in(message):
                        found.append(event)
            mark = page.end
            progress(mark.position, end)
    finally:
        await feed.close()
    return found


async def generations_of(
    side: ReadSide,
) -> Sequence[tuple[Generation, type[Projection[Row]] | None, str]]:
    """Return all generations that have tables, with what folds them here (None: nothing does), and their state."""
    found: list[tuple[Generation, type[Projection[Row]] | None, str]] = []
    for row in await side.generations.all():
        generation = Generation(row["projection"], row["generation"], row["version"], row["schema"])
        kind = side.kinds.get(generation.projection)
        folds = kind if kind is not None and kind.version == generation.version else None
        if folds is None and row["state"] == "live":
            raise OtherVersionLives(generation.projection, generation.version, kind.version if kind else 0)
        found.append((generation, folds, row["state"]))
    return found


async def places_in(side: ReadSide, kind: type[Projection[Row]], traces: Traces) -> Sequence[Place]:
    """Return the rows of a projection that a person's events are folded into."""
    if not traces.events:
        return ()
    projection = kind()
    opened = await opened_events(side.opened)(traces.events)
    places: set[Place] = set()
    for partition in traces.partitions:
        own = [event for event in opened if event.partition == partition]
        if own:
            first, last = own[0].position, own[-1].position
            page = Page(partition, CommitMark(first - 1, b""), own, CommitMark(last, b""))
            decoded = Decoder(side.registry, [projection]).decode(page)
            places |= {step[0] for step in Folding(projection, complete=True).plan(decoded.events)}
    return sorted(places)


async def scrub_rows(side: ReadSide, traces: Traces) -> Sequence[Scrubbed]:
    """Make the rows anew that a person's events are folded into, in every generation that there is."""
    done = []
    for generation, kind, _ in await generations_of(side):
        if kind is None:
            await side.generations.drop(generation.projection, generation.number)
            done.append(Scrubbed(generation, None, ()))
            continue
        places = await places_in(side, kind, traces)
        mark = await _scrub(side, kind, generation, traces, places)
        done.append(Scrubbed(generation, kind, places, mark))
        failpoint("erasure.after_generation")
    return done


async def fence_workflows(side: ReadSide, partitions: Sequence[int]) -> int:
    """Have some partitions' workflows read anew what they have in hand; return how many there are."""
    sql = load_sql("projectors", "sql/fence_workflows.sql", namespace=side.settings.namespace)
    return len(await side.pool.fetch(sql, list(partitions)))


async def _scrub(
    side: ReadSide,
    kind: type[Projection[Row]],
    generation: Generation,
    traces: Traces,
    places: Sequence[Place],
) -> CommitMark:
    sql = partial(load_sql, "projectors", namespace=side.settings.namespace)
    tables = await read_tables(side.pool, kind, generation.schema)
    writer = Writer(kind.name, generation.number, tables, side.checkpoints)
    skipped = {partition: (await writer.read_standing(partition))[1] for partition in traces.partitions}
    folding = Folding(kind(), complete=True, only=frozenset(places))
    marks: dict[int, CommitMark] = {}

    async def fold(positions: Mapping[int, int]) -> None:
        await fold_tenant(side.opened, side.registry, folding, traces.residences, marks, positions, skipped)

    if places:
        await fold(await _stands(side, generation))
    async with side.pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(
            sql("sql/lock_generation.sql"), kind.name, generation.number, list(traces.partitions)
        )
        stands = {row["partition"]: CommitMark(row["position"], row["commit_hash"]) for row in rows}
        if places and stands:
            known = await residences_for(
                side.log, connection, side.settings.namespace, kind.name, generation.number,
                traces.subject.tenant,
            )  # fmt: skip
            if [stay.partition for stay in known] != list(traces.partitions):
                raise StoreUnavailable
            await fold({partition: mark.position for partition, mark in stands.items()})
            changes = changes_of(folding, tables)
            await writer.write_rows(connection, changes)
            for name, table in tables.items():
                gone = [place for place in places if place.table == name and folding.rows.get(place) is None]
                if gone:
                    await connection.execute(table.delete(), *table.key_arguments(gone))
    return stands.get(traces.partitions[-1], BEGINNING)


async def _stands(side: ReadSide, generation: Generation) -> Mapping[int, int]:
    sql = load_sql("projectors", "sql/marks.sql", namespace=side.settings.namespace)
    rows = await side.pool.fetch(sql, generation.projection, generation.number)
    return {row["partition"]: row["position"] for row in rows}
