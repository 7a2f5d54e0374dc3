"""
Orders: what a customer asked a site for, and what became of it.

A line's `reserved` counts all units that were allotted to it, shipped ones included. So
`returned ≤ shipped ≤ reserved ≤ quantity`, and once confirmed `quantity = reserved + short`. A line whose
item is not stocked needs no reservation: confirming allots it in full, without lots.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.messages import (
    ERASED,
    INTEGER_MAX,
    Amount,
    Command,
    Count,
    Day,
    Event,
    Flag,
    Id,
    Instant,
    Message,
    Money,
    Personal,
    Quantity,
    Text,
)
from schemas.supply.quantities import (
    ALLOCATIONS_MAX,
    LINES_MAX,
    LineLot,
    LineNo,
    LineQuantity,
    LineShortage,
    LotQuantity,
    OrderFacts,
    OrderStatus,
    RuleName,
)

Contact = Annotated[Text | None, Personal("customer_id", erased=ERASED)]
"""Whom to ask about an order: encrypted with the customer's key, `[erased]` once the customer is erased."""
Fulfilment = Literal["complete", "partial"]
CancelCause = Literal["requested", "timed-out"]


class LineToPlace(Message):
    """A line as it is ordered."""

    line_no: LineNo
    item_id: Id
    quantity: Quantity
    unit_price: Money


class PlacedLine(Message):
    """A line as it was ordered, and whether its item is kept in stock."""

    line_no: LineNo
    item_id: Id
    quantity: Quantity
    unit_price: Money
    stocked: Flag


class ReallocatedLine(Message):
    """A line's lots as they are now, shipped ones included."""

    line_no: LineNo
    lots: tuple[LotQuantity, ...]
    reserved: Count
    short: Count


class PlaceOrder(Command, route="orders/{order_id}/place", permission="clerk"):
    """Order items from a site."""

    order_id: Id
    customer_id: Id
    site_id: Id
    lines: Annotated[tuple[LineToPlace, ...], Field(min_length=1, max_length=LINES_MAX)]
    fulfilment: Fulfilment = "complete"
    deliver_to: Text | None = None
    ordered_at: Instant | None = None
    requested_on: Day | None = None
    customer_reference: Text | None = None
    contact: Contact = None

    @model_validator(mode="after")
    def _total_is_an_amount(self) -> Self:
        if sum(line.quantity * line.unit_price.amount for line in self.lines) > INTEGER_MAX:
            raise ValueError("the order's total must not exceed 2^53 minor units")
        return self


class ApproveOrder(Command, route="orders/{order_id}/approve", permission="admin"):
    """Let an order that awaits approval go on."""

    order_id: Id


class DeclineOrder(Command, route="orders/{order_id}/decline", permission="admin"):
    """Reject an order that awaits approval; its rule is `declined`."""

    order_id: Id


class RequestApproval(Command, route="orders/{order_id}/request-approval", permission="system"):
    """Have an order wait for approval, its total being over the limit."""

    order_id: Id
    limit: Amount | None = None


class ConfirmOrder(Command, route="orders/{order_id}/confirm", permission="system"):
    """
    Promise what is reserved; refused unless the stock holds exactly these allocations for the order.

    What an order that takes a part has no allocation for is short.
    """

    order_id: Id
    allocations: Annotated[tuple[LineLot, ...], Field(max_length=ALLOCATIONS_MAX)] = ()


class RejectOrder(Command, route="orders/{order_id}/reject", permission="system"):
    """Turn an order down by a rule."""

    order_id: Id
    rule: RuleName
    lines: Annotated[tuple[LineShortage, ...], Field(max_length=LINES_MAX)] = ()


class CancelOrder(Command, route="orders/{order_id}/cancel", permission="clerk"):
    """Call an order off of which nothing is shipped."""

    order_id: Id


class TimeOutOrder(Command, route="orders/{order_id}/time-out", permission="system"):
    """Cancel an order that is still placed; one that is settled or awaits approval is left as it is."""

    order_id: Id


class LapseApproval(Command, route="orders/{order_id}/lapse-approval", permission="system"):
    """Cancel an order that still awaits approval; any other is left as it is."""

    order_id: Id


class ReallocateOrder(Command, route="orders/{order_id}/reallocate", permission="system"):
    """
    Fill an order anew whose reserved units were taken away by a recall, a quarantine or expiry.

    Reserves what is missing in the stock streams, in the same append; what cannot be had is short. Nothing is
    missing: no events. `lines`: only these; null: all.
    """

    order_id: Id
    lines: Annotated[tuple[LineNo, ...], Field(min_length=1, max_length=LINES_MAX)] | None = None


class MarkOrderRecalled(Command, route="orders/{order_id}/mark-recalled", permission="system"):
    """Note that recalled lots were shipped to the order's customer."""

    order_id: Id
    recall_id: Id
    lines: Annotated[tuple[LineLot, ...], Field(min_length=1, max_length=ALLOCATIONS_MAX)]


class ShipOrder(Command, route="orders/{order_id}/ship", permission="warehouse"):
    """Send what is reserved, all of it or the lines named; lots as reserved."""

    order_id: Id
    shipment_id: Id
    lines: Annotated[tuple[LineQuantity, ...], Field(min_length=1, max_length=LINES_MAX)] | None = None
    carrier: Text | None = None
    tracking: Text | None = None


class DeliverOrder(Command, route="orders/{order_id}/deliver", permission="warehouse"):
    """Note that a shipment has arrived."""

    order_id: Id
    shipment_id: Id


class ReturnOrder(Command, route="orders/{order_id}/return", permission="clerk"):
    """Take shipped units back, into quarantine at the order's site."""

    order_id: Id
    return_id: Id
    lines: Annotated[tuple[LineLot, ...], Field(min_length=1, max_length=ALLOCATIONS_MAX)]


class OrderPlaced(Event):
    """A customer ordered."""

    customer_id: Id
    site_id: Id
    lines: tuple[PlacedLine, ...]
    fulfilment: Fulfilment
    deliver_to: Text | None = None
    ordered_at: Instant
    requested_on: Day | None = None
    customer_reference: Text | None = None
    contact: Contact = None
    total: Money


class OrderApprovalRequested(Event):
    """The order waits for somebody's approval."""

    limit: Amount | None = None


class OrderApproved(Event):
    """The order may go on: it is placed again."""


class OrderRejected(OrderFacts, Event):
    """The order was turned down."""

    rule: RuleName
    lines: tuple[LineShortage, ...] = ()


class OrderConfirmed(OrderFacts, Event):
    """The order is promised, but for what is short; in full where an item is not stocked."""

    allocations: tuple[LineLot, ...]
    short: tuple[LineQuantity, ...] = ()


class OrderCancelled(OrderFacts, Event):
    """The order was called off; nothing is reserved for it any longer."""

    cause: CancelCause = "requested"


class OrderReallocated(OrderFacts, Event):
    """Lines were filled anew or became short; `removed` has what this shortage takes off."""

    lines: tuple[ReallocatedLine, ...]
    status: OrderStatus
    """The order's status now: nothing may be left to ship, and all of it may be delivered."""


class OrderRecalled(Event):
    """Recalled lots had been shipped to the customer."""

    recall_id: Id
    customer_id: Id
    lines: tuple[LineLot, ...]


class OrderShipped(OrderFacts, Event):
    """A shipment left the site."""

    shipment_id: Id
    carrier: Text | None = None
    tracking: Text | None = None
    lines: tuple[LineLot, ...]
    status: OrderStatus
    """`partially-shipped`, or `shipped` when nothing is left to ship."""
    first: Flag
    """Whether it is the order's first shipment."""


class OrderDelivered(OrderFacts, Event):
    """A shipment arrived."""

    shipment_id: Id
    status: OrderStatus
    """`delivered` when nothing is left to ship or deliver."""


class OrderReturned(OrderFacts, Event):
    """Shipped units came back."""

    return_id: Id
    lines: tuple[LineLot, ...]
    status: OrderStatus
    first: Flag
    """Whether it is the order's first return."""
