"""The rules of supply together, and short ways to say what tests say often."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from command_api.supply.approvals import Approvals
from command_api.supply.distribution import Distribution
from command_api.supply.items import Items
from command_api.supply.orders import Orders
from command_api.supply.recalls import Recalls
from command_api.supply.references import References
from command_api.supply.sites import Sites
from command_api.supply.stock import Stock
from schemas import Command, Event
from schemas.messages import Money
from schemas.supply.items import RegisterItem, Tracking
from schemas.supply.orders import ConfirmOrder, LineToPlace, PlaceOrder, ReturnOrder, ShipOrder
from schemas.supply.quantities import LineLot, LineQuantity, LotQuantity
from schemas.supply.recalls import IssueRecall, RecalledItem
from schemas.supply.sites import RegisterSite
from schemas.supply.stock import ExpireLot, QuarantineStock, ReceiveStock, ReserveStock

SUPPLY = (Sites, Items, Stock, Distribution, Orders, Approvals, Recalls, References)

EARLY, LATE = date(2026, 3, 31), date(2026, 6, 30)
EARLY_ENDS = datetime(2026, 3, 31, 22, tzinfo=UTC)
"""Midnight in Berlin, in summer time."""
LATE_ENDS = datetime(2026, 6, 30, 22, tzinfo=UTC)
AFTER_EARLY = EARLY_ENDS + timedelta(seconds=1)

SITE = RegisterSite(site_id="S1", name="Main store", time_zone="Europe/Berlin")
OTHER_SITE = RegisterSite(site_id="S2", name="Ward", time_zone="America/New_York")
ITEM = RegisterItem(item_id="I1", name="Gloves")
OTHER_ITEM = RegisterItem(item_id="I2", name="Masks", tracking=Tracking(lot=False, expiry=False))
SERVICE = RegisterItem(item_id="FREIGHT", name="Freight", stocked=False)
BASICS = (SITE, OTHER_SITE, ITEM, OTHER_ITEM, SERVICE)
STOCK = "stock/S1/I1"
HOLDS = "distribution/I1"
ORDER = "orders/O1"


def receive(quantity: int, lot: str = "A", expires_on: date = EARLY, site_id: str = "S1") -> ReceiveStock:
    return ReceiveStock(site_id=site_id, item_id="I1", quantity=quantity, lot=lot, expires_on=expires_on)


def reserve(quantity: int, order_id: str = "O1", line_no: int = 1, **more: Any) -> ReserveStock:
    return ReserveStock(
        site_id="S1", item_id="I1", order_id=order_id, line_no=line_no, quantity=quantity, **more
    )


def quarantine(lot: str = "A", **more: Any) -> QuarantineStock:
    return QuarantineStock(site_id="S1", item_id="I1", lot=lot, cause="torn box", **more)


def recall(*lots: str, recall_id: str = "R1") -> IssueRecall:
    scope = (RecalledItem(item_id="I1", lots=lots or None),)
    return IssueRecall(recall_id=recall_id, recall_class="I", scope=scope)


def line(line_no: int = 1, item_id: str = "I1", quantity: int = 10, price: int = 100) -> LineToPlace:
    money = Money(amount=price, currency="EUR")
    return LineToPlace(line_no=line_no, item_id=item_id, quantity=quantity, unit_price=money)


def place(*lines: LineToPlace, order_id: str = "O1", **more: Any) -> PlaceOrder:
    return PlaceOrder(order_id=order_id, customer_id="C1", site_id="S1", lines=lines or (line(),), **more)


def lots(*pairs: tuple[str | None, int]) -> tuple[LotQuantity, ...]:
    return tuple(LotQuantity(lot=lot, quantity=quantity) for lot, quantity in pairs)


def line_lots(*parts: tuple[int, str | None, int]) -> tuple[LineLot, ...]:
    return tuple(LineLot(line_no=no, lot=lot, quantity=quantity) for no, lot, quantity in parts)


def confirm(*parts: tuple[int, str | None, int]) -> ConfirmOrder:
    return ConfirmOrder(order_id="O1", allocations=line_lots(*parts))


def ship(shipment_id: str = "SH1", *parts: tuple[int, int], **more: Any) -> ShipOrder:
    lines = tuple(LineQuantity(line_no=no, quantity=quantity) for no, quantity in parts)
    return ShipOrder(order_id="O1", shipment_id=shipment_id, lines=lines or None, **more)


CONFIRMED: tuple[Command | Event, ...] = (*BASICS, receive(30), place(), reserve(10), confirm((1, "A", 10)))
"""Ten units of lot A are reserved and promised; twenty are left."""
SHIPPED = (*CONFIRMED, ship())
SEND_BACK = ReturnOrder(order_id="O1", return_id="RT1", lines=line_lots((1, "A", 4)))
"""Four of the ten shipped units come back: twenty are available, four in quarantine."""
EXPIRE = ExpireLot(site_id="S1", item_id="I1", lot="A")
