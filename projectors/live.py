"""
A projection's generation in one partition, kept up to date as the log grows.

Rows that were written last are remembered. They are the table's as long as the checkpoint is where this member left
it, since nobody writes rows without moving the checkpoint or its revision; when it is not, all is forgotten.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import nullcontext
from typing import NamedTuple

from event_store.checkpoints import Checkpoint, Checkpoints
from event_store.consumer import Held, Member, mark_within, recorded_at_of
from event_store.feed import until
from event_store.log import Page
from infra.failpoints import failpoint
from infra.telemetry import Counter, log, span
from projectors.decoding import Decoded, Decoder
from projectors.fold_workers import SPLIT_EVENTS_MIN, FoldWorkers, SplitFold
from projectors.folding import Folding, Place
from projectors.joint_writes import JointWrites, Seat
from projectors.page_statement import Share, TableChanges
from projectors.projection import Projection, Row
from projectors.shares import Whose
from projectors.writing import ROW_ERRORS, RowsRefused, Writer, changes_of
from schemas.envelope import CommitMark
from schemas.moves import Arrival

ROWS_REMEMBERED_MAX = 20_000
EVENTS_AT_ONCE = 1_000
"""What is folded in one go: folds remember what they work out about so many events."""
PARKED = Counter("everfold_parked_events_total", "Events that could not be folded", ["projection"])


class Applied(NamedTuple):
    """What a committed page has changed in one projection."""

    projection: Projection[Row]
    generation: int
    era: str
    partition: int
    before: CommitMark
    after: CommitMark
    changes: Mapping[str, TableChanges]
    tenants: Mapping[str, int]
    parked: Sequence[Place]
    """Rows with parked events, of the tenants that the page has events of."""


class LiveMember(Member):
    """One generation of one projection in one partition."""

    def __init__(
        self,
        projection: Projection[Row],
        generation: int,
        partition: int,
        decoder: Decoder,
        checkpoints: Checkpoints,
        writer: Writer,
        *,
        era: str = "",
        applied: Callable[[Applied], None] = lambda _applied: None,
        rows_max: int = ROWS_REMEMBERED_MAX,
        workers: FoldWorkers | None = None,
        joint: JointWrites | None = None,
    ) -> None:
        """Make a member; at `joint` it meets others to write what small pages mean."""
        self.projection = projection
        self.life = era
        self.checkpoint = Checkpoint("projection", projection.name, partition, generation)
        self._decoder = decoder
        self.checkpoints = checkpoints
        self._writer = writer
        self._applied = applied
        self._rows_max = rows_max
        self._joint = joint
        self._folding = Folding(projection)
        self._split: SplitFold | None = None
        if workers is not None:
            whose = Whose(projection.name, generation, partition)
            self._split = SplitFold(workers, whose, writer.tables, rows_max)
        self._was_split = False
        self._is_standing_known = False

    def idle(self, page: Page) -> bool:
        """Say whether a page holds nothing that this projection folds, and nothing unknown."""
        decoded = self._decoder.decode(page)
        return decoded.held is None and decoded.types.isdisjoint(self.projection.whens)

    async def take(self, page: Page) -> None:
        """
        Fold a page and commit it; where it cannot be read to its end, as much of it as can, then hold.

        With a tenant's arrival rows come in that were made elsewhere, so from there on nothing is known of rows that
        are not at hand. A page that holds an arrival begins with it.
        """
        if (arrival := page.arrival) is not None:
            self.forget()
        decoded = self._decoder.decode(page)
        events: Sequence[Decoded] = decoded.events
        if decoded.held is not None:
            page = until(page, mark_within(page, decoded.held[0]).position)
            events = [event for event in events if event.stream.position <= page.end.position]
        if page.events:
            with span("projector.apply", projection=self.projection.name, partition=page.partition):
                await self._apply(page, events, arrival)
        if decoded.held is not None:
            position, waiting_for = decoded.held
            raise Held(self.projection.name, page.partition, position, waiting_for)

    def passed(self, page: Page) -> None:
        """Tell on that the checkpoint has moved over a page that changed nothing."""
        self._tell_nothing(page.after, page.end)

    def opened(self) -> None:
        """Tell on where the tables stand: what was told by an earlier holder may be of another history."""
        self._tell_nothing(self.checkpoint.mark, self.checkpoint.mark)

    def _tell_nothing(self, before: CommitMark, after: CommitMark) -> None:
        nothing = {name: TableChanges((), ()) for name in self._writer.tables}
        generation, partition = self.checkpoint.generation, self.checkpoint.partition
        self._applied(
            Applied(self.projection, generation, self.life, partition, before, after, nothing, {}, ())
        )

    def forget(self) -> None:
        """Drop the rows that are remembered."""
        self._folding.forget()
        if self._split is not None:
            self._split.forget()
        self._is_standing_known = False

    async def _apply(self, page: Page, events: Sequence[Decoded], arrival: Arrival | None) -> None:
        """Fold and commit, a small page together with others who take it."""
        if self._joint is None or arrival is not None or len(events) > EVENTS_AT_ONCE:
            await self._fold_and_commit(page, events, arrival, None)
        else:
            with self._joint.seat(page.end, recorded_at_of(page)) as seat:
                await self._fold_and_commit(page, events, None, seat)

    async def _fold_and_commit(
        self, page: Page, events: Sequence[Decoded], arrival: Arrival | None, seat: Seat | None
    ) -> None:
        """Fold and commit; rows that the database refuses are parked at a second attempt."""
        bad: dict[Place, str] = {}
        while True:
            try:
                changes = await self._changes(page, events, bad)
                if arrival is not None:
                    self._folding.tenants.setdefault(arrival.tenant, arrival.position)
                try:
                    await self._commit(page, changes, seat)
                except ROW_ERRORS as error:
                    raise await self._writer.refused_rows(changes) from error
            except RowsRefused as error:
                self.forget()
                if error.rows.keys() <= bad.keys():
                    raise
                log.warning("rows refused", projection=self.projection.name, rows=len(error.rows))
                bad |= error.rows
                seat = None
            else:
                return

    async def _changes(
        self, page: Page, events: Sequence[Decoded], bad: Mapping[Place, str]
    ) -> dict[str, TableChanges]:
        """Fold here, or have workers fold; who did not fold the page before knows rows no longer."""
        split = self._split if self._split is not None and self._split.workers.number > 1 else None
        if len(events) < SPLIT_EVENTS_MIN:
            split = None
        if self._was_split != (split is not None):
            self.forget()
            self._was_split = split is not None
        complete = page.after.position == 0 and page.arrival is None
        await self._know_standing(bad, complete=complete)
        if split is None:
            async with self._decoder.turn if len(events) > EVENTS_AT_ONCE else nullcontext():
                return await self._fold(events)
        try:
            return await split.fold(self.checkpoints.pool, page, events, self._folding, complete=complete)
        except BaseException as error:
            self.forget()
            if isinstance(error, BrokenExecutor):
                split.workers.replace_broken()
            raise

    async def _know_standing(self, bad: Mapping[Place, str], *, complete: bool) -> None:
        folding = self._folding
        if not self._is_standing_known:
            folding.parked, folding.skipped = await self._writer.read_standing(self.checkpoint.partition)
            folding.complete = complete
            self._is_standing_known = True
        folding.bad = bad

    async def _fold(self, events: Sequence[Decoded]) -> dict[str, TableChanges]:
        folding = self._folding
        try:
            for start in range(0, len(events), EVENTS_AT_ONCE):
                steps = folding.plan(events[start : start + EVENTS_AT_ONCE])
                for name, places in folding.missing(steps).items():
                    table = self._writer.tables[name]
                    folding.rows.update(await table.load_rows(self.checkpoints.pool, list(places)))
                folding.fold(steps)
                await asyncio.sleep(0)  # the loop has leases to renew and others to serve
            return changes_of(folding, self._writer.tables)
        except BaseException:
            self.forget()
            raise

    async def _commit(self, page: Page, changes: Mapping[str, TableChanges], seat: Seat | None) -> None:
        folding, before = self._folding, self.checkpoint.mark
        try:
            failpoint("projector.before_commit")
            share = Share([self.checkpoint], self._writer.tables, changes, folding.tenants)
            if seat is not None and not folding.parking and await seat.write(share):
                self.checkpoint.mark = page.end
            else:
                await self._writer.write(folding, changes, self.checkpoint, page.end, recorded_at_of(page))
            failpoint("projector.after_commit")
        except BaseException:
            self.forget()
            raise
        if folding.parking:
            PARKED.labels(self.projection.name).inc(len(folding.parking))
        self._applied(
            Applied(
                self.projection, self.checkpoint.generation, self.life, page.partition, before, page.end, changes,
                folding.tenants, [place for place in folding.parked if place.tenant in folding.tenants],
            )
        )  # fmt: skip
        folding.settled(self._rows_max)
