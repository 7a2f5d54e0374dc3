"""
What rules know of an order: its lines and how far each has come, its shipments and returns.

`reserved` counts all that was allotted to a line, shipped units included; which lots are reserved for it is the
stock's to say.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from schemas.supply.orders import (
    OrderApprovalRequested,
    OrderApproved,
    OrderCancelled,
    OrderConfirmed,
    OrderDelivered,
    OrderPlaced,
    OrderReallocated,
    OrderRecalled,
    OrderRejected,
    OrderReturned,
    OrderShipped,
)
from schemas.supply.quantities import LineLot, Removed

NEVER = datetime.min.replace(tzinfo=UTC)
Place = tuple[int, str | None]
"""A line and a lot."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line and how far it has come."""

    item_id: str
    quantity: int
    price: int
    stocked: bool
    reserved: int = 0
    shipped: int = 0
    short: int = 0

    @property
    def outstanding(self) -> int:
        """How many units are promised and not shipped."""
        return self.reserved - self.shipped


@dataclass(frozen=True, slots=True)
class Shipment:
    """What was sent at once, by line, and whether it has arrived."""

    units: Mapping[int, int]
    is_delivered: bool = False


@dataclass(frozen=True, slots=True)
class OrderState:
    """As much of an order as rules need."""

    status: str | None = None
    """None: it has not been placed."""
    customer_id: str = ""
    site_id: str = ""
    ordered_at: datetime = NEVER
    currency: str = ""
    takes_part: bool = False
    reference: str | None = None
    is_approved: bool = False
    rule: str | None = None
    """The rule that it was rejected by."""
    lines: Mapping[int, Line] = field(default_factory=dict)
    shipments: Mapping[str, Shipment] = field(default_factory=dict)
    shipped: Mapping[Place, int] = field(default_factory=dict)
    returned: Mapping[Place, int] = field(default_factory=dict)
    returns: Mapping[str, Mapping[Place, int]] = field(default_factory=dict)
    recalls: Mapping[str, frozenset[Place]] = field(default_factory=dict)

    def facts(self, removed: Mapping[int, int]) -> dict[str, Any]:
        """Return what folds of demand need; `removed` has the units, by line, that no longer count."""
        return {
            "customer_id": self.customer_id,
            "site_id": self.site_id,
            "ordered_at": self.ordered_at,
            "currency": self.currency,
            "status_before": self.status,
            "removed": tuple(
                Removed(
                    line_no=line_no,
                    item_id=self.lines[line_no].item_id,
                    quantity=quantity,
                    amount=quantity * self.lines[line_no].price,
                )
                for line_no, quantity in removed.items()
                if quantity
            ),
        }

    def all_units(self) -> dict[int, int]:
        """Return the units, by line, that still count: all but what is short."""
        return {line_no: line.quantity - line.short for line_no, line in self.lines.items()}

    def total(self) -> int:
        """Return what all that was ordered costs, in minor units."""
        return sum(line.quantity * line.price for line in self.lines.values())

    def with_lines(self, lines: Mapping[int, Line], **changes: Any) -> "OrderState":
        """Return the order with some lines changed."""
        return replace(self, lines={**self.lines, **lines}, **changes)


def evolve(state: OrderState, event: Any) -> OrderState:
    """Add one fact."""
    match event:
        case OrderPlaced():
            return _placed(event)
        case OrderApprovalRequested():
            return replace(state, status="awaiting-approval")
        case OrderApproved():
            return replace(state, status="placed", is_approved=True)
        case OrderConfirmed():
            return _confirmed(state, event)
        case OrderRejected(rule=rule):
            return replace(state, status="rejected", rule=rule)
        case OrderCancelled():
            return replace(state, status="cancelled")
        case OrderReallocated():
            lines = {
                part.line_no: replace(state.lines[part.line_no], reserved=part.reserved, short=part.short)
                for part in event.lines
                if part.line_no in state.lines
            }
            return state.with_lines(lines, status=event.status)
        case OrderShipped():
            return _shipped(state, event)
        case OrderDelivered(shipment_id=shipment_id) if shipment_id in state.shipments:
            delivered = replace(state.shipments[shipment_id], is_delivered=True)
            return replace(state, shipments={**state.shipments, shipment_id: delivered}, status=event.status)
        case OrderReturned():
            units = by_place(event.lines)
            return replace(
                state,
                returned=_sum(state.returned, units),
                returns={**state.returns, event.return_id: units},
            )
        case OrderRecalled(recall_id=recall_id):
            marked = state.recalls.get(recall_id, frozenset()) | by_place(event.lines).keys()
            return replace(state, recalls={**state.recalls, recall_id: marked})
    return state


def by_place(lines: Iterable[LineLot]) -> dict[Place, int]:
    """Return units by line and lot."""
    units: dict[Place, int] = {}
    for part in lines:
        place = (part.line_no, part.lot)
        units[place] = units.get(place, 0) + part.quantity
    return units


def by_line(lines: Iterable[LineLot]) -> dict[int, int]:
    """Return units by line."""
    units: dict[int, int] = {}
    for part in lines:
        units[part.line_no] = units.get(part.line_no, 0) + part.quantity
    return units


def _sum(one: Mapping[Place, int], other: Mapping[Place, int]) -> dict[Place, int]:
    return {**one, **{place: one.get(place, 0) + units for place, units in other.items()}}


def _placed(event: OrderPlaced) -> OrderState:
    return OrderState(
        status="placed",
        customer_id=event.customer_id,
        site_id=event.site_id,
        ordered_at=event.ordered_at,
        currency=event.total.currency,
        takes_part=event.fulfilment == "partial",
        reference=event.customer_reference,
        lines={
            line.line_no: Line(line.item_id, line.quantity, line.unit_price.amount, line.stocked)
            for line in event.lines
        },
    )


def _confirmed(state: OrderState, event: OrderConfirmed) -> OrderState:
    reserved = by_line(event.allocations)
    short = {part.line_no: part.quantity for part in event.short}
    lines = {
        line_no: replace(
            line,
            reserved=reserved.get(line_no, 0) if line.stocked else line.quantity,
            short=short.get(line_no, 0),
        )
        for line_no, line in state.lines.items()
    }
    return replace(state, status="confirmed", lines=lines)


def _shipped(state: OrderState, event: OrderShipped) -> OrderState:
    units = by_line(event.lines)
    lines = {
        line_no: replace(line, shipped=line.shipped + units[line_no])
        for line_no, line in state.lines.items()
        if line_no in units
    }
    return state.with_lines(
        lines,
        status=event.status,
        shipments={**state.shipments, event.shipment_id: Shipment(units)},
        shipped=_sum(state.shipped, by_place(event.lines)),
    )
