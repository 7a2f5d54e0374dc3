"""
What each stock event changes, in one form for all folds: by how much each figure of each lot moves.

`available` is not a figure of its own: it is what of `on_hand` is none of the other three. A lot's figures obey
`received + adjusted + returned + transferred = on_hand + shipped + disposed` because every change does.
"""

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any, NamedTuple

from projectors.supply.per_event import once_per_event
from schemas import Event
from schemas.supply.quantities import Into
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


class LotChange(NamedTuple):
    """How one lot's figures move at one site."""

    lot: str | None
    on_hand: int = 0
    reserved: int = 0
    quarantined: int = 0
    expired: int = 0
    received: int = 0
    adjusted: int = 0
    returned: int = 0
    transferred: int = 0
    shipped: int = 0
    disposed: int = 0
    expires_on: date | None = None
    """The lot's expiry date, where the event says it."""


Changes = tuple[LotChange, ...]


@once_per_event
def changes_of(event: Any) -> Changes:
    """Return what a stock event changes, each lot at most once."""
    return CHANGES[type(event)](event)


def change_of(event: Any, lot: str | None) -> LotChange:
    """Return what a stock event changes of one lot."""
    changes = changes_of(event)
    if len(changes) == 1:
        return changes[0]
    return next(change for change in changes if change.lot == lot)


def _received(event: StockReceived) -> Changes:
    units = event.quantity
    quarantined, expired = _into(event.into, units)
    return (LotChange(event.lot, units, 0, quarantined, expired, units, expires_on=event.expires_on),)


def _transferred_in(event: StockTransferredIn) -> Changes:
    units = event.quantity
    quarantined, expired = _into(event.into, units)
    return (
        LotChange(event.lot, units, 0, quarantined, expired, transferred=units, expires_on=event.expires_on),
    )


def _transferred_out(event: StockTransferredOut) -> Changes:
    return (LotChange(event.lot, -event.quantity, transferred=-event.quantity),)


def _returned(event: StockReturned) -> Changes:
    units = event.quantity
    return (LotChange(event.lot, units, 0, units, returned=units, expires_on=event.expires_on),)


def _adjusted(event: StockAdjusted) -> Changes:
    return (LotChange(event.lot, event.delta, 0, event.quarantined, event.expired, adjusted=event.delta),)


def _disposed(event: StockDisposed) -> Changes:
    units = event.quantity
    return (LotChange(event.lot, -units, 0, -event.quarantined, -event.expired, disposed=units),)


def _quarantined(event: StockQuarantined) -> Changes:
    units = event.available + event.reserved + event.expired
    return (LotChange(event.lot, 0, -event.reserved, units, -event.expired),)


def _released(event: QuarantineReleased) -> Changes:
    quarantined, expired = _into(event.into, event.quantity)
    return (LotChange(event.lot, 0, 0, quarantined - event.quantity, expired),)


def _expired(event: LotExpired) -> Changes:
    return (LotChange(event.lot, 0, -event.reserved, 0, event.available + event.reserved),)


def _reserved(event: StockReserved) -> Changes:
    units = _by_lot((part.lot, part.quantity) for part in event.lots)
    return tuple(LotChange(lot, 0, quantity) for lot, quantity in units.items())


def _unreserved(event: StockUnreserved) -> Changes:
    units = _by_lot((part.lot, part.quantity) for line in event.lines for part in line.lots)
    return tuple(LotChange(lot, 0, -quantity) for lot, quantity in units.items())


def _shipped(event: StockShipped) -> Changes:
    units = _by_lot((part.lot, part.quantity) for part in event.lots)
    return tuple(LotChange(lot, -quantity, -quantity, shipped=quantity) for lot, quantity in units.items())


def _into(into: Into, units: int) -> tuple[int, int]:
    """Return how many units become quarantined, and how many expired."""
    return (units if into == "quarantined" else 0), (units if into == "expired" else 0)


def _by_lot(parts: Iterable[tuple[str | None, int]]) -> dict[str | None, int]:
    units: dict[str | None, int] = {}
    for lot, quantity in parts:
        units[lot] = units.get(lot, 0) + quantity
    return units


CHANGES: dict[type[Event], Callable[[Any], Changes]] = {
    StockReceived: _received,
    StockTransferredIn: _transferred_in,
    StockTransferredOut: _transferred_out,
    StockReturned: _returned,
    StockAdjusted: _adjusted,
    StockDisposed: _disposed,
    StockQuarantined: _quarantined,
    QuarantineReleased: _released,
    LotExpired: _expired,
    StockReserved: _reserved,
    StockUnreserved: _unreserved,
    StockShipped: _shipped,
}
STOCK_EVENTS = tuple(CHANGES)
