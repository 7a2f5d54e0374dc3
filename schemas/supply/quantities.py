"""
What supply's messages are made of: lots, lines, and quantities of them.

An item that tracks lots has the label's lots. One that tracks expiry without lots has one lot for each date,
named by the date (`2027-01-31`). One that tracks neither has a single lot without a name: null.
"""

from typing import Annotated, Literal

from pydantic import Field, Strict, StringConstraints

from schemas.messages import INTEGER_MAX, Amount, Count, Id, Instant, Message, Quantity

LINES_MAX = 1_000
ALLOCATIONS_MAX = 100_000

Lot = Annotated[str, Strict(), StringConstraints(pattern=r"^[\x20-\x7e]{1,50}$")]
"""What the label says: 1 to 50 printable ASCII characters."""

LineNo = Annotated[int, Strict(), Field(ge=1, le=INTEGER_MAX)]
RuleName = Annotated[str, Strict(), StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
Currency = Annotated[str, Strict(), StringConstraints(pattern=r"^[A-Z]{3}$")]

Into = Literal["available", "quarantined", "expired"]
"""What units are when they come in, or become when a quarantine ends."""

OrderStatus = Literal[
    "placed",
    "awaiting-approval",
    "confirmed",
    "rejected",
    "cancelled",
    "partially-shipped",
    "shipped",
    "delivered",
]


class LotQuantity(Message):
    """So many units of a lot."""

    lot: Lot | None = None
    quantity: Quantity


class LineQuantity(Message):
    """So many units of an order's line."""

    line_no: LineNo
    quantity: Quantity


class LineLot(Message):
    """So many units of a lot, for an order's line."""

    line_no: LineNo
    lot: Lot | None = None
    quantity: Quantity


class LineShortage(Message):
    """What a line asked for, and what there was."""

    line_no: LineNo
    requested: Count
    available: Count


class LineLots(Message):
    """An order's line at one stock: the lots that are reserved for it, or no longer are."""

    line_no: LineNo
    lots: tuple[LotQuantity, ...]


class Released(Message):
    """Units that an order's line has lost: they were reserved for it until now."""

    order_id: Id
    line_no: LineNo
    quantity: Quantity


class Removed(Message):
    """What no longer counts for an order's net: units of a line, and their amount in the order's currency."""

    line_no: LineNo
    item_id: Id
    quantity: Quantity
    amount: Amount


class OrderFacts(Message):
    """What every fold of demand needs to know of the order that an event is about."""

    customer_id: Id
    site_id: Id
    ordered_at: Instant
    currency: Currency
    status_before: OrderStatus
    """The order's status until this event."""
    removed: tuple[Removed, ...] = ()
    """What this event takes off the order's net."""
