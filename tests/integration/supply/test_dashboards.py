"""Dashboards add up to what the orders say."""

from collections import Counter, defaultdict
from typing import Any

import orjson
import pytest

from projectors.supply.daily_demand import DailyDemand
from projectors.supply.order_funnel import OrderFunnel
from projectors.supply.orders import Orders
from schemas.supply import views
from tests.integration.supply.told import Told

pytestmark = pytest.mark.asyncio(loop_scope="package")

Sums = dict[str, int]


async def demand(told: Told) -> list[tuple[tuple[str, ...], Sums]]:
    return [(key, orjson.loads(row)) for key, row in (await told.folded(DailyDemand)).items()]


def add(rows: list[tuple[tuple[str, ...], Sums]], *columns: int) -> dict[tuple[str, ...], Counter[str]]:
    """Add rows up by some columns of their keys (day, currency, site, item)."""
    sums: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for key, row in rows:
        sums[tuple(key[column] for column in columns)].update(row)
    return sums


async def test_daily_demand_adds_up_all_sites(told: Told) -> None:
    sums = add([row for row in await demand(told) if row[0][3] == ""], 0, 1)
    found = await told.walk("/v1/dashboards/daily-demand", limit=3)
    assert found == [
        {"day": day, "currency": currency, **sums[day, currency]} for day, currency in sorted(sums)
    ]
    for row in found:
        views.DailyDemand.model_validate_json(orjson.dumps(row))
    orders = [orjson.loads(order) for order in (await told.folded(Orders)).values()]
    assert sum(row["orders"] for row in found) == len(orders)
    assert sum(row["placed"] for row in found) == sum(order["total"]["amount"] for order in orders)


async def test_daily_demand_of_an_item_at_a_site_in_a_range_of_days(told: Told) -> None:
    rows = await demand(told)
    days = sorted({key[0] for key, _ in rows})
    first, last = days[1], days[-1]
    wanted = [row for row in rows if row[0][2:] == ("S1", "BOTH") and first <= row[0][0] < last]
    sums = add(wanted, 0, 1)
    given: dict[str, Any] = {"item_id": "BOTH", "site_id": "S1", "from": first, "to": last}
    found = await told.walk("/v1/dashboards/daily-demand", **given)
    assert found == [
        {"day": day, "currency": currency, **sums[day, currency]} for day, currency in sorted(sums)
    ]


async def test_a_time_within_a_day_begins_with_the_next_day(told: Told) -> None:
    days = [row["day"] for row in await told.walk("/v1/dashboards/daily-demand")]
    from_day: dict[str, Any] = {"from": f"{days[1]}T00:00:01Z"}
    found = await told.walk("/v1/dashboards/daily-demand", **from_day)
    assert [row["day"] for row in found] == days[2:]
    found = await told.walk("/v1/dashboards/daily-demand", to=f"{days[1]}T00:00:01Z")
    assert [row["day"] for row in found] == days[:2]


async def test_top_items_come_by_net_falling(told: Told) -> None:
    sums = add([row for row in await demand(told) if row[0][3] != ""], 3, 1)
    expected = [
        {"item_id": item_id, "name": "Freight" if item_id == "FREIGHT" else item_id, "currency": currency}
        | dict(row)
        for (item_id, currency), row in sorted(sums.items(), key=lambda entry: (-entry[1]["net"], entry[0]))
    ]
    found = await told.walk("/v1/dashboards/top-items", limit=2)
    assert found == expected
    for row in found:
        views.TopItem.model_validate_json(orjson.dumps(row))


async def test_the_funnel_is_the_fold_of_the_log(told: Told) -> None:
    response = await told.get("/v1/dashboards/order-funnel")
    assert response.json() == orjson.loads((await told.folded(OrderFunnel))[()])
    views.OrderFunnel.model_validate_json(response.content)


async def test_by_status_counts_the_orders_that_there_are(told: Told) -> None:
    orders = [orjson.loads(order) for order in (await told.folded(Orders)).values()]
    counts = Counter(order["status"] for order in orders)
    response = await told.get("/v1/dashboards/by-status")
    assert response.json() == {
        "items": [{"status": status, "orders": counts[status]} for status in sorted(counts)],
        "next": None,
    }
