"""
Stock: what one site has of one item, by lot.

A unit on hand is exactly one of available, reserved, quarantined, expired. Every event says what it moves
between these, so a fold only adds. For each lot, after each event,
`received + adjusted + returned + transferred = on_hand + shipped + disposed`. Quarantine outranks expiry: a
quarantined unit of an expired lot counts as quarantined until the quarantine ends, and as expired then.
"""

from datetime import date
from typing import Annotated, Self

from pydantic import Field, model_validator

from schemas.messages import Command, Count, Day, Delta, Event, Flag, Id, Instant, Quantity, Text
from schemas.supply.quantities import Into, LineLots, LineNo, Lot, LotQuantity, Released

ExpiryDay = Annotated[Day, Field(ge=date(1900, 1, 1))]


class ReceiveStock(Command, route="stock/{site_id}/{item_id}/receive", permission="warehouse"):
    """Take in goods; lot and expiry date exactly as the item's tracking says."""

    site_id: Id
    item_id: Id
    quantity: Quantity
    lot: Lot | None = None
    expires_on: ExpiryDay | None = None
    supplier_id: Id | None = None
    document: Text | None = None


class AdjustStock(Command, route="stock/{site_id}/{item_id}/adjust", permission="warehouse"):
    """Correct what is on hand by a count."""

    site_id: Id
    item_id: Id
    lot: Lot | None = None
    delta: Delta


class DisposeStock(Command, route="stock/{site_id}/{item_id}/dispose", permission="warehouse"):
    """Destroy units: expired ones first, then quarantined ones, then others that are not reserved."""

    site_id: Id
    item_id: Id
    lot: Lot | None = None
    quantity: Quantity


class TransferStock(Command, route="stock/{site_id}/{item_id}/transfer", permission="warehouse"):
    """Move available units to another site."""

    site_id: Id
    item_id: Id
    to_site_id: Id
    lot: Lot | None = None
    quantity: Quantity

    @model_validator(mode="after")
    def _goes_elsewhere(self) -> Self:
        if self.to_site_id == self.site_id:
            raise ValueError("to_site_id must be another site")
        return self


class QuarantineStock(Command, route="stock/{site_id}/{item_id}/quarantine", permission="quality"):
    """Keep all of a lot from being used here, reserved units too, and what comes of it later."""

    site_id: Id
    item_id: Id
    lot: Lot | None = None
    cause: Text
    recall_id: Id | None = None
    """The recall that is the cause, which must hold the lot."""


class QuarantineRecalledStock(
    Command, route="stock/{site_id}/{item_id}/quarantine-recalled", permission="system"
):
    """Quarantine every lot here that a recall holds; nothing where there is none."""

    site_id: Id
    item_id: Id
    recall_id: Id


class ReleaseQuarantine(Command, route="stock/{site_id}/{item_id}/release-quarantine", permission="quality"):
    """End a lot's quarantine here, and what closed recalls hold of it here. An open recall refuses."""

    site_id: Id
    item_id: Id
    lot: Lot | None = None


class ReserveStock(Command, route="stock/{site_id}/{item_id}/reserve", permission="system"):
    """
    Reserve units for an order's line: first expiry first out, then first received.

    With `partial` a shortage reserves what there is, if there is anything. With `top_up` the quantity is what
    the line shall hold in the end, and only what is missing is reserved.
    """

    site_id: Id
    item_id: Id
    order_id: Id
    line_no: LineNo
    quantity: Quantity
    partial: Flag = False
    top_up: Flag = False


class UnreserveStock(Command, route="stock/{site_id}/{item_id}/unreserve", permission="system"):
    """Give back all that is reserved here for an order."""

    site_id: Id
    item_id: Id
    order_id: Id


class ExpireLot(Command, route="stock/{site_id}/{item_id}/expire", permission="system"):
    """Keep a lot from being used any longer, its last day being over here."""

    site_id: Id
    item_id: Id
    lot: Lot | None = None


class StockReceived(Event):
    """Goods came in."""

    lot: Lot | None = None
    quantity: Quantity
    expires_on: Day | None = None
    usable_until: Instant | None = None
    """The end of `expires_on` at the site."""
    supplier_id: Id | None = None
    document: Text | None = None
    into: Into = "available"
    held_by: tuple[Id, ...] = ()
    """The recalls that hold the lot here; where there are any, it has come into quarantine."""
    quarantined_now: Count = 0
    """How many units of the lot are in quarantine here now, where recalls hold it."""


class StockAdjusted(Event):
    """A count was corrected: by `delta`, which is the sum of the other three."""

    lot: Lot | None = None
    delta: Delta
    available: Delta = 0
    quarantined: Delta = 0
    expired: Delta = 0
    held_by: tuple[Id, ...] = ()


class StockDisposed(Event):
    """Units were destroyed: `quantity`, which is the sum of the other three."""

    lot: Lot | None = None
    quantity: Quantity
    available: Count = 0
    quarantined: Count = 0
    expired: Count = 0
    held_by: tuple[Id, ...] = ()


class StockTransferredOut(Event):
    """Available units went to another site."""

    to_site_id: Id
    lot: Lot | None = None
    quantity: Quantity


class StockTransferredIn(Event):
    """Units came from another site."""

    from_site_id: Id
    lot: Lot | None = None
    quantity: Quantity
    expires_on: Day | None = None
    usable_until: Instant | None = None
    into: Into = "available"
    held_by: tuple[Id, ...] = ()
    quarantined_now: Count = 0
    """How many units of the lot are in quarantine here now, where recalls hold it."""


class StockQuarantined(Event):
    """A lot is in quarantine here, with all its units."""

    lot: Lot | None = None
    cause: Text
    recall_id: Id | None = None
    available: Count = 0
    """How many were available until now; so for the next two."""
    reserved: Count = 0
    expired: Count = 0
    quarantined: Count
    """How many are in quarantine now, those that were before included."""
    released: tuple[Released, ...] = ()
    """The order lines that lost their units; their sum is `reserved`."""
    held_by: tuple[Id, ...] = ()
    """The other recalls for which the lot is in quarantine here."""


class QuarantineReleased(Event):
    """A lot's quarantine ended here."""

    lot: Lot | None = None
    quantity: Count
    into: Into
    cleared: tuple[Id, ...] = ()
    """The closed recalls that no longer hold the lot here."""


class StockReserved(Event):
    """Units were reserved for an order's line, beside those that it had."""

    order_id: Id
    line_no: LineNo
    lots: tuple[LotQuantity, ...]


class StockUnreserved(Event):
    """All that was reserved for an order was given back."""

    order_id: Id
    lines: tuple[LineLots, ...]


class StockShipped(Event):
    """Reserved units of an order's line left the site."""

    order_id: Id
    customer_id: Id
    shipment_id: Id
    line_no: LineNo
    lots: tuple[LotQuantity, ...]


class StockReturned(Event):
    """Shipped units came back, into quarantine."""

    order_id: Id
    customer_id: Id
    return_id: Id
    line_no: LineNo
    lot: Lot | None = None
    quantity: Quantity
    expires_on: Day | None = None
    usable_until: Instant | None = None
    held_by: tuple[Id, ...] = ()
    quarantined_now: Count = 0
    """How many units of the lot are in quarantine here now, where recalls hold it."""


class LotExpired(Event):
    """A lot's last day was over at the site."""

    lot: Lot | None = None
    available: Count = 0
    """How many were available until now; so for the next one."""
    reserved: Count = 0
    released: tuple[Released, ...] = ()
    """The order lines that lost their units; their sum is `reserved`."""
