"""
Whether a log of many events is as fast as a small one, and how many bytes an event takes.

    python -m tests.bench.growth [--events 10000000] [--rounds 5] [--shared-buffers 6GB] [--url URL]

Two logs of one server, of 100,000 events and of many, take turns, since a machine is not as fast in one minute as in
another: a second of appends (batches of 200, one event each), then a second of reading (pages of 2,000 from a random
place). Before that both are vacuumed, and what filling has left to be written is written. On a PostgreSQL of its own,
with a quarter of this machine's memory for its buffers as PostgreSQL's manual advises, unless a URL is given.
Afterwards positions are gapless and as many as were acknowledged.
"""

import argparse
import asyncio
import random
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from operator import truediv
from statistics import median

import asyncpg
import uvloop
from uuid_utils import uuid7

from event_store.log import Append, Check, NewEvent
from event_store.migrate import migrate
from event_store.postgres import PostgresLog
from infra.embedded.folders import ephemeral_folder, server_folder
from infra.embedded.ports import free_port
from infra.embedded.postgres import PostgresServer
from infra.embedded.server import running
from schemas.envelope import CommitMark
from tests.bench.append import DATA, METADATA, PARTITION, new_stream, one_append

NAMESPACE = "everfold_bench_growth"
SMALL = 100_000
BATCH, PAGE = 200, 2_000
SLICE_SECONDS = 1.0
FILL_APPENDS, FILL_EVENTS = 200, 20
"""What is put in at once between the measurements: so many appends of so many events each."""
SIZES = """
    SELECT sum(pg_table_size(c.oid)) FILTER (WHERE c.relname ~ '^events_p0_r'),
           sum(pg_indexes_size(c.oid)) FILTER (WHERE c.relname ~ '^events_p0_r'),
           sum(pg_total_relation_size(c.oid))
      FROM pg_class AS c WHERE c.relnamespace = $1::regnamespace AND c.relkind = 'r'
"""


@dataclass
class Rates:
    """What was measured of one log, a figure a round."""

    log: PostgresLog
    namespace: str
    events: int = 0
    appends_per_second: list[float] = field(default_factory=list)
    events_read_per_second: list[float] = field(default_factory=list)


def _many() -> Append:
    stream = new_stream()
    events = [NewEvent(stream, str(uuid7()), "StockReceived", 1, DATA) for _ in range(FILL_EVENTS)]
    return Append("demo", stream, (Check(stream, 0),), events, METADATA)


async def fill(log: PostgresLog, upto: int) -> None:
    """Append until the log has so many events."""
    head = (await log.heads())[PARTITION].position
    began, first, told = time.perf_counter(), head, time.perf_counter()
    while head < upto:
        appends = min(FILL_APPENDS, -(-(upto - head) // FILL_EVENTS))
        outcomes = await log.append_batch(PARTITION, [_many() for _ in range(appends)])
        head = outcomes[-1].position
        if time.perf_counter() - told > 10:
            told = time.perf_counter()
            print(f"  {head:,} of {upto:,} events, {(head - first) / (told - began):,.0f}/s", flush=True)


async def append(log: PostgresLog) -> float:
    """Return how many events a second can be appended."""
    done, began = 0, time.perf_counter()
    while time.perf_counter() < began + SLICE_SECONDS:
        await log.append_batch(PARTITION, [one_append(new_stream(), 0) for _ in range(BATCH)])
        done += BATCH
    return done / (time.perf_counter() - began)


async def read(log: PostgresLog, head: int) -> float:
    """Return how many events a second can be read."""
    done, began = 0, time.perf_counter()
    while time.perf_counter() < began + SLICE_SECONDS:
        commit = await log.commit_of(PARTITION, random.randint(1, max(1, head - PAGE)))
        assert commit is not None
        page = await log.read_page(PARTITION, CommitMark(*commit.mark), events_max=PAGE)
        done += len(page.events)
    return done / (time.perf_counter() - began)


async def run(url: str, events: int, rounds: int) -> None:
    """Fill both logs, let them take turns, and print what was found."""
    admin = await asyncpg.connect(url)
    namespaces = [f"{NAMESPACE}_small", f"{NAMESPACE}_large"]
    try:
        async with AsyncExitStack() as stack:
            logs = []
            for namespace, size in zip(namespaces, (SMALL, events), strict=True):
                await admin.execute(f"DROP SCHEMA IF EXISTS {namespace} CASCADE")
                await asyncio.to_thread(migrate, url, namespace, range(1))
                log = await stack.enter_async_context(PostgresLog({range(1): url}, namespace))
                await fill(log, size)
                logs.append(Rates(log, namespace, size))
            await admin.execute("VACUUM ANALYZE")
            await admin.execute("CHECKPOINT")
            for _ in range(rounds):
                for one in logs:
                    one.appends_per_second.append(await append(one.log))
                for one in logs:
                    one.events_read_per_second.append(await read(one.log, one.events))
            for one in logs:
                head = (await one.log.heads())[PARTITION].position
                stored = await admin.fetchval(f"SELECT count(*) FROM {one.namespace}.events")
                assert stored == head, (stored, head)
        ((table, indexes, all_),) = await admin.fetch(SIZES, logs[-1].namespace)
        buffers = await admin.fetchval("SHOW shared_buffers")
    finally:
        for namespace in namespaces:
            await admin.execute(f"DROP SCHEMA IF EXISTS {namespace} CASCADE")
        await admin.close()
    for one in logs:
        print(
            f"{one.events:>12,} events   append {median(one.appends_per_second):>9,.0f}/s   "
            f"read {median(one.events_read_per_second):>9,.0f} events/s"
        )
    small, large = logs
    appends = median(map(truediv, large.appends_per_second, small.appends_per_second))
    reads = median(map(truediv, large.events_read_per_second, small.events_read_per_second))
    print(
        f"large / small: append {appends:.2f}, read {reads:.2f} (aim 0.75); medians of {rounds} rounds; "
        f"shared_buffers {buffers}"
    )
    print(
        f"bytes an event: {len(DATA)} data, {len(METADATA)} metadata; events' table {table / head:.0f}, its indexes "
        f"{indexes / head:.0f}; everything {all_ / head:.0f}"
    )


def main() -> None:
    """Run on a PostgreSQL of its own, or on a given one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shared-buffers", default="6GB")
    parser.add_argument("--url")
    options = parser.parse_args()
    if options.url:
        uvloop.run(run(options.url, options.events, options.rounds))
        return
    with ephemeral_folder() as folder:
        settings = {"shared_buffers": options.shared_buffers, "max_wal_size": "16GB"}
        server = PostgresServer(server_folder(folder, "postgres"), free_port(), settings=settings)
        with running(server):
            uvloop.run(run(server.url, options.events, options.rounds))


if __name__ == "__main__":
    main()
