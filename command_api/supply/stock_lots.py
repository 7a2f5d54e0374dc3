"""Finds the lot that a command names, and says what is wrong where it is not there."""

from typing import Any

from command_api.decider import States
from command_api.supply.stock_state import Label, Lot, StockState
from schemas.messages import INTEGER_MAX
from schemas.supply import rejections

LOTS_NAMED_MAX = 20


def find_lot(command: Any, states: States) -> tuple[StockState, Label, Lot]:
    """
    Return the stock, the lot's name and the lot that a command names.

    Raises:
        UnknownSite: There is no such site; so for the item.
        WrongTracking: The item has no lots, or has lots and the command names none.
        UnknownLot: The lot has never been here.
    """
    state: StockState = states[command.stream]
    lot = state.lots.get(command.lot)
    if lot is not None:
        return state, command.lot, lot
    item = states[f"items/{command.item_id}"]
    if states[f"sites/{command.site_id}"].time_zone is None:
        raise rejections.UnknownSite(command.site_id)
    if not item.exists:
        raise rejections.UnknownItem(command.item_id)
    has_names = item.tracks_lots or item.tracks_expiry
    if (command.lot is None and item.tracks_lots) or (command.lot is not None and not has_names):
        raise rejections.WrongTracking(command.item_id, item.stocked, item.tracks_lots, item.tracks_expiry)
    labels = [label for label, _ in state.in_order_of_receipt() if label is not None]
    if command.lot is None and len(labels) == 1:
        return state, labels[0], state.lot(labels[0])
    raise rejections.UnknownLot(command.lot, labels[:LOTS_NAMED_MAX] if command.lot is None else ())


def refuse_overflow(state: StockState, quantity: int) -> None:
    """Refuse units beyond what an integer of 2^53 counts."""
    if state.on_hand + quantity > INTEGER_MAX:
        raise rejections.QuantityOverflow(state.on_hand, quantity)
