"""
The order funnel: how many orders ever reached each stage; and how many have each status now.

An order counts once for a stage, however often it comes by: events say what the order's status was before, and
whether a return is its first. `shipped` is reached when nothing is left to ship.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from projectors.projection import Key, Projection, Stream, when
from projectors.supply.documents import Document
from schemas import Event
from schemas.supply.orders import (
    OrderApprovalRequested,
    OrderApproved,
    OrderCancelled,
    OrderConfirmed,
    OrderDelivered,
    OrderPlaced,
    OrderReallocated,
    OrderRejected,
    OrderReturned,
    OrderShipped,
)

SENT = ("shipped", "delivered")
BECOMES: dict[type[Event], str] = {
    OrderConfirmed: "confirmed",
    OrderRejected: "rejected",
    OrderCancelled: "cancelled",
}


@dataclass(frozen=True, slots=True)
class Funnel(Document):
    """How many orders ever reached each stage."""

    placed: int = 0
    confirmed: int = 0
    shipped: int = 0
    delivered: int = 0
    rejected: int = 0
    cancelled: int = 0
    returned: int = 0


@dataclass(frozen=True, slots=True)
class StatusCount(Document):
    """How many orders have a status."""

    status: str
    orders: int


def _tenant(event: Any, stream: Stream) -> Iterable[Key]:
    return ((),)


def _statuses(event: Any) -> tuple[str | None, str]:
    """Return an order's status before and after an event."""
    match event:
        case OrderPlaced():
            return None, "placed"
        case OrderApprovalRequested():
            return "placed", "awaiting-approval"
        case OrderApproved():
            return "awaiting-approval", "placed"
        case _:
            return event.status_before, BECOMES.get(type(event)) or event.status


def _status_keys(event: Any, stream: Stream) -> Iterable[Key]:
    before, after = _statuses(event)
    if before == after:
        return ()
    return [(status,) for status in (before, after) if status is not None]


class OrderFunnel(Projection[Funnel]):
    """How far orders have come."""

    name, version, row, key = "order-funnel", 1, Funnel, ()
    tables = {  # noqa: RUF012  # a declaration, like the names beside it
        "rows": (Funnel, ()),
        "statuses": (StatusCount, ("status",)),
    }
    document = None

    @when(OrderPlaced, OrderConfirmed, OrderRejected, OrderCancelled, keys=_tenant)
    def settled(self, row: Funnel | None, event: Any, stream: Stream) -> Funnel:
        """Count an order that was placed or settled."""
        return _counted(row, BECOMES.get(type(event), "placed"))

    @when(OrderShipped, OrderDelivered, OrderReallocated, keys=_tenant)
    def moved(self, row: Funnel | None, event: Any, stream: Stream) -> Funnel:
        """Count an order of which nothing is left to ship, or to deliver."""
        stages = []
        if event.status in SENT and event.status_before not in SENT:
            stages.append("shipped")
        if event.status == "delivered" and event.status_before != "delivered":
            stages.append("delivered")
        return _counted(row, *stages)

    @when(OrderReturned, keys=_tenant)
    def returned(self, row: Funnel | None, event: OrderReturned, stream: Stream) -> Funnel:
        """Count an order of which something came back."""
        return _counted(row, *(["returned"] if event.first else []))

    @when(
        OrderPlaced,
        OrderApprovalRequested,
        OrderApproved,
        OrderConfirmed,
        OrderRejected,
        OrderCancelled,
        OrderShipped,
        OrderDelivered,
        OrderReallocated,
        keys=_status_keys,
        table="statuses",
    )
    def changed(self, row: StatusCount | None, event: Any, stream: Stream, key: Key) -> StatusCount | None:
        """Take an order from one status to another."""
        (status,) = key
        orders = (row.orders if row else 0) + (1 if status == _statuses(event)[1] else -1)
        return StatusCount(status, orders) if orders else None


def _counted(row: Funnel | None, *stages: str) -> Funnel:
    row = row or Funnel()
    return replace(row, **{stage: getattr(row, stage) + 1 for stage in stages})
