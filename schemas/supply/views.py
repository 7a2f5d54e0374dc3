"""What supply's queries answer. Fields that do not apply are null or empty, never absent."""

from typing import Literal

from pydantic import ConfigDict, Field

from schemas.messages import Day, Instant, Message, Money, View
from schemas.supply.items import Tracking
from schemas.supply.orders import Fulfilment
from schemas.supply.quantities import LineLot, LineShortage, LotQuantity, OrderStatus
from schemas.supply.recalls import RecallClass


class Site(View):
    """A place that holds stock."""

    site_id: str
    stream: str
    version: int
    name: str
    time_zone: str


class Item(View):
    """What can be ordered and kept."""

    item_id: str
    stream: str
    version: int
    status: Literal["active", "discontinued"]
    name: str
    category: str | None
    tracking: Tracking
    stocked: bool
    list_price: Money | None
    gtin: str | None
    manufacturer: str | None


class OrderLineView(Message):
    """A line of an order, and how far it has come."""

    line_no: int
    item_id: str
    quantity: int
    unit_price: Money
    reserved: int
    """All that was allotted, shipped units included."""
    shipped: int
    returned: int
    short: int
    lots: tuple[LotQuantity, ...]


class ShipmentView(Message):
    """A shipment of an order."""

    shipment_id: str
    shipped_at: Instant
    delivered_at: Instant | None
    carrier: str | None
    tracking: str | None
    lines: tuple[LineLot, ...]


class ReturnView(Message):
    """What came back of an order at one time."""

    return_id: str
    returned_at: Instant
    lines: tuple[LineLot, ...]


class RejectionView(Message):
    """Why an order was turned down."""

    rule: str
    lines: tuple[LineShortage, ...]


class Order(View):
    """An order."""

    order_id: str
    stream: str
    version: int
    status: OrderStatus
    customer_id: str
    customer_reference: str | None
    site_id: str
    deliver_to: str | None
    fulfilment: Fulfilment
    ordered_at: Instant
    requested_on: Day | None
    updated_at: Instant
    total: Money
    recalls: tuple[str, ...]
    contact: str | None
    lines: tuple[OrderLineView, ...]
    shipments: tuple[ShipmentView, ...]
    returns: tuple[ReturnView, ...]
    rejection: RejectionView | None


class LotLevel(Message):
    """What one site has, and has had, of one lot."""

    lot: str | None
    expires_on: Day | None
    on_hand: int
    reserved: int
    quarantined: int
    expired: int
    received: int
    adjusted: int
    returned: int
    transferred: int
    shipped: int
    disposed: int


class StockLevel(View):
    """What one site has of one item."""

    site_id: str
    item_id: str
    stream: str
    version: int
    updated_at: Instant
    on_hand: int
    reserved: int
    quarantined: int
    expired: int
    available: int
    lots: tuple[LotLevel, ...]


class LotView(View):
    """A lot at one site, in the list of lots."""

    site_id: str
    item_id: str
    lot: str | None
    expires_on: Day | None
    on_hand: int
    reserved: int
    quarantined: int
    expired: int
    available: int


class LotTotals(Message):
    """A lot's figures over all sites."""

    received: int
    on_hand: int
    shipped: int
    returned: int
    disposed: int


class LotAtSite(Message):
    """What one site has of the lot now."""

    site_id: str
    on_hand: int
    reserved: int
    quarantined: int
    expired: int


class LotMovement(Message):
    """Something that happened to units of the lot."""

    kind: Literal["received", "adjusted", "transferred", "shipped", "returned", "disposed"]
    site_id: str
    quantity: int
    occurred_at: Instant
    order_id: str | None
    customer_id: str | None
    shipment_id: str | None
    supplier_id: str | None
    document: str | None


class LotTrace(View):
    """Where a lot came from and where it went."""

    item_id: str
    lot: str
    expires_on: Day | None
    on_hold: bool
    recalls: tuple[str, ...]
    totals: LotTotals
    stock: tuple[LotAtSite, ...]
    items: tuple[LotMovement, ...]
    next: str | None


class RecallScopeView(Message):
    """An item of a recall and its lots; null: all."""

    item_id: str
    lots: tuple[str, ...] | None


class RecalledStock(Message):
    """What is in quarantine of a recalled lot at one site."""

    site_id: str
    item_id: str
    lot: str | None
    quarantined: int


class RecalledCustomer(Message):
    """What a customer was sent of the recalled lots, and has found."""

    customer_id: str
    shipped: int
    found: int | None
    acknowledged_at: Instant | None


class Recall(View):
    """A recall: what it holds, whom it concerns, what became of it."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    recall_id: str
    stream: str
    version: int
    status: Literal["open", "closed"]
    recall_class: RecallClass = Field(alias="class")
    scope: tuple[RecallScopeView, ...]
    reason: str | None
    issued_at: Instant
    closed_at: Instant | None
    outcome: str | None
    stock: tuple[RecalledStock, ...]
    orders: tuple[str, ...]
    customers: tuple[RecalledCustomer, ...]


class DailyDemand(View):
    """What was ordered on one day, by `ordered_at` in UTC, in one currency."""

    day: Day
    currency: str
    orders: int
    units: int
    placed: int
    net: int
    """Without rejected, cancelled, short and returned."""


class DemandSums(Message):
    """What was ordered in some time, in one currency; amounts in minor units."""

    orders: int
    units: int
    placed: int
    net: int
    """Without rejected, cancelled, short and returned."""


class DemandPoint(DemandSums):
    """One bucket of a series."""

    start: Day
    """The bucket's first day in the series' time zone."""
    previous: DemandSums | None
    """The same bucket of the period before; null where that was not asked for."""


class CurrencySeries(Message):
    """The buckets of one currency, none left out."""

    currency: str
    points: tuple[DemandPoint, ...]


class DemandSeries(View):
    """What was ordered over time, by `ordered_at` in a time zone."""

    model_config = ConfigDict(populate_by_name=True)

    bucket: Literal["day", "week", "month"]
    time_zone: str
    from_: Day = Field(alias="from")
    to: Day
    previous_from: Day | None
    """Where the period before begins; it ends where the series begins."""
    series: tuple[CurrencySeries, ...]


class OrderFunnel(View):
    """How many orders ever reached each stage."""

    placed: int
    confirmed: int
    shipped: int
    delivered: int
    rejected: int
    cancelled: int
    returned: int


class StatusCount(View):
    """How many orders have a status now."""

    status: OrderStatus
    orders: int


class TopItem(View):
    """What was ordered of one item, in one currency."""

    item_id: str
    name: str
    currency: str
    orders: int
    units: int
    placed: int
    net: int
