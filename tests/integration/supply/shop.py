"""Short ways to say what tests of supply's workflows say often."""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.messages import Money
from schemas.supply.items import RegisterItem, Tracking
from schemas.supply.orders import LineToPlace, PlaceOrder
from schemas.supply.sites import RegisterSite
from schemas.supply.stock import ReceiveStock

PLAIN = Tracking(lot=False, expiry=False)
WORKFLOWS = ("fulfilment", "approval", "recall", "expiry")

SITE = RegisterSite(site_id="S1", name="Main store", time_zone="Europe/Berlin")
OTHER_SITE = RegisterSite(site_id="S2", name="Ward", time_zone="Europe/Berlin")


def item(item_id: str, **more: Any) -> RegisterItem:
    """Return an item without lots, unless told otherwise."""
    return RegisterItem(item_id=item_id, name=item_id, **({"tracking": PLAIN} | more))


def receive(item_id: str, quantity: int, site_id: str = "S1", **more: Any) -> ReceiveStock:
    """Return a receipt."""
    return ReceiveStock(site_id=site_id, item_id=item_id, quantity=quantity, **more)


def place(order_id: str, lines: Mapping[str, int] | Sequence[tuple[str, int]], **more: Any) -> PlaceOrder:
    """Return an order of so many units of each item."""
    pairs = list(lines.items()) if isinstance(lines, Mapping) else list(lines)
    price = Money(amount=100, currency="EUR")
    return PlaceOrder(
        order_id=order_id,
        customer_id="C1",
        site_id="S1",
        lines=tuple(
            LineToPlace(line_no=number, item_id=item_id, quantity=quantity, unit_price=price)
            for number, (item_id, quantity) in enumerate(pairs, 1)
        ),
        **more,
    )
