"""
A second opinion on stock: adds up every event by itself, knowing nothing of the rules, and checks the domain's laws.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from infra.testing.log import Recorded
from schemas.supply.distribution import LotsHeld
from schemas.supply.orders import (
    OrderConfirmed,
    OrderPlaced,
    OrderReallocated,
    OrderReturned,
    OrderShipped,
)
from schemas.supply.stock import (
    LotExpired,
    QuarantineReleased,
    StockAdjusted,
    StockDisposed,
    StockQuarantined,
    StockReceived,
    StockReserved,
    StockReturned,
    StockShipped,
    StockTransferredIn,
    StockTransferredOut,
    StockUnreserved,
)

Place = tuple[str, str | None]


@dataclass
class Figures:
    """One lot at one site."""

    received: int = 0
    adjusted: int = 0
    returned: int = 0
    transferred: int = 0
    shipped: int = 0
    disposed: int = 0
    on_hand: int = 0
    reserved: int = 0
    quarantined: int = 0
    expired: int = 0
    cleared: set[str] = field(default_factory=set)

    def check(self) -> None:
        came = self.received + self.adjusted + self.returned + self.transferred
        assert came == self.on_hand + self.shipped + self.disposed, self
        never_negative = (self.received, self.returned, self.shipped, self.disposed, self.on_hand)
        overlays = (self.reserved, self.quarantined, self.expired)
        assert min(never_negative + overlays) >= 0, self
        assert self.on_hand >= sum(overlays), self


@dataclass
class OrderLine:
    quantity: int
    stocked: bool
    reserved: int = 0
    shipped: int = 0
    returned: int = 0
    short: int = 0

    def check(self, confirmed: bool) -> None:
        assert 0 <= self.returned <= self.shipped <= self.reserved <= self.quantity, self
        assert not confirmed or self.quantity == self.reserved + self.short, self


@dataclass
class Ledger:
    """All lots and orders, by what the events say."""

    lots: dict[Place, Figures] = field(default_factory=lambda: defaultdict(Figures))
    held: list[tuple[str, str, frozenset[str] | None]] = field(default_factory=list)
    """Item, recall, lots."""
    orders: dict[str, dict[int, OrderLine]] = field(default_factory=dict)
    confirmed: set[str] = field(default_factory=set)
    net: dict[str, int] = field(default_factory=dict)

    def add(self, recorded: Recorded) -> None:
        collection = recorded.stream.partition("/")[0]
        event = recorded.event
        if collection == "stock":
            self._stock(recorded.stream, event)
        elif isinstance(event, LotsHeld):
            lots = None if event.lots is None else frozenset(event.lots)
            self.held.append((recorded.stream.split("/")[1], event.recall_id, lots))
        elif collection == "orders":
            self._order(recorded.stream, event)

    def _stock(self, stream: str, event: object) -> None:
        match event:
            case StockReserved() | StockShipped():
                for part in event.lots:
                    self._must_not_be_held(stream, part.lot)
                    figures = self.lots[stream, part.lot]
                    if isinstance(event, StockReserved):
                        figures.reserved += part.quantity
                    else:
                        figures.reserved -= part.quantity
                        figures.on_hand -= part.quantity
                        figures.shipped += part.quantity
                    figures.check()
            case StockUnreserved():
                for line in event.lines:
                    for part in line.lots:
                        self.lots[stream, part.lot].reserved -= part.quantity
                        self.lots[stream, part.lot].check()
            case _:
                figures = self.lots[stream, event.lot]  # type: ignore[attr-defined]  # all others name a lot
                _add(figures, event)
                figures.check()

    def _must_not_be_held(self, stream: str, lot: str | None) -> None:
        item_id = stream.split("/")[2]
        for held_item, recall_id, lots in self.held:
            is_held = held_item == item_id and (lots is None or lot in lots)
            assert not is_held or recall_id in self.lots[stream, lot].cleared, (stream, lot, recall_id)

    def _order(self, stream: str, event: object) -> None:
        lines = self.orders.setdefault(stream, {})
        match event:
            case OrderPlaced():
                lines |= {part.line_no: OrderLine(part.quantity, part.stocked) for part in event.lines}
                self.net[stream] = event.total.amount
            case OrderConfirmed():
                self.confirmed.add(stream)
                for allocation in event.allocations:
                    lines[allocation.line_no].reserved += allocation.quantity
                for short in event.short:
                    lines[short.line_no].short = short.quantity
                for line in lines.values():
                    line.reserved = line.reserved if line.stocked else line.quantity
            case OrderReallocated():
                for changed in event.lines:
                    lines[changed.line_no].reserved = changed.reserved
                    lines[changed.line_no].short = changed.short
                    assert sum(part.quantity for part in changed.lots) == changed.reserved
            case OrderShipped():
                for sent in event.lines:
                    lines[sent.line_no].shipped += sent.quantity
            case OrderReturned():
                for back in event.lines:
                    lines[back.line_no].returned += back.quantity
        for line in lines.values():
            line.check(stream in self.confirmed)
        self.net[stream] -= sum(part.amount for part in getattr(event, "removed", ()))
        assert self.net[stream] >= 0, (stream, self.net[stream])


def _add(figures: Figures, event: object) -> None:
    match event:
        case StockReceived() | StockTransferredIn() | StockReturned():
            figures.on_hand += event.quantity
            into = "quarantined" if isinstance(event, StockReturned) else event.into
            figures.quarantined += event.quantity * (into == "quarantined")
            figures.expired += event.quantity * (into == "expired")
            figures.received += event.quantity * isinstance(event, StockReceived)
            figures.returned += event.quantity * isinstance(event, StockReturned)
            figures.transferred += event.quantity * isinstance(event, StockTransferredIn)
        case StockTransferredOut():
            figures.on_hand -= event.quantity
            figures.transferred -= event.quantity
        case StockAdjusted():
            assert event.delta == event.available + event.quarantined + event.expired
            figures.on_hand += event.delta
            figures.adjusted += event.delta
            figures.quarantined += event.quarantined
            figures.expired += event.expired
        case StockDisposed():
            assert event.quantity == event.available + event.quarantined + event.expired
            figures.on_hand -= event.quantity
            figures.disposed += event.quantity
            figures.quarantined -= event.quarantined
            figures.expired -= event.expired
        case StockQuarantined():
            assert sum(part.quantity for part in event.released) == event.reserved
            figures.quarantined += event.available + event.reserved + event.expired
            assert figures.quarantined == event.quarantined == figures.on_hand
            figures.reserved -= event.reserved
            figures.expired -= event.expired
        case QuarantineReleased():
            figures.quarantined -= event.quantity
            figures.expired += event.quantity * (event.into == "expired")
            figures.cleared |= set(event.cleared)
        case LotExpired():
            assert sum(part.quantity for part in event.released) == event.reserved
            figures.expired += event.available + event.reserved
            figures.reserved -= event.reserved
        case _:
            raise AssertionError(f"the ledger does not know {event!r}")
