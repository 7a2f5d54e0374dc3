"""
The rules of orders. What moves goods decides over the order and its stock streams at once.
"""

from collections.abc import Callable, Sequence
from typing import Any

from command_api.decider import Context, Decider, States, To
from command_api.supply import order_place, order_reallocate, order_return, order_settle, order_ship
from command_api.supply.order_state import OrderState, evolve
from schemas import Command, Event
from schemas.errors import NotFound
from schemas.supply.orders import (
    ApproveOrder,
    CancelOrder,
    ConfirmOrder,
    DeclineOrder,
    DeliverOrder,
    LapseApproval,
    MarkOrderRecalled,
    PlaceOrder,
    ReallocateOrder,
    RejectOrder,
    RequestApproval,
    ReturnOrder,
    ShipOrder,
    TimeOutOrder,
)

MOVES_STOCK = (ConfirmOrder, ShipOrder, ReturnOrder, ReallocateOrder)


class Orders(Decider[OrderState]):
    """An order, from being placed to being delivered."""

    collection = "orders"
    initial = OrderState()

    def streams(self, command: Any) -> Sequence[str]:
        """Name what placing an order looks at: its site, its items, its reference."""
        return order_place.streams(command) if isinstance(command, PlaceOrder) else ()

    def further_streams(self, command: Any, states: States) -> Sequence[str]:
        """Name the stock of the lines concerned."""
        order: OrderState = states[command.stream]
        if order.status is None:
            return ()
        named = []
        if isinstance(command, MOVES_STOCK):
            reads_holds = not isinstance(command, ConfirmOrder)
            for item_id in sorted(_items(command, order)):
                named.append(f"stock/{order.site_id}/{item_id}")
                if reads_holds:
                    named.append(f"distribution/{item_id}")
        return named

    def decide(self, command: Any, states: States, context: Context) -> Sequence[Event | To]:
        """Return what follows for the order, or refuse."""
        if states[command.stream].status is None and not isinstance(command, PlaceOrder):
            raise NotFound(command.stream)
        return DECISIONS[type(command)](command, states, context)

    def evolve(self, state: OrderState, event: Any) -> OrderState:
        """Add one fact."""
        return evolve(state, event)


def _items(command: Any, order: OrderState) -> set[str]:
    """Return the stocked items whose stock a command is about."""
    if isinstance(command, ConfirmOrder):
        concerned = set(order.lines) if order.status == "placed" else set()
    elif isinstance(command, ReturnOrder):
        concerned = {part.line_no for part in command.lines}
    elif command.lines is None:
        concerned = {line_no for line_no, line in order.lines.items() if line.outstanding}
    elif isinstance(command, ShipOrder):
        concerned = {part.line_no for part in command.lines}
    else:
        concerned = set(command.lines)
    return {line.item_id for line_no, line in order.lines.items() if line_no in concerned and line.stocked}


DECISIONS: dict[type[Command], Callable[[Any, States, Context], list[Event | To]]] = {
    PlaceOrder: order_place.place,
    RequestApproval: order_settle.request_approval,
    ApproveOrder: order_settle.approve,
    DeclineOrder: order_settle.decline,
    ConfirmOrder: order_settle.confirm,
    RejectOrder: order_settle.reject,
    CancelOrder: order_settle.cancel,
    TimeOutOrder: order_settle.time_out,
    LapseApproval: order_settle.lapse_approval,
    ReallocateOrder: order_reallocate.reallocate,
    MarkOrderRecalled: order_return.mark_recalled,
    ShipOrder: order_ship.ship,
    DeliverOrder: order_ship.deliver,
    ReturnOrder: order_return.return_goods,
}
