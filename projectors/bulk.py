"""
Folds long stretches of the log into a generation that nobody reads yet.

Rows are folded in memory over many pages and written once, with the checkpoint, in one transaction: those that are not
in the tables yet with `COPY`. Memory is bounded by what the rows' documents measure. Rows that the database refuses
are none of its business: the stretch is then folded once more by the live fold, page by page, which parks them.
"""

import asyncio
from collections.abc import Mapping

from event_store.checkpoints import Checkpoint, Checkpoints
from event_store.consumer import Held, mark_within, recorded_at_of
from event_store.feed import until
from event_store.log import Page
from infra.failpoints import failpoint
from projectors.decoding import Decoder
from projectors.folding import Folding, Place
from projectors.live import EVENTS_AT_ONCE
from projectors.page_statement import TableChanges
from projectors.projection import Projection, Row
from projectors.tables import Table
from projectors.writing import ROW_ERRORS, RowsRefused, Writer, changes_of
from schemas.envelope import CommitMark

CHANGES_MAX = 20_000
"""How many changed rows are written at a time."""
EVENTS_MAX = 1_000_000
"""How many events are folded, at the most, before what they changed is written: what a kill makes to be done again."""
DOCUMENT_BYTES_MAX = 8_000_000
"""What the documents of the rows that one partition keeps in memory measure; the rows themselves take several times
as much."""
ROWS_MIN = 1_000
UNSENDABLE = (OverflowError, TypeError, ValueError, AttributeError)
"""What the driver says of a value that has no binary form; the live fold finds out which row it is of."""


class Refused(Exception):
    """The database refuses rows of the stretch from the checkpoint up to `mark`; nothing of it was written."""

    def __init__(self, mark: CommitMark) -> None:
        super().__init__(mark)
        self.mark = mark


class BulkFold:
    """One generation in one partition, from its checkpoint on."""

    def __init__(
        self,
        projection: Projection[Row],
        checkpoint: Checkpoint,
        decoder: Decoder,
        checkpoints: Checkpoints,
        writer: Writer,
        tables: Mapping[str, Table],
    ) -> None:
        self.mark = checkpoint.mark
        """Up to where events are folded; the checkpoint is up to where they are written."""
        self._checkpoint = checkpoint
        self._decoder = decoder
        self._checkpoints = checkpoints
        self._writer = writer
        self._tables = tables
        self._folding = Folding(projection, complete=checkpoint.mark.position == 0)
        self._stored: set[Place] = set()
        self._last: Page | None = None
        self._rows_max = ROWS_MIN
        self._is_opened = False

    async def take(self, page: Page) -> None:
        """
        Fold a page that begins where the last one ended; write when there is much to be written.

        Raises:
            Held: An event is in it that this program does not know; all before it is written.
            Refused: The database does not take some rows.
        """
        decoded = self._decoder.decode(page)
        events = decoded.events
        if decoded.held is not None:
            page = until(page, mark_within(page, decoded.held[0]).position)
            events = [event for event in events if event.stream.position <= page.end.position]
        folding = self._folding
        if not self._is_opened:
            folding.parked, folding.skipped = await self._writer.read_standing(page.partition)
            self._is_opened = True
        for start in range(0, len(events), EVENTS_AT_ONCE):
            steps = folding.plan(events[start : start + EVENTS_AT_ONCE])
            for name, places in folding.missing(steps).items():
                loaded = await self._tables[name].load_rows(self._checkpoints.pool, list(places))
                folding.rows.update(loaded)
                self._stored.update(place for place, row in loaded.items() if row is not None)
            folding.fold(steps)
            await asyncio.sleep(0)  # the loop has leases to renew and others to serve
        if page.events:
            self.mark, self._last = page.end, page
        unwritten = self.mark.position - self._checkpoint.mark.position
        if decoded.held is not None or len(folding.changes) >= CHANGES_MAX or unwritten >= EVENTS_MAX:
            await self.write()
        if decoded.held is not None:
            position, waiting_for = decoded.held
            raise Held(folding.projection.name, page.partition, position, waiting_for)

    async def write(self) -> None:
        """
        Write what has changed, with the checkpoint's move.

        Raises:
            Refused: The database does not take some rows.
        """
        if self._last is None:
            return
        folding = self._folding
        failpoint("build.page")
        try:
            changes = changes_of(folding, self._tables)
            await self._writer.copy(
                folding, changes, self._checkpoint, self.mark, recorded_at_of(self._last), self._stored
            )
        except (RowsRefused, *UNSENDABLE, *ROW_ERRORS) as error:
            raise Refused(self.mark) from error
        failpoint("build.written")
        self._remember(changes)
        self._last = None

    def _remember(self, changes: Mapping[str, TableChanges]) -> None:
        """Keep as many rows as may be kept, and know which of them are in the tables."""
        folding = self._folding
        written = [row for change in changes.values() for row in change.written]
        if written:
            average = sum(len(document) for _, _, document, _ in written) / len(written)
            self._rows_max = max(ROWS_MIN, int(DOCUMENT_BYTES_MAX / max(average, 1.0)))
        made = frozenset(folding.made)
        self._stored.update(place for place, _, _, _ in written if place not in made)
        self._stored.difference_update(place for change in changes.values() for place in change.deleted)
        folding.settled(self._rows_max)
        self._stored.intersection_update(folding.rows)
