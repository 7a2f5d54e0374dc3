"""
Folds single rows again from the log, whatever the tables say; and all of a tenant, wherever it has lived.
"""

from collections import deque
from collections.abc import Iterable, Mapping, MutableSequence
from dataclasses import dataclass, field
from typing import Any

from event_store.consumer import Held
from event_store.feed import LogFeed, until
from event_store.log import EventLog, Page
from event_store.residences import Residence, Residences
from projectors.decoding import Decoded, Decoder
from projectors.folding import Folding, Place
from schemas.envelope import BEGINNING, CommitMark
from schemas.registry import Registry

PAGE_EVENTS_MAX = 10_000
EVENTS_TOLD_MAX = 1_000

Skipped = Mapping[int, Iterable[tuple[int, Place]]]
"""By partition what an operator has left out: position and row."""


@dataclass
class RowFold:
    """One row, folded from the log up to a mark."""

    place: Place
    folding: Folding
    marks: dict[int, CommitMark] = field(default_factory=dict)
    """By partition, up to where it is folded."""
    positions: int = 0
    """How many events were folded into it."""
    events: MutableSequence[Decoded] = field(default_factory=lambda: deque(maxlen=EVENTS_TOLD_MAX))
    """The last of them."""

    @property
    def row(self) -> Any:
        """Return the row; None where there is none."""
        return self.folding.rows.get(self.place)

    @property
    def error(self) -> str | None:
        """Return why it could not be folded to the end; None when it could."""
        return next((parked.error for parked in self.folding.parking if parked.error), None)

    async def on(
        self,
        log: EventLog,
        registry: Registry,
        residences: Residences,
        positions: Mapping[int, int],
        skipped: Skipped,
    ) -> None:
        """
        Fold on up to some positions, by partition.

        Raises:
            Held: An event is in it that this program does not know.
        """
        self.positions += await fold_tenant(
            log, registry, self.folding, residences, self.marks, positions, skipped, self.events
        )


async def fold_tenant(
    log: EventLog,
    registry: Registry,
    folding: Folding,
    residences: Residences,
    marks: dict[int, CommitMark],
    positions: Mapping[int, int],
    skipped: Skipped,
    told: MutableSequence[Decoded] | None = None,
) -> int:
    """
    Fold a tenant's events on, one residence after the other, each up to a position; return how many steps it took.

    `marks` says by partition where to go on, and is moved. A residence whose arrival lies beyond its position ends it:
    there the rows are still what the ones before have made of them.

    Raises:
        Held: An event is in it that this program does not know.
    """
    taken = 0
    for stay in residences:
        position = positions.get(stay.partition, 0)
        if position < stay.first_position:
            break
        if stay.last_position is not None:
            position = min(position, stay.last_position)
        folding.skipped = set(skipped.get(stay.partition, ()))
        mark = marks.get(stay.partition)
        if mark is None:
            mark = await _beginning(log, stay)
        marks[stay.partition], steps = await fold_on(
            log, registry, folding, residences.tenant, stay.partition, mark, position, told
        )
        taken += steps
    return taken


async def _beginning(log: EventLog, stay: Residence) -> CommitMark:
    """Return the end of the commit by which a tenant arrived; before that it has no events there."""
    if stay.first_position <= 1:
        return BEGINNING
    commit = await log.commit_of(stay.partition, stay.first_position)
    assert commit is not None  # it has been folded
    return commit.mark


async def fold_on(
    log: EventLog,
    registry: Registry,
    folding: Folding,
    tenant: str,
    partition: int,
    mark: CommitMark,
    position: int,
    told: MutableSequence[Decoded] | None = None,
) -> tuple[CommitMark, int]:
    """
    Fold a tenant's events on from a mark up to a position; return where that ends, and how many steps it took.

    Raises:
        Held: An event is in it that this program does not know.
    """
    decoder = Decoder(registry, [folding.projection])
    feed = LogFeed(log, partition, events_max=PAGE_EVENTS_MAX)
    taken = 0
    try:
        while mark.position < position:
            page = until(await feed.next(mark, wait_seconds=0), position)
            own = [event for event in page.events if event.tenant == tenant]
            decoded = decoder.decode(Page(partition, page.after, own, page.end, page.commits))
            if decoded.held is not None:
                raise Held(folding.projection.name, partition, *decoded.held)
            steps = folding.plan(decoded.events)
            taken += len(steps)
            if told is not None:
                told.extend(step[3] for step in steps)
            folding.fold(steps)
            mark = page.end
    finally:
        await feed.close()
    return mark, taken
