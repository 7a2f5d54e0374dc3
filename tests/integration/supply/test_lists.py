"""Lists hold what their filters say, in the order that was asked for, whatever the size of a page."""

from datetime import datetime
from typing import Any

import orjson
import pytest

from projectors.supply.items import Items
from projectors.supply.orders import Orders
from projectors.supply.recalls import Recalls
from projectors.supply.sites import Sites
from projectors.supply.stock_levels import StockLevels
from tests.integration.supply.told import Told

pytestmark = pytest.mark.asyncio(loop_scope="package")

Document = dict[str, Any]


async def documents(told: Told, projection: Any, table: str = "rows") -> list[Document]:
    """Return what is folded from the log, in the order of the keys."""
    found = await told.folded(projection, table)
    return [orjson.loads(found[key]) for key in sorted(found)]


@pytest.mark.parametrize(
    ("route", "projection", "table"),
    [
        ("items", Items, "rows"),
        ("sites", Sites, "rows"),
        ("recalls", Recalls, "rows"),
        ("stock-levels", StockLevels, "rows"),
        ("lots", StockLevels, "lots"),
    ],
)
@pytest.mark.parametrize("limit", [2, 500])
async def test_a_list_has_every_row_once_in_the_order_of_ids(
    told: Told, route: str, projection: Any, table: str, limit: int
) -> None:
    assert await told.walk(f"/v1/{route}", limit=limit) == await documents(told, projection, table)


def has_item(order: Document, item_id: str) -> bool:
    return any(line["item_id"] == item_id for line in order["lines"])


def ordered_at(order: Document) -> datetime:
    return datetime.fromisoformat(order["ordered_at"])


async def test_orders_come_latest_first_with_ties_by_id(told: Told) -> None:
    orders = await documents(told, Orders)
    assert len({order["ordered_at"] for order in orders}) < len(orders)
    latest_first = sorted(orders, key=lambda order: (-ordered_at(order).timestamp(), order["order_id"]))
    earliest_first = sorted(orders, key=lambda order: (ordered_at(order), order["order_id"]))
    assert await told.walk("/v1/orders") == latest_first
    assert await told.walk("/v1/orders", sort="-ordered_at") == latest_first
    assert await told.walk("/v1/orders", sort="ordered_at") == earliest_first
    assert await told.walk("/v1/orders", sort="order_id") == orders


@pytest.mark.parametrize(
    ("given", "holds"),
    [
        ({"status": "delivered"}, lambda order: order["status"] == "delivered"),
        (
            {"status": ["placed", "confirmed", "placed"]},
            lambda order: order["status"] in ("placed", "confirmed"),
        ),
        ({"customer_id": "C1"}, lambda order: True),
        ({"customer_id": "nobody"}, lambda order: False),
        ({"site_id": "S2"}, lambda order: order["site_id"] == "S2"),
        ({"item_id": "BOTH"}, lambda order: has_item(order, "BOTH")),
        ({"item_id": "nothing"}, lambda order: False),
        (
            {"item_id": "BOTH", "site_id": "S1"},
            lambda order: has_item(order, "BOTH") and order["site_id"] == "S1",
        ),
        (
            {"item_id": "BOTH", "status": ["delivered", "shipped"]},
            lambda order: order["status"] in ("delivered", "shipped") and has_item(order, "BOTH"),
        ),
    ],
    ids=lambda value: "rows" if callable(value) else str(value),
)
@pytest.mark.parametrize("sort", ["-ordered_at", "ordered_at", "order_id"])
async def test_orders_are_filtered(told: Told, given: Document, holds: Any, sort: str) -> None:
    everything = await told.walk("/v1/orders", sort=sort, limit=500)
    found = await told.walk("/v1/orders", sort=sort, limit=3, **given)
    assert found == [order for order in everything if holds(order)]


async def test_a_range_of_times_has_its_beginning_and_not_its_end(told: Told) -> None:
    everything = await told.walk("/v1/orders", sort="ordered_at")
    first, last = everything[3]["ordered_at"], everything[-4]["ordered_at"]
    found = await told.walk("/v1/orders", sort="ordered_at", ordered_from=first, ordered_to=last)
    assert found == [order for order in everything if first <= order["ordered_at"] < last]
    of_item = await told.walk("/v1/orders", item_id="BOTH", ordered_from=first, ordered_to=last, limit=2)
    assert of_item == [order for order in reversed(found) if has_item(order, "BOTH")]
    day = first[:10]
    assert await told.walk("/v1/orders", ordered_from=day) == await told.walk(
        "/v1/orders", ordered_from=f"{day}T00:00:00Z"
    )


@pytest.mark.parametrize("below", [0, 1, 10, 10_000])
async def test_stock_below_a_number_is_by_what_is_available(told: Told, below: int) -> None:
    levels = await documents(told, StockLevels)
    found = await told.walk("/v1/stock-levels", below=below, limit=2)
    assert found == [level for level in levels if level["available"] < below]


async def test_stock_and_lots_are_filtered_by_site_and_item(told: Told) -> None:
    for route, table in (("stock-levels", "rows"), ("lots", "lots")):
        rows = await documents(told, StockLevels, table)
        for given in ({"site_id": "S1"}, {"item_id": "LOT"}, {"site_id": "S2", "item_id": "BOTH"}):
            found = await told.walk(f"/v1/{route}", limit=3, **given)
            assert found == [row for row in rows if given.items() <= row.items()]


@pytest.mark.parametrize(
    ("moment", "day"),
    [("2026-01-30", "2026-01-30"), ("2026-01-30T00:00:01Z", "2026-01-31"), ("2026-01-31", "2026-01-31")],
)
async def test_lots_that_expire_before_a_day_are_those_on_hand(told: Told, moment: str, day: str) -> None:
    lots = await documents(told, StockLevels, "lots")
    found = await told.walk("/v1/lots", expiring_before=moment, limit=2)
    assert found == [
        lot
        for lot in lots
        if lot["expires_on"] is not None and lot["expires_on"] < day and lot["on_hand"] > 0
    ]


@pytest.mark.parametrize(
    "query", ["orders?status=gone", "orders?colour=red", "stock-levels?below=x", "orders?ordered_from=May"]
)
async def test_a_filter_that_cannot_be_meant_is_refused_by_name(told: Told, query: str) -> None:
    response = await told.client.get(f"/v1/{query}")
    name = query.partition("?")[2].partition("=")[0]
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == f"/{name}"
