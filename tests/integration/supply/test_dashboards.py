"""Dashboards add up to what the orders say."""

from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

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


@pytest.mark.parametrize("bucket", ["day", "week", "month"])
@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"]
)
async def test_a_series_counts_each_order_in_its_bucket_of_the_callers_zone(
    told: Told, bucket: str, zone: str
) -> None:
    orders = [orjson.loads(order) for order in (await told.folded(Orders)).values()]
    ordered = [
        (datetime.fromisoformat(order["ordered_at"]).astimezone(ZoneInfo(zone)).date(), order)
        for order in orders
    ]
    first, ends = min(day for day, _ in ordered), max(day for day, _ in ordered) + timedelta(days=3)
    first += timedelta(days=1)
    given = {"from": f"{first}", "to": f"{ends}", "bucket": bucket, "time_zone": zone}
    series = (await told.get("/v1/dashboards/demand-series", **given)).json()
    views.DemandSeries.model_validate_json(orjson.dumps(series))
    expected: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for day, order in ordered:
        if first <= day < ends:
            sums = {
                "orders": 1,
                "placed": order["total"]["amount"],
                "units": sum(line["quantity"] for line in order["lines"]),
            }
            expected[order["total"]["currency"], str(begin_of(bucket, day))].update(sums)
    starts = sorted({str(begin_of(bucket, first + timedelta(days=n))) for n in range((ends - first).days)})
    for one in series["series"]:
        assert [point["start"] for point in one["points"]] == starts
        for point in one["points"]:
            sums = expected[one["currency"], point["start"]]
            assert all(point[name] == sums[name] for name in ("orders", "placed", "units")), point
            assert point["previous"] is None
    assert {currency for currency, _ in expected} <= {one["currency"] for one in series["series"]}


def begin_of(bucket: str, day: date) -> date:
    match bucket:
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case _:
            return day


async def test_a_series_over_utc_days_is_the_daily_demand_with_its_gaps_filled(told: Told) -> None:
    days = await told.walk("/v1/dashboards/daily-demand", site_id="S1")
    first, last = (date.fromisoformat(days[index]["day"]) for index in (0, -1))
    given = {"from": f"{first}", "to": f"{last + timedelta(days=1)}", "site_id": "S1"}
    series = (await told.get("/v1/dashboards/demand-series", **given)).json()["series"]
    there = {(row["day"], row["currency"]): row for row in days}
    nothing = {"orders": 0, "units": 0, "placed": 0, "net": 0}
    for one in series:
        for point in one["points"]:
            row = there.get((point["start"], one["currency"]), nothing)
            assert {name: point[name] for name in nothing} == {name: row[name] for name in nothing}


async def test_a_series_stands_beside_the_period_before(told: Told) -> None:
    days = await told.walk("/v1/dashboards/daily-demand")
    first, last = (date.fromisoformat(days[index]["day"]) for index in (0, -1))
    length = last - first + timedelta(days=1)
    middle = first + length
    given: dict[str, Any] = {"from": f"{middle}", "to": f"{middle + length}"}
    compared = (await told.get("/v1/dashboards/demand-series", compare="previous", **given)).json()
    assert compared["previous_from"] == f"{first}"
    before = {"from": f"{first}", "to": f"{middle}"}
    earlier = (await told.get("/v1/dashboards/demand-series", **before)).json()
    sums = {
        (one["currency"], number): {name: point[name] for name in ("orders", "units", "placed", "net")}
        for one in earlier["series"]
        for number, point in enumerate(one["points"])
    }
    assert sums
    for one in compared["series"]:
        for number, point in enumerate(one["points"]):
            nothing = {"orders": 0, "units": 0, "placed": 0, "net": 0}
            assert point["previous"] == sums.get((one["currency"], number), nothing)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"from": "2026-01-01"},
        {"from": "2026-01-02", "to": "2026-01-02"},
        {"from": "2020-01-01", "to": "2026-01-01"},
        {"from": "2026-01-01", "to": "2026-02-01", "time_zone": "Mars/Olympus"},
        {"from": "2026-01-01", "to": "2026-02-01", "bucket": "hour"},
    ],
    ids=str,
)
async def test_a_series_without_a_range_or_with_too_many_buckets_is_refused(
    told: Told, given: dict[str, str]
) -> None:
    response = await told.get("/v1/dashboards/demand-series", **given)
    assert (response.status_code, response.json()["type"]) == (422, "/problems/invalid")


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
