"""Settles orders: approved or declined, confirmed or rejected, cancelled."""

from typing import Any

from command_api.decider import Context, States, To
from command_api.supply.order_state import OrderState, by_place
from command_api.supply.references import about_reference
from command_api.supply.stock_state import StockState
from schemas import Event
from schemas.supply import rejections
from schemas.supply.orders import (
    ApproveOrder,
    CancelCause,
    CancelOrder,
    ConfirmOrder,
    DeclineOrder,
    LapseApproval,
    OrderApprovalRequested,
    OrderApproved,
    OrderCancelled,
    OrderConfirmed,
    OrderRejected,
    RejectOrder,
    RequestApproval,
    TimeOutOrder,
)
from schemas.supply.quantities import LineQuantity

DECLINED = "declined"
UNSETTLED = ("placed", "awaiting-approval")
PROMISED = ("confirmed", "partially-shipped", "shipped", "delivered")


def request_approval(command: RequestApproval, states: States, context: Context) -> list[Event | To]:
    """Return that the order waits; nothing where it does, or is approved."""
    order: OrderState = states[command.stream]
    if order.is_approved or order.status == "awaiting-approval":
        return []
    if order.status != "placed":
        raise wrong_status(command, order)
    return [OrderApprovalRequested(limit=command.limit)]


def approve(command: ApproveOrder, states: States, context: Context) -> list[Event | To]:
    """Return that the order goes on."""
    order: OrderState = states[command.stream]
    if order.is_approved:
        return []
    if order.status != "awaiting-approval":
        raise wrong_status(command, order)
    return [OrderApproved()]


def decline(command: DeclineOrder, states: States, context: Context) -> list[Event | To]:
    """Return that the order is rejected by somebody."""
    order: OrderState = states[command.stream]
    if order.status == "rejected" and order.rule == DECLINED:
        return []
    if order.status != "awaiting-approval":
        raise wrong_status(command, order)
    rejected = OrderRejected(rule=DECLINED, **order.facts(order.all_units()))
    return [about_reference(command.stream, order, rejected)]


def reject(command: RejectOrder, states: States, context: Context) -> list[Event | To]:
    """Return that the order is rejected by a rule."""
    order: OrderState = states[command.stream]
    if order.status == "rejected":
        return []
    if order.status not in UNSETTLED:
        raise wrong_status(command, order)
    rejected = OrderRejected(rule=command.rule, lines=command.lines, **order.facts(order.all_units()))
    return [about_reference(command.stream, order, rejected)]


def cancel(command: CancelOrder, states: States, context: Context) -> list[Event | To]:
    """Return that the order is called off, if nothing of it is shipped."""
    order: OrderState = states[command.stream]
    if order.status == "cancelled":
        return []
    if order.status not in (*UNSETTLED, "confirmed"):
        raise wrong_status(command, order)
    return _cancelled(command, order, "requested")


def time_out(command: TimeOutOrder, states: States, context: Context) -> list[Event | To]:
    """Return that the order is called off, if nobody has settled it."""
    order: OrderState = states[command.stream]
    return _cancelled(command, order, "timed-out") if order.status == "placed" else []


def lapse_approval(command: LapseApproval, states: States, context: Context) -> list[Event | To]:
    """Return that the order is called off, if nobody has approved or declined it."""
    order: OrderState = states[command.stream]
    return _cancelled(command, order, "timed-out") if order.status == "awaiting-approval" else []


def _cancelled(command: Any, order: OrderState, cause: CancelCause) -> list[Event | To]:
    cancelled = OrderCancelled(cause=cause, **order.facts(order.all_units()))
    return [about_reference(command.stream, order, cancelled)]


def confirm(command: ConfirmOrder, states: States, context: Context) -> list[Event | To]:
    """Return the promise of what the stock has reserved for the order."""
    order: OrderState = states[command.stream]
    if order.status in PROMISED:
        return []
    if order.status != "placed":
        raise wrong_status(command, order)
    reserved = _reserved(command, order, states)
    short = {
        line_no: line.quantity - reserved.get(line_no, 0)
        for line_no, line in order.lines.items()
        if line.stocked and reserved.get(line_no, 0) < line.quantity
    }
    promises_something = any(reserved.values()) or not all(line.stocked for line in order.lines.values())
    if short and not (order.takes_part and promises_something):
        raise _shortage(order, {line_no: reserved.get(line_no, 0) for line_no in short})
    return [
        OrderConfirmed(
            allocations=command.allocations,
            short=tuple(LineQuantity(line_no=line_no, quantity=units) for line_no, units in short.items()),
            **order.facts(short),
        )
    ]


def _reserved(command: ConfirmOrder, order: OrderState, states: States) -> dict[int, int]:
    """Return the units by line that the stock has reserved, if that is just what the command says."""
    claimed: dict[int, dict[str | None, int]] = {}
    for (line_no, lot), quantity in by_place(command.allocations).items():
        claimed.setdefault(line_no, {})[lot] = quantity
    reserved: dict[int, int] = {}
    for line_no, line in order.lines.items():
        if line.stocked:
            stock: StockState = states[f"stock/{order.site_id}/{line.item_id}"]
            held = stock.reserved_for(command.order_id, line_no)
            if held != claimed.pop(line_no, {}) or sum(held.values()) > line.quantity:
                raise _shortage(order, {line_no: sum(held.values())})
            reserved[line_no] = sum(held.values())
    if claimed:
        raise _shortage(order, dict.fromkeys(claimed, 0))
    return reserved


def _shortage(order: OrderState, available: dict[int, int]) -> rejections.InsufficientStock:
    """Return the refusal that says what lines want and what is reserved for them."""
    lines = [
        {
            "line_no": line_no,
            "requested": order.lines[line_no].quantity if line_no in order.lines else 0,
            "available": units,
        }
        for line_no, units in available.items()
    ]
    return rejections.InsufficientStock(
        sum(int(line["requested"]) for line in lines), sum(available.values()), lines
    )


def wrong_status(command: Any, order: OrderState) -> rejections.WrongStatus:
    """Return the refusal that names the order's status."""
    return rejections.WrongStatus(command.stream, str(order.status))
