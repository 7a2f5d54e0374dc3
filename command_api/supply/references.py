"""Who has a customer's reference now, whichever order that is: folded from the orders' events that carry its tag."""

from dataclasses import dataclass
from typing import Any

from command_api.decider import Decider, To
from command_api.supply.order_state import OrderState
from schemas import Event
from schemas.supply.orders import (
    OrderCancelled,
    OrderDelivered,
    OrderPlaced,
    OrderReallocated,
    OrderRejected,
)
from schemas.supply.references import reference_tag


@dataclass(frozen=True, slots=True)
class ReferenceState:
    """The open order that has the reference."""

    order_id: str | None = None


class References(Decider[ReferenceState]):
    """A reference belongs to one open order of its customer at a time."""

    collection = "references"
    by_tag = True
    initial = ReferenceState()

    def evolve_tagged(self, state: ReferenceState, stream: str, event: Any) -> ReferenceState:
        """Add one fact of an order."""
        order_id = stream.split("/")[1]
        match event:
            case OrderPlaced():
                return ReferenceState(order_id)
            case OrderRejected() | OrderCancelled() if state.order_id == order_id:
                return ReferenceState()
            case OrderDelivered(status="delivered") | OrderReallocated(status="delivered") if (
                state.order_id == order_id
            ):
                return ReferenceState()
        return state


def about_reference(stream: str, order: OrderState, event: Event) -> Event | To:
    """Return an event that may settle an order, with the tag of the order's reference where it has one."""
    if order.reference is None:
        return event
    return To(stream, event, (reference_tag(order.customer_id, order.reference),))
