"""
Every list of supply reads about as many pages of memory as it answers rows, however many rows the tables have: a
million in each large one.

It does so as the role that answers queries, under row security; which shows it no other tenant's rows, whatever it
asks for.

The statements are the ones that the query API makes, and PostgreSQL plans them with real values; what is counted are
the blocks that it touched, so any plan will do that touches few.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from importlib import resources
from itertools import chain
from typing import Any, TypeAlias

import asyncpg
import pytest
import pytest_asyncio

from infra.domains import definitions, load_domains
from projectors.generations import make_tables
from projectors.projection import Projection
from query_api.query import ComputedQuery, DocumentQuery, ListQuery, Query
from query_api.statements import (
    Statement,
    computed_statement,
    document_statement,
    list_statement,
    rows_statement,
    schema_of,
    without_comments,
)
from query_api.supply.dashboards import (
    ByStatusList,
    DailyDemandList,
    DemandSeriesQuery,
    OrderFunnelQuery,
    TopItemList,
)
from query_api.supply.items import ItemDocument, ItemList
from query_api.supply.lots import LotList, LotTraceQuery
from query_api.supply.orders import OrderDocument, OrderList
from query_api.supply.recalls import RecallDocument, RecallList
from query_api.supply.sites import SiteDocument, SiteList
from query_api.supply.stock_levels import StockLevelDocument, StockLevelList
from tests.services import NAMESPACE, create_database, drop_database

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
GENERATION = 1
FILLERS = 3
PAGE_ROWS = 51
PAGE_BLOCKS_MAX = 700
"""51 rows, some looked up after others that a filter drops, at a few blocks each. The orders alone have some 40,000."""
ITEM_BLOCKS_MAX = 3_000
"""With another filter, orders of an item are found along its index and then put in order: of I77 some five hundred."""
WALK_BLOCKS_MAX = 300
"""51 rows along an index that has them in order, each looked up in another table at four blocks, and not one more."""
SUM_BLOCKS_MAX = 3_000
"""What a month of top items may add up: some sixty thousand rows that lie together."""
SERIES = {
    "from_": date(2025, 6, 1), "to": date(2025, 7, 1), "bucket": "day", "time_zone": "Europe/Berlin",
    "compare": "previous",
}  # fmt: skip
MID = datetime(2026, 1, 15, tzinfo=UTC)
LATER = datetime(2026, 2, 14, tzinfo=UTC)
SOON, ALWAYS = datetime(2026, 1, 3, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def filled(postgres_url: str, template: str) -> Iterator[str]:
    """A database with the tables of every projection, filled."""
    url = create_database(postgres_url, template=template)
    yield url
    drop_database(postgres_url, url)


INDEXES = """
    SELECT i.indrelid::regclass::text AS table_name, c.conname, pg_get_constraintdef(c.oid) AS constraint_def,
        i.indexrelid::regclass::text AS index_name, pg_get_indexdef(i.indexrelid) AS index_def
    FROM pg_index AS i
    JOIN pg_class AS t ON t.oid = i.indrelid
    LEFT JOIN pg_constraint AS c ON c.conindid = i.indexrelid
    WHERE t.relnamespace::regnamespace::text = ANY($1)
"""


async def without_indexes(connection: Connection, schemas: Sequence[str]) -> Mapping[str, list[str]]:
    """Drop the indexes of some schemas' tables; return what makes them again, which is quicker when there are rows."""
    made: dict[str, list[str]] = {}
    for row in await connection.fetch(INDEXES, schemas):
        table = made.setdefault(row["table_name"], [])
        if row["conname"] is None:
            await connection.execute(f"DROP INDEX {row['index_name']}")
            table.append(row["index_def"])
        else:
            await connection.execute(f"ALTER TABLE {row['table_name']} DROP CONSTRAINT {row['conname']}")
            table.append(
                f"ALTER TABLE {row['table_name']} ADD CONSTRAINT {row['conname']} {row['constraint_def']}"
            )
    return made


async def fill(url: str, tables: "asyncio.Queue[tuple[str, Sequence[str]]]") -> None:
    """Fill tables, one after the other, as long as there are any."""
    connection = await asyncpg.connect(url)
    await connection.execute("SET maintenance_work_mem = '256MB'")
    while not tables.empty():
        table, statements = tables.get_nowait()
        for statement in (*statements, f"VACUUM ANALYZE {table}"):
            await connection.execute(statement)
    await connection.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connection(filled: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(filled)
    rows = resources.files("tests.plans.supply").joinpath("fill.sql").read_text()
    schemas = []
    for projection in definitions(load_domains(("supply",)), "projectors", Projection):
        schema = schema_of(NAMESPACE, projection.name, GENERATION)
        schemas.append(schema)
        async with connection.transaction():
            await make_tables(connection, projection, schema, NAMESPACE)
        for table in projection.tables:
            await connection.execute(f"ALTER TABLE {schema}.{table} SET UNLOGGED")
        rows = rows.replace("{" + projection.name.replace("-", "_") + "}", schema)
    statements: dict[str, list[str]] = {}
    for statement in without_comments(rows).split(";"):
        if statement.strip():
            statements.setdefault(statement.split()[2], []).append(statement)
    indexes = await without_indexes(connection, schemas)
    tables: asyncio.Queue[tuple[str, Sequence[str]]] = asyncio.Queue()
    for table in {**statements, **indexes}:
        tables.put_nowait((table, [*statements.get(table, ()), *indexes.get(table, ())]))
    await asyncio.gather(*(fill(filled, tables) for _ in range(FILLERS)))
    await connection.execute(f"SET ROLE {NAMESPACE}_query")
    yield connection
    await connection.close()


pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(400)]


def statement_of(query: type[Query], given: Mapping[str, Any], sort: str, after: Sequence[Any]) -> Statement:
    generations = tuple(sorted((projection.name, GENERATION) for projection in query.reads))
    if issubclass(query, ListQuery):
        order, names = sort or next(iter(query.sorts)), tuple(given)
        walk = query.walk_of(names, order, query.projection.version)
        return list_statement(NAMESPACE, query, generations, names, order, bool(after), walk=walk)
    if issubclass(query, DocumentQuery):
        return document_statement(NAMESPACE, query, GENERATION)
    assert issubclass(query, ComputedQuery)
    return computed_statement(NAMESPACE, query.source, generations)


def values_of(
    query: type[Query], given: Mapping[str, Any], after: Sequence[Any] = (), *, tenant: str = "demo"
) -> dict[str, Any]:
    """Return the values of a statement's parameters."""
    values: dict[str, Any] = {"tenant": tenant, "partition": 0, "table_name": None, "key": None}
    values |= {"projections": [projection.name for projection in query.reads], "page_rows": PAGE_ROWS}
    values |= dict.fromkeys(query.parameters.model_fields) | dict(given)
    return values | {f"after_{number}": value for number, value in enumerate(after)}


async def plan_of(
    connection: Connection,
    query: type[Query],
    given: Mapping[str, Any],
    sort: str = "",
    after: Sequence[Any] = (),
) -> dict[str, Any]:
    """Run a query's statement and return what PostgreSQL did."""
    statement = statement_of(query, given, sort, after)
    values = values_of(query, given, after)
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
    {"ordered_from": MID},
    {"ordered_from": MID, "ordered_to": LATER},
    {"customer_id": "C5", "status": ["delivered"]},
    {"site_id": "S3", "item_id": "I77"},
]


BOTH_WAYS: list[tuple[str, tuple[Any, ...]]] = [
    (sort, after)
    for sort in ("-ordered_at", "ordered_at")
    for after in ((), (MID, "O00050000"), (LATER, "O00050000"))
]


@pytest.mark.parametrize(("sort", "after"), BOTH_WAYS, ids=str)
@pytest.mark.parametrize(
    "more", [{}, {"ordered_from": MID}, {"ordered_from": MID, "ordered_to": LATER}], ids=str
)
@pytest.mark.parametrize("item", ["I5001", "I6001", "I7", "I7001", "I404"])
async def test_orders_of_an_item_are_read_along_its_index_however_common_it_is(
    connection: Connection, item: str, more: dict[str, Any], sort: str, after: tuple[Any, ...]
) -> None:
    """In every fourth order, in one of a hundred, in some hundreds, in five, in none."""
    plan = await plan_of(connection, OrderList, {"item_id": item, **more}, sort, after)
    assert blocks(plan) <= WALK_BLOCKS_MAX


@pytest.mark.parametrize("after", [(), ("O00050000",)], ids=["first", "next"])
@pytest.mark.parametrize("item", ["I6001", "I7", "I7001"])
async def test_orders_of_an_item_by_their_ids_are_read_along_its_key(
    connection: Connection, item: str, after: tuple[Any, ...]
) -> None:
    plan = await plan_of(connection, OrderList, {"item_id": item}, "order_id", after)
    assert blocks(plan) <= WALK_BLOCKS_MAX


@pytest.mark.parametrize("after", [(), (MID, "O00050000")], ids=["first", "next"])
@pytest.mark.parametrize("sort", ["-ordered_at", "ordered_at"])
@pytest.mark.parametrize("given", ORDERS, ids=str)
async def test_orders_are_read_along_an_index(
    connection: Connection, given: dict[str, Any], sort: str, after: tuple[Any, ...]
) -> None:
    plan = await plan_of(connection, OrderList, given, sort, after)
    assert scanned_whole(plan) == []
    assert blocks(plan) <= (ITEM_BLOCKS_MAX if "item_id" in given else PAGE_BLOCKS_MAX)


PAGES: list[tuple[type[Query], dict[str, Any], tuple[Any, ...]]] = [
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
    (ItemDocument, {"item_id": "I05000"}, ()),
    (SiteDocument, {"site_id": "S05000"}, ()),
    (RecallDocument, {"recall_id": "R05000"}, ()),
    (SiteList, {}, ("S05000",)),
    (RecallList, {}, ("R05000",)),
    (DailyDemandList, {}, ()),
    (DailyDemandList, {"from_": MID, "to": LATER}, ()),
    (DailyDemandList, {"from_": MID, "to": LATER, "item_id": "I00010", "site_id": "S3"}, ()),
    (OrderFunnelQuery, {}, ()),
    (ByStatusList, {}, ()),
    (OrderDocument, {"order_id": "O00050000"}, ()),
    (StockLevelDocument, {"site_id": "S3", "item_id": "I00100"}, ()),
]


@pytest.mark.parametrize(
    ("query", "given", "after"),
    PAGES,
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


async def test_every_query_with_every_filter_is_planned_here() -> None:
    planned: dict[type[Query], set[str]] = {
        TopItemList: {"from_", "to"},
        OrderList: {*chain(*ORDERS)},
        DemandSeriesQuery: {*SERIES},
    }
    for query, given, _ in PAGES:
        planned.setdefault(query, set()).update(given)
    declared = definitions(load_domains(("supply",)), "query_api", Query)
    assert set(declared) - planned.keys() == set()
    for query in declared:
        if issubclass(query, ListQuery):
            assert set(query.filters) - planned[query] == set(), query.__name__


async def test_top_items_add_up_the_days_asked_for_and_no_others(
    connection: Connection,
) -> None:
    plan = await plan_of(connection, TopItemList, {"from_": MID, "to": LATER})
    assert not any("Seq Scan" in node["Node Type"] and node["Alias"] == "rows" for node in nodes(plan))
    assert blocks(plan) <= SUM_BLOCKS_MAX


async def test_a_series_adds_up_the_quarters_asked_for_and_no_others(connection: Connection) -> None:
    plan = await plan_of(connection, DemandSeriesQuery, SERIES)
    assert not any("Seq Scan" in node["Node Type"] and node["Alias"] == "q" for node in nodes(plan))
    assert blocks(plan) <= SUM_BLOCKS_MAX


@pytest.mark.parametrize(
    ("query", "given", "keys"),
    [
        (OrderList, {}, [["O00050000", "O00050001"]]),
        (OrderList, {"status": ["placed", "delivered"], "item_id": "I7"}, [["O00050000", "O00050001"]]),
        (StockLevelList, {"below": 5}, [["S3", "S4"], ["I00100", "I00101"]]),
        (LotList, {"item_id": "I00100"}, [["S3"], ["I00100"], ["L1"]]),
    ],
    ids=str,
)
async def test_rows_that_streams_are_told_of_are_read_by_their_keys(
    connection: Connection, query: type[ListQuery], given: dict[str, Any], keys: list[list[str]]
) -> None:
    generations = ((query.projection.name, GENERATION),)
    statement = rows_statement(NAMESPACE, query, generations, tuple(given))
    values = values_of(query, given) | {f"key_{number}": column for number, column in enumerate(keys)}
    explained = await connection.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.sql}", *statement.arguments(values)
    )
    plan = json.loads(explained)[0]["Plan"]
    assert scanned_whole(plan) == []
    assert blocks(plan) <= PAGE_BLOCKS_MAX


FORGOTTEN: list[tuple[type[Query], dict[str, Any]]] = [
    (OrderList, {}),
    (OrderList, {"status": ["delivered"]}),
    (OrderList, {"item_id": "I5001"}),
    (OrderDocument, {"order_id": "O00050000"}),
    (StockLevelList, {}),
    (StockLevelDocument, {"site_id": "S30", "item_id": "I00100"}),
    (LotList, {}),
    (LotTraceQuery, {"item_id": "HOT", "lot": "LOT"}),
    (ItemList, {}),
    (SiteList, {}),
    (RecallList, {}),
    (DailyDemandList, {}),
    (OrderFunnelQuery, {}),
    (ByStatusList, {}),
    (TopItemList, {"from_": MID, "to": LATER}),
    (DemandSeriesQuery, SERIES),
]


@pytest.mark.parametrize(("query", "given"), FORGOTTEN, ids=str)
async def test_a_query_that_forgets_to_ask_for_its_tenant_shows_no_others_rows(
    connection: Connection, query: type[Query], given: dict[str, Any]
) -> None:
    """S18: the same statement without its condition on the tenant, for a tenant that has nothing."""
    whole = statement_of(query, given, "order_id" if query is OrderList else "", ())
    tenant = f"${whole.names.index('tenant') + 1}"
    forgetful = re.sub(rf"(\w+\.)?tenant = \{tenant}\b(::text)?", f"length({tenant}::text) > 0", whole.sql)
    assert forgetful != whole.sql
    values = whole.arguments(values_of(query, given, tenant="nobody"))
    shown = await connection.fetch(forgetful, *values)
    assert [row["doc"] for row in shown if row["doc"] is not None] == await empty_of(connection, query)
    bare = forgetful.replace("set_config('everfold.tenants', ", "concat(")
    assert "set_config" not in bare
    bare = bare.replace("::text, true) AS scope", "::text) AS scope")
    shown = await connection.fetch(bare, *values)
    assert [row["doc"] for row in shown if row["doc"] is not None] == await empty_of(connection, query)


async def empty_of(connection: Connection, query: type[Query]) -> list[Any]:
    """Return what a query says to a tenant that has nothing."""
    statement = statement_of(query, {}, "order_id" if query is OrderList else "", ())
    given = dict.fromkeys(query.path_names, "-") | (SERIES if query is DemandSeriesQuery else {})
    rows = await connection.fetch(statement.sql, *statement.arguments(values_of(query, given, tenant="-")))
    return [row["doc"] for row in rows if row["doc"] is not None]


async def test_the_same_queries_show_the_tenant_its_own_rows(connection: Connection) -> None:
    """Else the test above would hold of tables that are empty."""
    for query, given in FORGOTTEN:
        if query is ByStatusList:  # its table is not among those that are filled
            continue
        statement = statement_of(query, given, "order_id" if query is OrderList else "", ())
        rows = []
        for tenant in ("demo", "neighbour"):
            values = statement.arguments(values_of(query, given, tenant=tenant))
            rows += await connection.fetch(statement.sql, *values)
        assert [row["doc"] for row in rows if row["doc"] is not None], query.__name__


@pytest.mark.parametrize("query", [OrderDocument, OrderList, LotTraceQuery, TopItemList], ids=str)
async def test_the_tenant_is_named_before_anything_is_read(
    connection: Connection, query: type[Query]
) -> None:
    """The plan begins with the name: all that reads stands on the inner side of a nested loop over it."""
    given = {OrderDocument: {"order_id": "O00050000"}, LotTraceQuery: {"item_id": "HOT", "lot": "LOT"}}
    plan = await plan_of(connection, query, given.get(query, {}))
    assert plan["Node Type"] == "Nested Loop"
    named, read = (part for part in plan["Plans"] if part["Parent Relationship"] in ("Outer", "Inner"))
    assert (named["Node Type"], named.get("Function Name")) == ("Function Scan", "set_config")
    assert named["Parent Relationship"] == "Outer"
    tables = [node for node in nodes(plan) if "Relation Name" in node]
    assert tables
    assert all(node in list(nodes(read)) for node in tables)
