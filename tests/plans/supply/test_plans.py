"""
Every list of supply reads about as many pages of memory as it answers rows, however many rows the tables have.

The statements are the ones that the query API makes, and PostgreSQL plans them with real values; what is counted are
the blocks that it touched, so any plan will do that touches few.
"""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any, TypeAlias

import asyncpg
import pytest
import pytest_asyncio

from infra.domains import definitions, load_domains
from projectors.projection import Projection
from query_api.query import ComputedQuery, DocumentQuery, ListQuery, Query
from query_api.statements import Statement, computed_statement, document_statement, list_statement, schema_of
from query_api.supply.dashboards import ByStatusList, DailyDemandList, OrderFunnelQuery, TopItemList
from query_api.supply.items import ItemList
from query_api.supply.lots import LotList, LotTraceQuery
from query_api.supply.orders import OrderDocument, OrderList
from query_api.supply.recalls import RecallList
from query_api.supply.sites import SiteList
from query_api.supply.stock_levels import StockLevelDocument, StockLevelList
from tests.services import NAMESPACE, create_database, drop_database

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
GENERATION = 1
PAGE_ROWS = 51
PAGE_BLOCKS_MAX = 700
"""51 rows, some looked up after others that a filter drops, at a few blocks each. The orders alone have some 7,000."""
SUM_BLOCKS_MAX = 2_000
"""What a month of top items may add up: some five thousand rows that lie together."""
MID = datetime(2026, 1, 15, tzinfo=UTC)
LATER = datetime(2026, 2, 14, tzinfo=UTC)
SOON, ALWAYS = datetime(2026, 1, 3, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def filled(postgres_url: str, template: str) -> Iterator[str]:
    """A database with the tables of every projection, filled."""
    url = create_database(postgres_url, template=template)
    yield url
    drop_database(postgres_url, url)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connection(filled: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(filled)
    rows = resources.files("tests.plans.supply").joinpath("fill.sql").read_text()
    for projection in definitions(load_domains(("supply",)), "projectors", Projection):
        schema = schema_of(NAMESPACE, projection.name, GENERATION)
        await connection.execute(f"CREATE SCHEMA {schema}")
        await connection.execute(projection.ddl().replace("{schema}", schema))
        for table in projection.tables:
            await connection.execute(f"ALTER TABLE {schema}.{table} SET UNLOGGED")
        rows = rows.replace("{" + projection.name.replace("-", "_") + "}", schema)
    await connection.execute(rows)
    await connection.execute("VACUUM ANALYZE")
    yield connection
    await connection.close()


pytestmark = pytest.mark.asyncio(loop_scope="module")


def statement_of(query: type[Query], given: Mapping[str, Any], sort: str, after: Sequence[Any]) -> Statement:
    generations = tuple(sorted((projection.name, GENERATION) for projection in query.reads))
    if issubclass(query, ListQuery):
        order = sort or next(iter(query.sorts))
        return list_statement(NAMESPACE, query, generations, tuple(given), order, bool(after))
    if issubclass(query, DocumentQuery):
        return document_statement(NAMESPACE, query, GENERATION)
    assert issubclass(query, ComputedQuery)
    return computed_statement(NAMESPACE, query.source, generations)


async def plan_of(
    connection: Connection,
    query: type[Query],
    given: Mapping[str, Any],
    sort: str = "",
    after: Sequence[Any] = (),
) -> dict[str, Any]:
    """Run a query's statement and return what PostgreSQL did."""
    statement = statement_of(query, given, sort, after)
    values: dict[str, Any] = {"tenant": "demo", "partition": 0, "table_name": None, "key": None}
    values |= {"projections": [projection.name for projection in query.reads], "page_rows": PAGE_ROWS}
    values |= dict.fromkeys(query.parameters.model_fields) | dict(given)
    values |= {f"after_{number}": value for number, value in enumerate(after)}
    explained = await connection.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.sql}", *statement.arguments(values)
    )
    plan: dict[str, Any] = json.loads(explained)[0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def blocks(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def scanned_whole(plan: dict[str, Any]) -> list[str]:
    """Return the read tables that were read from end to end."""
    found = [node for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
    return [f"{node['Schema']}" if "Schema" in node else node["Alias"] for node in found if _is_large(node)]


def _is_large(node: dict[str, Any]) -> bool:
    return int(node["Actual Rows"]) + int(node.get("Rows Removed by Filter", 0)) > 1_000


ORDERS: list[dict[str, Any]] = [
    {},
    {"status": ["placed"]},
    {"status": ["delivered"]},
    {"status": ["rejected"]},
    {"status": ["placed", "confirmed", "cancelled"]},
    {"customer_id": "C5"},
    {"site_id": "S3"},
    {"item_id": "I7"},
    {"item_id": "I5001"},
    {"ordered_from": MID},
    {"ordered_from": MID, "ordered_to": LATER},
    {"customer_id": "C5", "status": ["delivered"]},
    {"site_id": "S3", "item_id": "I77"},
]


@pytest.mark.parametrize("after", [(), (MID, "O00050000")], ids=["first", "next"])
@pytest.mark.parametrize("sort", ["-ordered_at", "ordered_at"])
@pytest.mark.parametrize("given", ORDERS, ids=str)
async def test_orders_are_read_along_an_index(
    connection: Connection, given: dict[str, Any], sort: str, after: tuple[Any, ...]
) -> None:
    plan = await plan_of(connection, OrderList, given, sort, after)
    assert scanned_whole(plan) == []
    assert blocks(plan) <= PAGE_BLOCKS_MAX


@pytest.mark.parametrize(
    ("query", "given", "after"),
    [
        (OrderList, {}, ("O00050000",)),
        (StockLevelList, {}, ("S3", "I01000")),
        (StockLevelList, {"site_id": "S3"}, ("S3", "I01000")),
        (StockLevelList, {"item_id": "I00100"}, ("S3", "I00100")),
        (StockLevelList, {"below": 5}, ("S3", "I01000")),
        (StockLevelList, {"below": 90_000}, ("S3", "I01000")),
        (StockLevelList, {"site_id": "S3", "below": 5}, ()),
        (LotList, {}, ("S3", "I00100", "L1")),
        (LotList, {"site_id": "S3"}, ("S3", "I00100", "L1")),
        (LotList, {"item_id": "I00100"}, ()),
        (LotList, {"expiring_before": SOON}, ()),
        (LotList, {"expiring_before": ALWAYS}, ("S3", "I00100", "L1")),
        (LotTraceQuery, {"item_id": "HOT", "lot": "LOT"}, ()),
        (LotTraceQuery, {"item_id": "HOT", "lot": "LOT"}, ("0000000000010000",)),
        (ItemList, {}, ("I05000",)),
        (SiteList, {}, ("S05000",)),
        (RecallList, {}, ("R05000",)),
        (DailyDemandList, {}, ()),
        (DailyDemandList, {"from_": MID, "to": LATER}, ()),
        (DailyDemandList, {"from_": MID, "to": LATER, "item_id": "I00010", "site_id": "S3"}, ()),
        (OrderFunnelQuery, {}, ()),
        (ByStatusList, {}, ()),
        (OrderDocument, {"order_id": "O00050000"}, ()),
        (StockLevelDocument, {"site_id": "S3", "item_id": "I00100"}, ()),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
async def test_a_page_or_a_document_is_read_along_an_index(
    connection: Connection,
    query: type[Query],
    given: dict[str, Any],
    after: tuple[Any, ...],
) -> None:
    sort = "order_id" if query is OrderList else ""
    plan = await plan_of(connection, query, given, sort, after)
    assert scanned_whole(plan) == []
    assert blocks(plan) <= PAGE_BLOCKS_MAX


async def test_top_items_add_up_the_days_asked_for_and_no_others(
    connection: Connection,
) -> None:
    plan = await plan_of(connection, TopItemList, {"from_": MID, "to": LATER})
    assert not any("Seq Scan" in node["Node Type"] and node["Alias"] == "rows" for node in nodes(plan))
    assert blocks(plan) <= SUM_BLOCKS_MAX
