"""
What rules know of one site's stock of one item: its lots, and which order lines have which of their units.

A unit on hand is exactly one of available, reserved, quarantined, expired. A stream may hold thousands of lots, and
thousands of receipts a second go through here, so every change touches one lot and not all.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from operator import itemgetter
from typing import Any

from command_api.supply.buckets import Buckets
from command_api.supply.distribution import DistributionState
from command_api.supply.sites import END_OF_TIME
from schemas.supply.quantities import Into, LotQuantity, Released
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

Label = str | None
Units = Mapping[Label, int]
"""Units by lot."""

NO_UNITS: Units = {}


@dataclass(frozen=True, slots=True)
class Lot:
    """The units of one lot at one site."""

    rank: int
    """Its place in the order in which lots first came in."""
    expires_on: date | None = None
    usable_until: datetime | None = None
    on_hand: int = 0
    reserved: int = 0
    quarantined: int = 0
    expired: int = 0
    in_quarantine: bool = False
    """Whether the lot as a whole is; returned units may be in quarantine without it."""
    is_expired: bool = False
    recalls: tuple[str, ...] = ()
    """The recalls for which it is in quarantine here."""
    cleared: tuple[str, ...] = ()
    """The closed recalls that no longer hold it here."""

    @property
    def available(self) -> int:
        """How many units may be reserved, transferred, or taken away."""
        return self.on_hand - self.reserved - self.quarantined - self.expired

    @property
    def into(self) -> Into:
        """What units become that come in now, if no recall holds them."""
        return "quarantined" if self.in_quarantine else "expired" if self.is_expired else "available"

    def usable_at(self, time: datetime) -> bool:
        """Whether the lot's last day is not over."""
        return not self.is_expired and (self.usable_until is None or time < self.usable_until)

    def with_more(
        self,
        quantity: int,
        into: Into,
        expires_on: date | None,
        usable_until: datetime | None,
        held_by: tuple[str, ...],
    ) -> "Lot":
        """Return the lot with units that came in."""
        return Lot(
            self.rank,
            expires_on,
            usable_until,
            self.on_hand + quantity,
            self.reserved,
            self.quarantined + quantity * (into == "quarantined"),
            self.expired + quantity * (into == "expired"),
            self.in_quarantine or bool(held_by),
            self.is_expired,
            tuple(dict.fromkeys((*self.recalls, *held_by))) if held_by else self.recalls,
            self.cleared,
        )


@dataclass(frozen=True, slots=True)
class StockState:
    """One site's stock of one item."""

    lots: Buckets[Lot] = field(default_factory=Buckets)
    offered: Buckets[None] = field(default_factory=Buckets)
    """The lots with available units: a few of all that ever were here."""
    reservations: Buckets[Mapping[int, Units]] = field(default_factory=Buckets)
    """By order, then by line."""
    on_hand: int = 0

    def reserved_for(self, order_id: str, line_no: int) -> Units:
        """Return the units that an order's line has reserved."""
        return (self.reservations.get(order_id) or {}).get(line_no, NO_UNITS)

    def holding(self, label: Label, distribution: DistributionState) -> tuple[str, ...]:
        """Return the recalls that hold a lot at this site, closed ones that the site has not cleared too."""
        recalls = distribution.holding(label)
        if not recalls:
            return recalls
        lot = self.lots.get(label)
        return tuple(recall for recall in recalls if lot is None or recall not in lot.cleared)

    def pick(self, quantity: int, at: datetime, distribution: DistributionState) -> tuple[LotQuantity, ...]:
        """Return lots to reserve, first expiry first out, then first received; less when there is not enough."""
        usable = [
            (lot.usable_until or END_OF_TIME, lot.rank, label, lot.available)
            for label, lot in ((label, self.lot(label)) for label, _ in self.offered.items())
            if lot.usable_at(at) and not lot.in_quarantine
        ]
        if distribution.holds:
            usable = [entry for entry in usable if not self.holding(entry[2], distribution)]
        picked = []
        for _, _, label, available in sorted(usable, key=itemgetter(0, 1)):
            taken = min(available, quantity)
            picked.append(LotQuantity(lot=label, quantity=taken))
            quantity -= taken
            if not quantity:
                break
        return tuple(picked)

    def first_out(self, units: Units) -> list[tuple[Label, int]]:
        """Return reserved units in the order in which they should leave."""

        def place(entry: tuple[Label, int]) -> tuple[datetime, int]:
            lot = self.lots.get(entry[0])
            return (END_OF_TIME, 0) if lot is None else (lot.usable_until or END_OF_TIME, lot.rank)

        return sorted(units.items(), key=place)

    def reserved_from(self, label: Label) -> tuple[Released, ...]:
        """Return the order lines that have units of a lot reserved."""
        found = (
            (str(order_id), line_no, units[label])
            for order_id, lines in self.reservations.items()
            for line_no, units in lines.items()
            if label in units
        )
        return tuple(
            Released(order_id=order_id, line_no=line_no, quantity=quantity)
            for order_id, line_no, quantity in sorted(found)
        )

    def in_order_of_receipt(self) -> Iterator[tuple[Label, Lot]]:
        """Return the lots, those that came in first before others."""
        yield from sorted(self.lots.items(), key=lambda entry: entry[1].rank)

    def lot(self, label: Label) -> Lot:
        """Return a lot, without units if it has never been here."""
        return self.lots.get(label) or Lot(rank=len(self.lots))

    def with_lot(self, label: Label, lot: Lot, on_hand: int = 0) -> "StockState":
        """Return the state with a changed lot, and so many more units on hand."""
        offered, before = self.offered, self.lots.get(label)
        if (lot.available > 0) != (before is not None and before.available > 0):
            offered = offered.put(label, None) if lot.available > 0 else offered.drop(label)
        return StockState(self.lots.put(label, lot), offered, self.reservations, self.on_hand + on_hand)

    def with_reserved(
        self, order_id: str, line_no: int, change: Iterable[LotQuantity], sign: int
    ) -> "StockState":
        """Return the state with more (or less) units reserved for an order's line; the lots follow."""
        lines = dict(self.reservations.get(order_id) or {})
        units = dict(lines.pop(line_no, NO_UNITS))
        state = self
        for label, quantity in ((part.lot, sign * part.quantity) for part in change):
            lot = state.lot(label)
            state = state.with_lot(label, replace(lot, reserved=lot.reserved + quantity))
            units[label] = units.get(label, 0) + quantity
        if units := {label: quantity for label, quantity in units.items() if quantity}:
            lines[line_no] = units
        reservations = self.reservations.put(order_id, lines) if lines else self.reservations.drop(order_id)
        return replace(state, reservations=reservations)

    def without_reservations(self, label: Label, released: Sequence[Released]) -> "StockState":
        """Return the state in which these order lines have nothing of a lot."""
        state = self
        for part in released:
            lost = (LotQuantity(lot=label, quantity=part.quantity),)
            state = state.with_reserved(part.order_id, part.line_no, lost, -1)
        return state


def evolve(state: StockState, event: Any) -> StockState:
    """Add one fact."""
    match event:
        case StockReceived() | StockTransferredIn():
            lot = state.lot(event.lot).with_more(
                event.quantity, event.into, event.expires_on, event.usable_until, event.held_by
            )
            return state.with_lot(event.lot, lot, event.quantity)
        case StockReturned():
            lot = state.lot(event.lot).with_more(
                event.quantity, "quarantined", event.expires_on, event.usable_until, event.held_by
            )
            return state.with_lot(event.lot, lot, event.quantity)
        case StockReserved():
            return state.with_reserved(event.order_id, event.line_no, event.lots, 1)
        case StockShipped():
            return _shipped(state, event)
        case StockUnreserved():
            for line in event.lines:
                state = state.with_reserved(event.order_id, line.line_no, line.lots, -1)
            return state
        case StockQuarantined() | QuarantineReleased() | LotExpired():
            return _restrained(state, event)
        case StockAdjusted() | StockDisposed() | StockTransferredOut():
            return _counted(state, event)
    return state


def _shipped(state: StockState, event: StockShipped) -> StockState:
    state = state.with_reserved(event.order_id, event.line_no, event.lots, -1)
    for part in event.lots:
        lot = state.lot(part.lot)
        state = state.with_lot(part.lot, replace(lot, on_hand=lot.on_hand - part.quantity), -part.quantity)
    return state


def _restrained(state: StockState, event: StockQuarantined | QuarantineReleased | LotExpired) -> StockState:
    if not isinstance(event, QuarantineReleased):
        state = state.without_reservations(event.lot, event.released)
    lot = state.lot(event.lot)
    match event:
        case StockQuarantined(recall_id=recall_id):
            recalls = lot.recalls if recall_id is None else tuple(dict.fromkeys((*lot.recalls, recall_id)))
            lot = replace(lot, quarantined=event.quarantined, expired=0, in_quarantine=True, recalls=recalls)
        case QuarantineReleased():
            lot = replace(
                lot,
                quarantined=lot.quarantined - event.quantity,
                expired=lot.expired + event.quantity * (event.into == "expired"),
                in_quarantine=False,
                recalls=(),
                cleared=(*lot.cleared, *event.cleared),
            )
        case LotExpired():
            lot = replace(lot, expired=lot.expired + event.available + event.reserved, is_expired=True)
    return state.with_lot(event.lot, lot)


def _counted(state: StockState, event: StockAdjusted | StockDisposed | StockTransferredOut) -> StockState:
    lot = state.lot(event.lot)
    match event:
        case StockTransferredOut(quantity=quantity):
            return state.with_lot(event.lot, replace(lot, on_hand=lot.on_hand - quantity), -quantity)
        case StockAdjusted(delta=delta):
            change, sign = delta, 1
        case StockDisposed(quantity=quantity):
            change, sign = -quantity, -1
    lot = replace(
        lot,
        on_hand=lot.on_hand + change,
        quarantined=lot.quarantined + sign * event.quarantined,
        expired=lot.expired + sign * event.expired,
    )
    return state.with_lot(event.lot, lot, change)
