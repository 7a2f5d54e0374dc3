"""Keeps lots from being used: quarantine, recalls, expiry. Order lines lose what they had reserved of them."""

from datetime import datetime

from command_api.decider import Context, States, To
from command_api.supply.distribution import DistributionState
from command_api.supply.stock_lots import find_lot
from command_api.supply.stock_state import Label, Lot, StockState
from schemas import Event
from schemas.errors import NotFound
from schemas.supply import rejections
from schemas.supply.stock import (
    ExpireLot,
    LotExpired,
    QuarantineRecalledStock,
    QuarantineReleased,
    QuarantineStock,
    ReleaseQuarantine,
    StockQuarantined,
)


def quarantine(command: QuarantineStock, states: States, context: Context) -> list[Event | To]:
    """Return the quarantine of one lot; nothing where it is complete already."""
    state, label, lot = find_lot(command, states)
    distribution: DistributionState = states[f"distribution/{command.item_id}"]
    if command.recall_id is not None and command.recall_id not in state.holding(label, distribution):
        raise NotFound(f"recall {command.recall_id} that holds the lot")
    return [*_quarantined(state, label, lot, command.cause, command.recall_id)]


def quarantine_recalled(
    command: QuarantineRecalledStock, states: States, context: Context
) -> list[Event | To]:
    """Return the quarantine of every lot on hand that a recall holds."""
    distribution: DistributionState = states[f"distribution/{command.item_id}"]
    if all(hold.recall_id != command.recall_id for hold in distribution.holds):
        raise NotFound(f"recall {command.recall_id} that holds the item")
    state: StockState = states[command.stream]
    return [
        event
        for label, lot in state.in_order_of_receipt()
        if lot.on_hand and command.recall_id in state.holding(label, distribution)
        for event in _quarantined(state, label, lot, f"recall {command.recall_id}", command.recall_id)
    ]


def _quarantined(
    state: StockState, label: Label, lot: Lot, cause: str, recall_id: str | None
) -> list[StockQuarantined]:
    is_recorded = lot.in_quarantine and (recall_id is None or recall_id in lot.recalls)
    if is_recorded and lot.quarantined == lot.on_hand:
        return []
    return [
        StockQuarantined(
            lot=label,
            cause=cause,
            recall_id=recall_id,
            available=lot.available,
            reserved=lot.reserved,
            expired=lot.expired,
            quarantined=lot.on_hand,
            released=state.reserved_from(label) if lot.reserved else (),
            held_by=tuple(other for other in lot.recalls if other != recall_id),
        )
    ]


def release(command: ReleaseQuarantine, states: States, context: Context) -> list[Event | To]:
    """Return the end of a lot's quarantine, unless an open recall holds it."""
    state, label, lot = find_lot(command, states)
    distribution: DistributionState = states[f"distribution/{command.item_id}"]
    if open_recalls := distribution.holding_open(label):
        raise rejections.LotOnHold(label, open_recalls)
    cleared = state.holding(label, distribution)
    if not (lot.in_quarantine or lot.quarantined or cleared):
        return []
    into = "expired" if lot.is_expired else "available"
    return [QuarantineReleased(lot=label, quantity=lot.quarantined, into=into, cleared=cleared)]


def expire(command: ExpireLot, states: States, context: Context) -> list[Event | To]:
    """Return the end of a lot's last day; units in quarantine stay there."""
    state, label, lot = find_lot(command, states)
    if lot.is_expired:
        return []
    if lot.usable_until is None or _latest(context) < lot.usable_until:
        raise rejections.WrongStatus(f"lot {label}", "usable")
    return [
        LotExpired(
            lot=label,
            available=lot.available,
            reserved=lot.reserved,
            released=state.reserved_from(label) if lot.reserved else (),
        )
    ]


def _latest(context: Context) -> datetime:
    """Return the decision's time: a timer's command may carry the time of the event that set it."""
    return max(context.now, context.occurred_at)
