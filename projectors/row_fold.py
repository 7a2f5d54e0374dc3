"""
Folds single rows again from the log, whatever the tables say.
"""

from collections import deque
from collections.abc import MutableSequence
from dataclasses import dataclass, field
from typing import Any

from event_store.consumer import Held
from event_store.feed import LogFeed, until
from event_store.log import EventLog, Page
from projectors.decoding import Decoded, Decoder
from projectors.folding import Folding, Place
from schemas.envelope import BEGINNING, CommitMark
from schemas.registry import Registry

PAGE_EVENTS_MAX = 10_000
EVENTS_TOLD_MAX = 1_000


@dataclass
class RowFold:
    """One row, folded from the log up to a mark."""

    place: Place
    folding: Folding
    mark: CommitMark = BEGINNING
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

    async def on(self, log: EventLog, registry: Registry, partition: int, position: int) -> None:
        """
        Fold on up to a position.

        Raises:
            Held: An event is in it that this program does not know.
        """
        self.mark, taken = await fold_on(
            log, registry, self.folding, self.place.tenant, partition, self.mark, position, self.events
        )
        self.positions += taken


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
