"""
How fast a read model is built anew, beside reading the same events at all.

    python -m tests.bench.replay --url postgresql://…/ [--events 1000000] [--rounds 3] [--peers PYTHON]

`stock-levels`, a fold of two tables over validated events, catches up live (one transaction a page, rows and
checkpoint) and is built into a fresh generation (folded in memory, copied in). Beside both stands the raw keyset scan
of the same events held as jsonb, 2,000 rows a page and nothing done with them. All three take turns; the medians of
the rounds' own ratios are told. After each way sums over all rows must equal those over all events. The build uses as
many worker processes as there are processors; a peer projects fewer events, as it would take a quarter of an hour.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

import uuid_utils
import uvloop

from event_store.log import Append, Check, Expect, NewEvent
from event_store.migrate import migrate
from event_store.postgres import PostgresLog
from infra.garbage import collect_seldom
from infra.settings import load_settings
from projectors.build import Build, Workshop
from projectors.build_workers import BuildWorkers
from projectors.read_side import ReadSide, open_read_side
from schemas.supply.stock import StockReceived
from tests.bench.feed import METADATA, projecting
from tests.services import create_database, drop_database

PROJECTION = "stock-levels"
TENANTS = 8
EVENTS_A_STOCK = 50
LOTS = 2
EVENTS_AN_APPEND = 5
APPENDS_A_COMMIT = 400
SCAN_ROWS = 2_000
REACH_SECONDS_MAX = 600.0
PEERS = Path(__file__).parent / "peers"
PEER_EVENTS = 3_000


@dataclass
class Found:
    """What was measured, round by round."""

    events: int
    scan: list[float] = field(default_factory=list)
    checkpointed: list[float] = field(default_factory=list)
    fresh: list[float] = field(default_factory=list)
    rows: int = 0
    equal: bool = True
    processes: int = 1
    peer: float | None = None
    """Events a second of the library `eventsourcing`'s projection runner."""

    def share(self, rates: list[float]) -> float:
        """Return the median of what some rates were of the scan's in the same round."""
        return float(median(map(truediv, rates, self.scan)))


async def fill(
    log: PostgresLog,
    events: int,
    *,
    tenants: int = TENANTS,
    stocks: int | None = None,
    once_each: bool = False,
) -> None:
    """Append goods received, each tenant's in a partition of its own; or one for each stock."""
    for number in range(tenants):
        await log.place_tenant(f"t{number}", log.partitions[number % len(log.partitions)])
    share = -(-events // tenants)
    stocks = events // EVENTS_A_STOCK if stocks is None else stocks
    gate = asyncio.Semaphore(2)

    async def one(number: int) -> None:
        async with gate:
            await _fill_tenant(
                log, f"t{number}", min(share, events - number * share), stocks // tenants, once_each=once_each
            )

    await asyncio.gather(*(one(number) for number in range(tenants)))


async def _fill_tenant(log: PostgresLog, tenant: str, events: int, stocks: int, *, once_each: bool) -> None:
    partition, chance = await log.partition_of(tenant), random.Random(tenant)
    kinds = [
        StockReceived(lot=f"L{lot}", quantity=quantity, expires_on=date(2027, 1, 1 + lot))
        for lot in range(LOTS)
        for quantity in range(1, 50)
    ]
    data = [kind.encode() for kind in kinds]
    left, size = events, 1 if once_each else EVENTS_AN_APPEND
    while left > 0:
        appends = []
        for _ in range(min(APPENDS_A_COMMIT, -(-left // size))):
            stock = left if once_each else chance.randrange(stocks)
            stream = f"stock/S{stock % 50}/I{stock // 50}"
            new = [
                NewEvent(stream, str(uuid_utils.uuid7()), "StockReceived", 1, chance.choice(data))
                for _ in range(min(size, left))
            ]
            left -= len(new)
            appends.append(Append(tenant, stream, [Check(stream, Expect.ANY)], new, METADATA))
        await log.append_batch(partition, appends)


class Replays:
    """The ways of reading and building, over one filled log."""

    def __init__(self, side: ReadSide, workers: BuildWorkers | None) -> None:
        self.side = side
        self._workers = workers
        self._kind = side.kinds[PROJECTION]
        self._totals: Any = None

    async def prepare(self) -> None:
        """Hold the same events as jsonb, one after the other, and know what the rows must add up to."""
        namespace = self.side.settings.namespace
        await self.side.pool.execute(
            f"""
            CREATE TABLE raw_events (
                position bigint PRIMARY KEY, stream text NOT NULL, version bigint NOT NULL, type text NOT NULL,
                data jsonb NOT NULL, metadata jsonb NOT NULL, at timestamptz NOT NULL
            );
            INSERT INTO raw_events
            SELECT row_number() OVER (ORDER BY partition, position), stream, version, type,
                   convert_from(data, 'UTF8')::jsonb, convert_from(metadata, 'UTF8')::jsonb, recorded_at
              FROM {namespace}.events ORDER BY partition, position
            """
        )
        for table in ("raw_events", f"{namespace}.events", f"{namespace}.commits"):
            await self.side.pool.execute(f"VACUUM ANALYZE {table}")
        self._totals = await self.side.pool.fetchrow(
            "SELECT count(DISTINCT (metadata, stream, tenant)), sum((data->>'quantity')::bigint) FROM ("
            f"SELECT 1 AS metadata, stream, tenant, convert_from(data, 'UTF8')::json AS data FROM {namespace}.events"
            ") AS e"
        )

    async def scan(self) -> float:
        """Return how many events a second are read in order of position, and nothing else."""
        statement = f"SELECT * FROM raw_events WHERE position > $1 ORDER BY position LIMIT {SCAN_ROWS}"
        async with self.side.pool.acquire() as connection:
            prepared, position, count = await connection.prepare(statement), 0, 0
            began = time.perf_counter()
            while rows := await prepared.fetch(position):
                position = rows[-1]["position"]
                count += len(rows)
            return count / (time.perf_counter() - began)

    async def checkpointed(self, events: int) -> float:
        """Return how many events a second a projector that knows nothing yet takes, page by page."""
        generation = await self._begin_anew()
        only = {PROJECTION: self._kind}
        began = time.perf_counter()
        async with projecting(self.side, only):
            await self._reached(generation, events)
            return events / (time.perf_counter() - began)

    async def fresh(self, *, verify: bool) -> float:
        """Return how many events a second are built into a fresh generation, which is then the live one."""
        shop = Workshop(self.side.log, self.side.registry, self.side.generations, self.side.checkpoints)
        built = await Build(shop, self._kind, workers=self._workers).run(verify=verify)
        assert built.swapped, built.difference
        return built.events / built.seconds

    async def rows(self) -> tuple[int, bool]:
        """Return how many rows are live, and whether they are what the events add up to."""
        live = (await self.side.generations.live())[PROJECTION]
        schema = self.side.generations.schema_of(PROJECTION, live.generation)
        pool = self.side.pool
        (row,) = await pool.fetch(
            f"SELECT count(*), sum((convert_from(doc, 'UTF8')::json->>'on_hand')::bigint) FROM \"{schema}\".rows"
        )
        (lot_row,) = await pool.fetch(f'SELECT count(*), sum(on_hand) FROM "{schema}".lots')
        (levels, units), (lots, lot_units) = row, lot_row
        return levels + lots, (levels, units) == tuple(self._totals) and lot_units == units

    async def _begin_anew(self) -> int:
        """Have a live generation without rows, whose checkpoints are at the beginning; return which it is."""
        side = self.side
        await side.generations.open_first(self._kind)
        live = (await side.generations.live())[PROJECTION]
        schema = side.generations.schema_of(PROJECTION, live.generation)
        async with side.pool.acquire() as connection, connection.transaction():
            for table in self._kind.tables:
                await connection.execute(f'TRUNCATE "{schema}"."{table}"')
            await connection.execute(
                f"DELETE FROM {side.settings.namespace}.checkpoints WHERE kind = 'projection' AND consumer = $1"
                " AND generation = $2", PROJECTION, live.generation,
            )  # fmt: skip
        return live.generation

    async def _reached(self, generation: int, events: int) -> None:
        async with asyncio.timeout(REACH_SECONDS_MAX):
            while True:
                done = await self.side.pool.fetchval(
                    f"SELECT sum(position) FROM {self.side.settings.namespace}.checkpoints "
                    "WHERE kind = 'projection' AND consumer = $1 AND generation = $2",
                    PROJECTION,
                    generation,
                )
                if done is not None and done >= events:
                    return
                await asyncio.sleep(0.05)


async def measure(url: str, events: int, rounds: int, peers: str | None) -> Found:
    """Fill, then let the ways take turns."""
    collect_seldom()
    settings = load_settings(store_url=url, read_url=url, domains="supply")
    found = Found(events)
    with ExitStack() as stack:
        workers = BuildWorkers(settings, os.cpu_count() or 1)
        stack.callback(workers.close)
        found.processes = workers.number
        async with open_read_side(settings, name="bench") as side:
            await fill(side.log, events)
            replays = Replays(side, workers)
            await replays.prepare()
            await replays.fresh(verify=False)  # opens generations, starts workers, fills caches
            for _ in range(rounds):
                found.scan.append(await replays.scan())
                found.checkpointed.append(await replays.checkpointed(events))
                found.rows, equal = await replays.rows()
                found.fresh.append(await replays.fresh(verify=False))
                rows, is_same = await replays.rows()
                found.equal &= equal and is_same and rows == found.rows
    return found


def run(server_url: str, events: int, rounds: int, peers: str | None = None) -> Found:
    """Measure on a database of its own on a server; peers in one of theirs."""
    url = create_database(server_url)
    try:
        migrate(url, "everfold", range(8))
        found = uvloop.run(measure(url, events, rounds, peers))
        if peers is not None:
            found.peer = peer(url, peers)
    finally:
        drop_database(server_url, url)
    return found


def peer(url: str, python: str) -> float:
    """Return how many events a second the library `eventsourcing` projects."""
    command = [python, str(PEERS / "eventsourcing_projects.py"), url, str(PEER_EVENTS)]
    out = subprocess.run(command, check=True, capture_output=True, timeout=120).stdout
    answer: dict[str, float] = json.loads(out)
    assert answer["projected"] == PEER_EVENTS, answer
    return answer["per_second"]


def main() -> int:
    """Print what was found, and say by the exit status whether the rows were right."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True, help="a PostgreSQL server's maintenance database")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", help="a Python that has tests/bench/peers/packages.txt")
    given = parser.parse_args()
    found = run(given.url, given.events, given.rounds, given.peers)
    print(f"raw scan      {median(found.scan):10,.0f} events/s")
    for name, rates in (("checkpointed", found.checkpointed), ("fresh", found.fresh)):
        times = f", {median(rates) / found.peer:,.0f} times the peer" if found.peer else ""
        print(f"{name:13} {median(rates):10,.0f} events/s, {found.share(rates):.2f} of the scan{times}")
    if found.peer:
        print(f"eventsourcing {found.peer:10,.0f} events/s")
    print(f"{found.rows:,} rows, {'as the events say' if found.equal else 'NOT AS THE EVENTS SAY'}")
    return 0 if found.equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
