"""
The recall answer: how long each page of a trace takes whose lot has 100,000 movements, from PostgreSQL alone.

    python -m tests.bench.traces --url postgresql://…

Walks all pages over the query API, in this process and without Redis. Makes a database of its own and drops it.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx2
import orjson

from event_store.migrate import migrate
from infra.auth import issue_development_token
from infra.settings import load_settings
from projectors.generations import make_tables
from projectors.supply.lot_traces import AtSite, Hold, Lot, LotTraces
from query_api.app import query_api
from query_api.statements import schema_of
from tests.services import create_database, drop_database

TENANT, LOT = "demo", "L/1"
MOVEMENTS, PAGE_ITEMS, SITES, OTHERS = 100_000, 500, 40, 200
PATH = f"/v1/lots/HOT/L%2F1/trace?limit={PAGE_ITEMS}"
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


@dataclass
class Walk:
    """A trace that was read to its end."""

    seconds: list[float]
    """What each page took."""
    quantities: list[int]
    """What stood in the movements, in order: 1, 2, 3 …"""
    last: bytes
    """The last page."""

    def percentile_ms(self, share: float) -> float:
        """Return what this share of the pages did not exceed."""
        return sorted(self.seconds)[min(int(len(self.seconds) * share), len(self.seconds) - 1)] * 1000

    @property
    def is_whole(self) -> bool:
        """Whether every movement was answered once, in order."""
        return self.quantities == list(range(1, MOVEMENTS + 1))


async def fill(store_url: str) -> None:
    """Make the traces' tables, in which one lot has most of the movements."""
    schema = schema_of("everfold", LotTraces.name, 1)
    connection = await asyncpg.connect(store_url)
    try:
        async with connection.transaction():
            await make_tables(connection, LotTraces, schema, "everfold")
            await connection.execute(
                "INSERT INTO everfold.projections (name, generation, version) VALUES ($1, 1, 1)",
                LotTraces.name,
            )
        there = {f"S{number}": AtSite(on_hand=5, quarantined=5) for number in range(SITES)}
        lots = [Lot("HOT", LOT, "2027-01-31", received=10**7, shipped=10**7, sites=there), Lot("HOT", "L2")]
        row = f"INSERT INTO {schema}.rows VALUES ($1, $2, $3, $4, 1, '\\x00')"
        await connection.executemany(row, [(TENANT, lot.item_id, lot.lot, lot.encode()) for lot in lots])
        holds = [
            Hold(f"R-{number}", (LOT,) if number % 2 else ("L9",), is_open=True) for number in range(OTHERS)
        ]
        hold = f"INSERT INTO {schema}.holds VALUES ($1, 'HOT', $2, $3, 1, '\\x00')"
        await connection.executemany(hold, [(TENANT, each.recall_id, each.encode()) for each in holds])
        await connection.execute(FILL.format(schema=schema, sites=SITES, movements=MOVEMENTS), TENANT, LOT)
        await connection.execute(OTHER.format(schema=schema), "L2")
        await connection.execute(f"VACUUM ANALYZE {schema}.movements")
    finally:
        await connection.close()


@asynccontextmanager
async def asking(store_url: str, folder: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """Keep a query API without Redis for a block, and yield a client of it."""
    settings = load_settings(store_url=store_url, read_url=store_url, data_dir=folder, domains="supply")
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


async def walk(client: httpx2.AsyncClient) -> Walk:
    """Read the trace to its end."""
    found, path = Walk([], [], b""), PATH
    while path:
        started = time.perf_counter()
        response = await client.get(path)
        found.seconds.append(time.perf_counter() - started)
        response.raise_for_status()
        found.quantities += [item["quantity"] for item in orjson.loads(response.content)["items"]]
        found.last = response.content
        path = response.headers.get("link", "").partition(">")[0].removeprefix("<")
    return found


async def measure(url: str) -> Walk:
    """Walk on a database of its own on a server, and once before, so that what is measured has begun."""
    store_url = create_database(url)
    try:
        await asyncio.to_thread(migrate, store_url, "everfold", range(8))
        await fill(store_url)
        with tempfile.TemporaryDirectory() as folder:
            async with asking(store_url, Path(folder)) as client:
                await walk(client)
                return await walk(client)
    finally:
        drop_database(url, store_url)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    found = asyncio.run(measure(parser.parse_args().url))
    p50, p99, most = (found.percentile_ms(share) for share in (0.5, 0.99, 1))
    good = "all there" if found.is_whole else "NOT ALL THERE"
    print(
        f"{len(found.seconds)} pages of {PAGE_ITEMS}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, at most {most:.1f} ms; {good}"
    )


if __name__ == "__main__":
    main()
