"""
Recall: what is recalled is quarantined wherever it is, and whoever got it is known.

The append that issues a recall holds its lots from that position on (see `recalls.py` and `stock.py`): nothing of
them is reserved or shipped any more, and what arrives later comes into quarantine by its own receipt. What is left
to do is what was there before: the stock at the sites that the event names, and the shipments, all of which are
older than the recall. Closing a recall releases nothing.
"""

from collections import Counter
from collections.abc import Generator, Sequence
from typing import NamedTuple

from command_api.supply.refill import refill
from command_api.workflow import Outcome, Reaction, Read, Send, Step, Trigger, Workflow, on
from schemas.supply.orders import MarkOrderRecalled, ReallocateOrder
from schemas.supply.quantities import LineLot
from schemas.supply.recalls import HeldItem, RecallIssued
from schemas.supply.stock import (
    QuarantineRecalledStock,
    StockQuarantined,
    StockShipped,
)

READS_MAX = 50
"""Stock streams that are read in one round: bounds what is in memory at once."""

Units = Counter[tuple[int, str | None]]
"""Shipped units by line and lot."""


class Place(NamedTuple):
    """An item of the recall's scope at one site."""

    site_id: str
    item: HeldItem

    @property
    def stream(self) -> str:
        """The stock stream."""
        return f"stock/{self.site_id}/{self.item.item_id}"


class Recall(Workflow):
    """Quarantines recalled lots, fills the orders anew that had reserved of them, and marks those that got them."""

    name = "recall"
    commands = (QuarantineRecalledStock, MarkOrderRecalled, ReallocateOrder)

    @on(RecallIssued)
    def issued(self, trigger: Trigger) -> Reaction:
        """Quarantine what is in stock, and mark every order that was shipped from it."""
        event: RecallIssued = trigger.event
        (recall_id,) = trigger.ids
        places = [Place(site_id, item) for item in event.scope for site_id in item.sites]
        yield [Send(_quarantine(place, recall_id)) for place in places]
        # What leaves later was cleared by quality first, however late this workflow comes to it.
        shipped = yield from _shipments(places, until=trigger.position)
        yield [
            Send(MarkOrderRecalled(order_id=order_id, recall_id=recall_id, lines=_lines(units)))
            for order_id, units in shipped.items()
        ]

    @on(StockQuarantined)
    def quarantined(self, trigger: Trigger) -> Reaction:
        """Fill the orders anew that lost units, whether to a recall or to a quarantine by hand."""
        event: StockQuarantined = trigger.event
        if event.released:
            yield from refill(event.released)


def _quarantine(place: Place, recall_id: str) -> QuarantineRecalledStock:
    return QuarantineRecalledStock(site_id=place.site_id, item_id=place.item.item_id, recall_id=recall_id)


def _shipments(
    places: Sequence[Place], until: int
) -> Generator[Sequence[Step], Sequence[Outcome], dict[str, Units]]:
    """Return what had been shipped of the recalled lots up to a position, by order."""
    shipped: dict[str, Units] = {}
    for first in range(0, len(places), READS_MAX):
        some = places[first : first + READS_MAX]
        outcomes = yield [Read(place.stream, (StockShipped.type,), until) for place in some]
        for place, outcome in zip(some, outcomes, strict=True):
            for event in outcome.events:
                if isinstance(event, StockShipped):
                    _count(shipped, event, place.item)
    return shipped


def _count(shipped: dict[str, Units], event: StockShipped, item: HeldItem) -> None:
    for part in event.lots:
        if item.lots is None or part.lot in item.lots:
            shipped.setdefault(event.order_id, Counter())[event.line_no, part.lot] += part.quantity


def _lines(units: Units) -> tuple[LineLot, ...]:
    return tuple(
        LineLot(line_no=line_no, lot=lot, quantity=quantity) for (line_no, lot), quantity in units.items()
    )
