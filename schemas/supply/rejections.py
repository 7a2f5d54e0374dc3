"""The rules of hospital supply, by the names that problems have. Their facts say what to look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.errors import Rejection

Lines = Sequence[Mapping[str, str | int | None]]
"""Facts line by line, each with its `line_no`."""


@dataclass(eq=False)
class AlreadyExists(Rejection):
    """It exists already."""

    what: str


@dataclass(eq=False)
class UnknownSite(Rejection):
    """There is no such site."""

    site_id: str


@dataclass(eq=False)
class UnknownItem(Rejection):
    """There is no such item."""

    item_id: str
    lines: Lines = ()


@dataclass(eq=False)
class ItemDiscontinued(Rejection):
    """The item is no longer ordered."""

    item_id: str
    lines: Lines = ()


@dataclass(eq=False)
class WrongTracking(Rejection):
    """Lot and expiry date must be given exactly as the item's tracking says."""

    item_id: str
    stocked: bool
    lot: bool
    expiry: bool


@dataclass(eq=False)
class ExpiryDiffers(Rejection):
    """A lot has one expiry date."""

    lot: str
    expires_on: str
    given: str


@dataclass(eq=False)
class UnknownLot(Rejection):
    """The lot has never been here."""

    lot: str | None
    lots: Sequence[str] = ()
    """Those that could be meant, where no lot is named but there are several."""


@dataclass(eq=False)
class InsufficientStock(Rejection):
    """There is not as much as was asked for."""

    requested: int
    available: int
    lines: Lines = ()


@dataclass(eq=False)
class WouldBreakReservation(Rejection):
    """The rest is reserved for orders."""

    requested: int
    available: int
    reserved: int


@dataclass(eq=False)
class LotOnHold(Rejection):
    """The lot is held by a recall or in quarantine."""

    lot: str | None
    recalls: Sequence[str] = ()
    line_no: int | None = None


@dataclass(eq=False)
class LotExpired(Rejection):
    """The lot's last day is over."""

    lot: str | None
    expires_on: str
    line_no: int | None = None


@dataclass(eq=False)
class QuantityOverflow(Rejection):
    """There would be more units than an integer of 2^53 counts."""

    on_hand: int
    quantity: int


@dataclass(eq=False)
class AlreadyReserved(Rejection):
    """The order's line has another quantity reserved."""

    order_id: str
    line_no: int
    requested: int
    reserved: int


@dataclass(eq=False)
class WrongStatus(Rejection):
    """The present status does not allow this."""

    what: str
    current_status: str


@dataclass(eq=False)
class DuplicateLine(Rejection):
    """A line is there twice."""

    line_no: int


@dataclass(eq=False)
class DuplicateReference(Rejection):
    """Another open order of the customer has this reference."""

    customer_id: str
    customer_reference: str
    order_id: str


@dataclass(eq=False)
class MixedCurrencies(Rejection):
    """An order has one currency."""

    currencies: Sequence[str]


@dataclass(eq=False)
class ExceedsShipped(Rejection):
    """More would come back than was shipped."""

    lines: Lines


@dataclass(eq=False)
class RecallClosed(Rejection):
    """The recall is closed."""

    recall_id: str
