"""
Orders: one row each, made from its stream; and which orders have which items, for the list by item.

A line's `reserved` and `lots` count what was allotted to it, shipped units included.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

import orjson

from projectors.projection import Key, Projection, Stream, when
from projectors.supply.documents import Document, Json
from schemas.messages import Money, format_instant
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
    PlacedLine,
)
from schemas.supply.quantities import LineLot


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an order, and how far it has come."""

    line_no: int
    item_id: str
    quantity: int
    unit_price: Json
    reserved: int = 0
    shipped: int = 0
    returned: int = 0
    short: int = 0
    lots: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class Order(Document):
    """An order."""

    order_id: str
    stream: str
    version: int
    status: str
    customer_id: str
    customer_reference: str | None
    site_id: str
    deliver_to: str | None
    fulfilment: str
    ordered_at: datetime
    requested_on: str | None
    updated_at: datetime
    total: Json
    recalls: tuple[str, ...]
    contact: str | None
    lines: tuple[Line, ...]
    shipments: tuple[Json, ...] = ()
    returns: tuple[Json, ...] = ()
    rejection: Json | None = None

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the row that `encode` wrote."""
        members: dict[str, Any] = orjson.loads(data)
        members["ordered_at"] = datetime.fromisoformat(members["ordered_at"])
        members["updated_at"] = datetime.fromisoformat(members["updated_at"])
        members["lines"] = tuple(Line(**line) for line in members["lines"])
        return cls(**members)

    def after(self, stream: Stream, **changes: Any) -> "Order":
        """Return the order after an event that changed this of it."""
        return replace(self, version=stream.version, updated_at=stream.recorded_at, **changes)

    def with_lines(self, changes: Mapping[int, Mapping[str, Any]]) -> tuple[Line, ...]:
        """Return the lines with these changes, by line number."""
        return tuple(
            replace(line, **changes[line.line_no]) if line.line_no in changes else line for line in self.lines
        )


@dataclass(frozen=True, slots=True)
class OrderedItem(Document):
    """That an order has an item, and where it stands among the item's orders."""

    item_id: str
    order_id: str
    ordered_at: datetime

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the row that `encode` wrote."""
        members: dict[str, Any] = orjson.loads(data)
        return cls(**{**members, "ordered_at": datetime.fromisoformat(members["ordered_at"])})


def _item_keys(event: OrderPlaced, stream: Stream) -> Iterable[Key]:
    return [(item_id, stream.ids[0]) for item_id in dict.fromkeys(line.item_id for line in event.lines)]


class Orders(Projection[Order]):
    """Every order, and what became of it."""

    name, version, row, key = "orders", 2, Order, ("order_id",)
    tables = {  # noqa: RUF012  # a declaration, like the names beside it
        "rows": (Order, ("order_id",)),
        "items": (OrderedItem, ("item_id", "order_id")),
    }

    @when(OrderPlaced)
    def placed(self, row: Order | None, event: OrderPlaced, stream: Stream) -> Order:
        """Begin the order's row."""
        return Order(
            order_id=stream.ids[0],
            stream=stream.name,
            version=stream.version,
            status="placed",
            customer_id=event.customer_id,
            customer_reference=event.customer_reference,
            site_id=event.site_id,
            deliver_to=event.deliver_to,
            fulfilment=event.fulfilment,
            ordered_at=event.ordered_at,
            requested_on=event.requested_on.isoformat() if event.requested_on else None,
            updated_at=stream.recorded_at,
            total=_money(event.total),
            recalls=(),
            contact=event.contact,
            lines=tuple(_line(line) for line in event.lines),
        )

    @when(OrderPlaced, keys=_item_keys, table="items")
    def ordered(self, row: OrderedItem | None, event: OrderPlaced, stream: Stream, key: Key) -> OrderedItem:
        """Note that the order has the item."""
        item_id, order_id = key
        return OrderedItem(item_id, order_id, event.ordered_at)

    @when(OrderApprovalRequested)
    def approval_requested(self, row: Order, event: OrderApprovalRequested, stream: Stream) -> Order:
        """Let the order wait."""
        return row.after(stream, status="awaiting-approval")

    @when(OrderApproved)
    def approved(self, row: Order, event: OrderApproved, stream: Stream) -> Order:
        """Let the order go on."""
        return row.after(stream, status="placed")

    @when(OrderRejected)
    def rejected(self, row: Order, event: OrderRejected, stream: Stream) -> Order:
        """Say why it was turned down."""
        lines = [
            {"line_no": line.line_no, "requested": line.requested, "available": line.available}
            for line in event.lines
        ]
        return row.after(stream, status="rejected", rejection={"rule": event.rule, "lines": lines})

    @when(OrderConfirmed)
    def confirmed(self, row: Order, event: OrderConfirmed, stream: Stream) -> Order:
        """Allot lots to lines; what is not short is reserved, of items without stock too."""
        short = {part.line_no: part.quantity for part in event.short}
        lots = _lots_by_line(event.allocations)
        changes = {
            line.line_no: {
                "reserved": line.quantity - short.get(line.line_no, 0),
                "short": short.get(line.line_no, 0),
                "lots": lots.get(line.line_no, ()),
            }
            for line in row.lines
        }
        return row.after(stream, status="confirmed", lines=row.with_lines(changes))

    @when(OrderCancelled)
    def cancelled(self, row: Order, event: OrderCancelled, stream: Stream) -> Order:
        """Take back what was allotted: nothing has been shipped."""
        nothing = {line.line_no: {"reserved": 0, "lots": ()} for line in row.lines}
        return row.after(stream, status="cancelled", lines=row.with_lines(nothing))

    @when(OrderReallocated)
    def reallocated(self, row: Order, event: OrderReallocated, stream: Stream) -> Order:
        """Allot other lots to some lines."""
        changes = {
            line.line_no: {
                "reserved": line.reserved,
                "short": line.short,
                "lots": tuple({"lot": part.lot, "quantity": part.quantity} for part in line.lots),
            }
            for line in event.lines
        }
        return row.after(stream, status=event.status, lines=row.with_lines(changes))

    @when(OrderRecalled)
    def recalled(self, row: Order, event: OrderRecalled, stream: Stream) -> Order:
        """Note the recall."""
        return row.after(stream, recalls=tuple(dict.fromkeys((*row.recalls, event.recall_id))))

    @when(OrderShipped)
    def shipped(self, row: Order, event: OrderShipped, stream: Stream) -> Order:
        """Add the shipment."""
        shipment = {
            "shipment_id": event.shipment_id,
            "shipped_at": format_instant(stream.occurred_at),
            "delivered_at": None,
            "carrier": event.carrier,
            "tracking": event.tracking,
            "lines": _line_lots(event.lines),
        }
        lines = row.with_lines(_added(row, "shipped", event.lines))
        return row.after(stream, status=event.status, lines=lines, shipments=(*row.shipments, shipment))

    @when(OrderDelivered)
    def delivered(self, row: Order, event: OrderDelivered, stream: Stream) -> Order:
        """Note the shipment's arrival."""
        delivered_at = format_instant(stream.occurred_at)
        shipments = tuple(
            {**sent, "delivered_at": delivered_at} if sent["shipment_id"] == event.shipment_id else sent
            for sent in row.shipments
        )
        return row.after(stream, status=event.status, shipments=shipments)

    @when(OrderReturned)
    def returned(self, row: Order, event: OrderReturned, stream: Stream) -> Order:
        """Add what came back."""
        back = {
            "return_id": event.return_id,
            "returned_at": format_instant(stream.occurred_at),
            "lines": _line_lots(event.lines),
        }
        lines = row.with_lines(_added(row, "returned", event.lines))
        return row.after(stream, status=event.status, lines=lines, returns=(*row.returns, back))


def _line(line: PlacedLine) -> Line:
    return Line(line.line_no, line.item_id, line.quantity, _money(line.unit_price))


def _money(money: Money) -> Json:
    return {"amount": money.amount, "currency": money.currency}


def _line_lots(parts: Iterable[LineLot]) -> list[Json]:
    return [{"line_no": part.line_no, "lot": part.lot, "quantity": part.quantity} for part in parts]


def _lots_by_line(parts: Iterable[LineLot]) -> dict[int, tuple[Json, ...]]:
    units: dict[int, dict[str | None, int]] = {}
    for part in parts:
        lots = units.setdefault(part.line_no, {})
        lots[part.lot] = lots.get(part.lot, 0) + part.quantity
    return {
        line_no: tuple({"lot": lot, "quantity": quantity} for lot, quantity in lots.items())
        for line_no, lots in units.items()
    }


def _added(row: Order, figure: str, parts: Iterable[LineLot]) -> dict[int, dict[str, int]]:
    """Return a figure of lines with the units of some parts added."""
    units: dict[int, int] = {}
    for part in parts:
        units[part.line_no] = units.get(part.line_no, 0) + part.quantity
    return {
        line.line_no: {figure: getattr(line, figure) + units[line.line_no]}
        for line in row.lines
        if line.line_no in units
    }
