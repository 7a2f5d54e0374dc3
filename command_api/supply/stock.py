"""
The rules of stock: what comes in, what goes out, and what may be used.

Each decision reads what recalls hold of the item where that matters, and so expects it unchanged.
"""

from collections.abc import Callable, Sequence
from typing import Any

from command_api.decider import Context, Decider, States, To
from command_api.supply import stock_quarantine, stock_reserve
from command_api.supply.distribution import DistributionState
from command_api.supply.sites import end_of_day
from command_api.supply.stock_lots import find_lot, refuse_overflow
from command_api.supply.stock_state import Label, StockState, evolve
from schemas import Command, Event
from schemas.supply import rejections
from schemas.supply.distribution import ItemStocked, LotDated
from schemas.supply.stock import (
    AdjustStock,
    DisposeStock,
    ExpireLot,
    QuarantineRecalledStock,
    QuarantineStock,
    ReceiveStock,
    ReleaseQuarantine,
    ReserveStock,
    StockAdjusted,
    StockDisposed,
    StockReceived,
    StockTransferredIn,
    StockTransferredOut,
    TransferStock,
    UnreserveStock,
)

READS_HOLDS = (ReserveStock, TransferStock, QuarantineStock, QuarantineRecalledStock, ReleaseQuarantine)
NAMES_A_LOT = (AdjustStock, DisposeStock, TransferStock, QuarantineStock, ReleaseQuarantine, ExpireLot)


class Stock(Decider[StockState]):
    """One site's stock of one item."""

    collection = "stock"
    initial = StockState()

    def streams(self, command: Any) -> Sequence[str]:
        """Name the site, the item and its holds, as far as the command's rules look at them."""
        item_id: str = command.item_id
        if isinstance(command, ReceiveStock):
            return f"sites/{command.site_id}", f"items/{item_id}", f"distribution/{item_id}"
        if isinstance(command, TransferStock):
            to = command.to_site_id
            return f"sites/{to}", f"stock/{to}/{item_id}", f"distribution/{item_id}"
        return (f"distribution/{item_id}",) if isinstance(command, READS_HOLDS) else ()

    def further_streams(self, command: Any, states: States) -> Sequence[str]:
        """Name the site and the item when the lot is not there, to say what is wrong."""
        if isinstance(command, NAMES_A_LOT) and states[command.stream].lots.get(command.lot) is None:
            return f"sites/{command.site_id}", f"items/{command.item_id}"
        return ()

    def decide(self, command: Any, states: States, context: Context) -> Sequence[Event | To]:
        """Return what follows for the stock, or refuse."""
        return DECISIONS[type(command)](command, states, context)

    def evolve(self, state: StockState, event: Any) -> StockState:
        """Add one fact."""
        return evolve(state, event)


def _receive(command: ReceiveStock, states: States, context: Context) -> list[Event | To]:
    site, item = states[f"sites/{command.site_id}"], states[f"items/{command.item_id}"]
    if site.time_zone is None:
        raise rejections.UnknownSite(command.site_id)
    if not item.exists:
        raise rejections.UnknownItem(command.item_id)
    given = (command.lot is not None, command.expires_on is not None)
    if not item.stocked or given != (item.tracks_lots, item.tracks_expiry):
        raise rejections.WrongTracking(command.item_id, item.stocked, item.tracks_lots, item.tracks_expiry)
    state: StockState = states[command.stream]
    refuse_overflow(state, command.quantity)
    distribution: DistributionState = states[f"distribution/{command.item_id}"]
    label, dated = _label(command), _dated(command, distribution)
    held_by = state.holding(label, distribution)
    received = StockReceived(
        lot=label,
        quantity=command.quantity,
        expires_on=command.expires_on,
        usable_until=end_of_day(command.expires_on, site.time_zone) if command.expires_on else None,
        supplier_id=command.supplier_id,
        document=command.document,
        into="quarantined" if held_by else state.lot(label).into,
        held_by=held_by,
        quarantined_now=state.lot(label).quarantined + command.quantity if held_by else 0,
    )
    return [received, *_stocked(command.site_id, command.item_id, distribution), *dated]


def _label(command: ReceiveStock) -> Label:
    """Return the lot's name: an item that tracks expiry without lots has one lot for each date."""
    if command.lot is None and command.expires_on is not None:
        return command.expires_on.isoformat()
    return command.lot


def _dated(command: ReceiveStock, distribution: DistributionState) -> list[To]:
    """Return the fact of a new lot's date, or refuse another date for a known lot."""
    if command.lot is None or command.expires_on is None:
        return []
    known = distribution.dates.get(command.lot)
    if known is None:
        dated = LotDated(lot=command.lot, expires_on=command.expires_on)
        return [To(f"distribution/{command.item_id}", dated)]
    if known != command.expires_on:
        raise rejections.ExpiryDiffers(command.lot, known.isoformat(), command.expires_on.isoformat())
    return []


def _stocked(site_id: str, item_id: str, distribution: DistributionState) -> list[To]:
    if site_id in distribution.sites:
        return []
    return [To(f"distribution/{item_id}", ItemStocked(site_id=site_id))]


def _adjust(command: AdjustStock, states: States, context: Context) -> list[Event | To]:
    state, label, lot = find_lot(command, states)
    if command.delta == 0:
        return []
    if command.delta > 0:
        refuse_overflow(state, command.delta)
        change: dict[str, int] = {lot.into: command.delta}
    else:
        _refuse_to_break_reservations(state, label, -command.delta)
        taken = _take(
            -command.delta, available=lot.available, quarantined=lot.quarantined, expired=lot.expired
        )
        change = {bucket: -quantity for bucket, quantity in taken.items()}
    return [StockAdjusted(lot=label, delta=command.delta, held_by=lot.recalls, **change)]


def _dispose(command: DisposeStock, states: States, context: Context) -> list[Event | To]:
    state, label, lot = find_lot(command, states)
    _refuse_to_break_reservations(state, label, command.quantity)
    taken = _take(command.quantity, expired=lot.expired, quarantined=lot.quarantined, available=lot.available)
    return [StockDisposed(lot=label, quantity=command.quantity, held_by=lot.recalls, **taken)]


def _take(quantity: int, **buckets: int) -> dict[str, int]:
    """Return how many units come from which bucket, the first named first."""
    taken = {}
    for bucket, units in buckets.items():
        taken[bucket] = min(units, quantity)
        quantity -= taken[bucket]
    return taken


def _refuse_to_break_reservations(state: StockState, label: Label, quantity: int) -> None:
    lot = state.lot(label)
    if quantity > lot.on_hand:
        raise rejections.InsufficientStock(quantity, lot.on_hand - lot.reserved)
    if quantity > lot.on_hand - lot.reserved:
        raise rejections.WouldBreakReservation(quantity, lot.on_hand - lot.reserved, lot.reserved)


def _transfer(command: TransferStock, states: States, context: Context) -> list[Event | To]:
    site, there = states[f"sites/{command.to_site_id}"], f"stock/{command.to_site_id}/{command.item_id}"
    if site.time_zone is None:
        raise rejections.UnknownSite(command.to_site_id)
    state, label, lot = find_lot(command, states)
    distribution: DistributionState = states[f"distribution/{command.item_id}"]
    recalls = state.holding(label, distribution)
    if recalls or lot.in_quarantine:
        raise rejections.LotOnHold(label, recalls)
    if not lot.usable_at(context.occurred_at):
        raise rejections.LotExpired(label, str(lot.expires_on))
    if command.quantity > lot.available + lot.reserved:
        raise rejections.InsufficientStock(command.quantity, lot.available)
    if command.quantity > lot.available:
        raise rejections.WouldBreakReservation(command.quantity, lot.available, lot.reserved)
    target: StockState = states[there]
    refuse_overflow(target, command.quantity)
    held_by = target.holding(label, distribution)
    came_in = StockTransferredIn(
        from_site_id=command.site_id,
        lot=label,
        quantity=command.quantity,
        expires_on=lot.expires_on,
        usable_until=end_of_day(lot.expires_on, site.time_zone) if lot.expires_on else None,
        into="quarantined" if held_by else target.lot(label).into,
        held_by=held_by,
        quarantined_now=target.lot(label).quarantined + command.quantity if held_by else 0,
    )
    went_out = StockTransferredOut(to_site_id=command.to_site_id, lot=label, quantity=command.quantity)
    return [went_out, To(there, came_in), *_stocked(command.to_site_id, command.item_id, distribution)]


DECISIONS: dict[type[Command], Callable[[Any, States, Context], list[Event | To]]] = {
    ReceiveStock: _receive,
    AdjustStock: _adjust,
    DisposeStock: _dispose,
    TransferStock: _transfer,
    QuarantineStock: stock_quarantine.quarantine,
    QuarantineRecalledStock: stock_quarantine.quarantine_recalled,
    ReleaseQuarantine: stock_quarantine.release,
    ExpireLot: stock_quarantine.expire,
    ReserveStock: stock_reserve.reserve,
    UnreserveStock: stock_reserve.unreserve,
}
