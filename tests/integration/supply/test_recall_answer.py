"""The recall answer: where a lot with a hundred thousand movements went, page by page, from PostgreSQL alone."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx2
import orjson
import pytest

from infra.auth import issue_development_token
from infra.settings import load_settings
from projectors.generations import make_tables
from projectors.supply.lot_traces import AtSite, Hold, Lot, LotTraces
from query_api.app import query_api
from query_api.statements import schema_of
from schemas.supply import views

TENANT, LOT = "demo", "L/1"
MOVEMENTS, SITES, OTHERS = 100_000, 40, 200
SECONDS_MAX = 0.05
FILL = """
    INSERT INTO {schema}.movements (tenant, item_id, lot, at, doc, position, commit_hash)
    SELECT $1, 'HOT', $2, lpad(to_hex(n), 16, '0'),
           convert_to(json_build_object(
               'kind', 'shipped', 'site_id', 'S' || n % {sites}, 'quantity', n, 'occurred_at', '2026-03-01T12:00:00Z',
               'order_id', 'O-' || n, 'customer_id', 'C-' || n % 997, 'shipment_id', 'SH-' || n,
               'supplier_id', NULL, 'document', NULL
           )::text, 'UTF8'), n, '\\x00'
      FROM generate_series(1, {movements}) AS n
"""
OTHER = """
    INSERT INTO {schema}.movements (tenant, item_id, lot, at, doc, position, commit_hash)
    SELECT tenant, item_id, $1, at, doc, position, commit_hash FROM {schema}.movements WHERE position % 10 = 0
"""


@pytest.fixture
async def client(store_url: str, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a query API without Redis, on tables in which one lot has most of the movements."""
    schema = schema_of("everfold", LotTraces.name, 1)
    connection = await asyncpg.connect(store_url)
    async with connection.transaction():
        await make_tables(connection, LotTraces, schema, "everfold")
        await connection.execute(
            "INSERT INTO everfold.projections (name, generation, version) VALUES ($1, 1, 1)", LotTraces.name
        )
    there = {f"S{number}": AtSite(on_hand=5, quarantined=5) for number in range(SITES)}
    lots = [Lot("HOT", LOT, "2027-01-31", received=10**7, shipped=10**7, sites=there), Lot("HOT", "L2")]
    row = f"INSERT INTO {schema}.rows VALUES ($1, $2, $3, $4, 1, '\\x00')"
    await connection.executemany(row, [(TENANT, lot.item_id, lot.lot, lot.encode()) for lot in lots])
    holds = [Hold(f"R-{number}", (LOT,) if number % 2 else ("L9",), is_open=True) for number in range(OTHERS)]
    hold = f"INSERT INTO {schema}.holds VALUES ($1, 'HOT', $2, $3, 1, '\\x00')"
    await connection.executemany(hold, [(TENANT, each.recall_id, each.encode()) for each in holds])
    await connection.execute(FILL.format(schema=schema, sites=SITES, movements=MOVEMENTS), TENANT, LOT)
    await connection.execute(OTHER.format(schema=schema), "L2")
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    settings = load_settings(store_url=store_url, read_url=store_url, data_dir=tmp_path, domains="supply")
    assert settings.redis_url is None
    token = issue_development_token(settings, tenant=TENANT, roles=["quality"])
    async with (
        query_api(settings) as api,
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=api.edge),
            base_url="http://everfold.test",
            headers={"authorization": f"Bearer {token}"},
            timeout=30,
        ) as client,
    ):
        yield client


async def test_a_lot_with_a_hundred_thousand_movements_is_answered_in_time_to_the_last_page(
    client: httpx2.AsyncClient,
) -> None:
    path, seconds, found = "/v1/lots/HOT/L%2F1/trace?limit=500", [], 0
    while path:
        started = time.perf_counter()
        response = await client.get(path)
        seconds.append(time.perf_counter() - started)
        assert response.status_code == 200, response.text
        page = orjson.loads(response.content)
        assert [item["quantity"] for item in page["items"]] == list(range(found + 1, found + 501))
        found += 500
        path = response.headers.get("link", "").partition(">")[0].removeprefix("<")
    assert found == MOVEMENTS
    assert page["next"] is None
    assert (page["on_hold"], len(page["recalls"]), len(page["stock"])) == (True, OTHERS // 2, SITES)
    views.LotTrace.model_validate_json(response.content)
    # A quarter of the pages: the machine may have other things to do, and none gets slower towards the end.
    assert sorted(seconds)[len(seconds) // 4] < SECONDS_MAX, seconds
    assert min(seconds[-20:]) < SECONDS_MAX
    assert min(seconds[-20:]) < 3 * min(seconds[:20])
