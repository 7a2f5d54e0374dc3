"""
How much memory a replay takes, and that it does not grow with the log.

    python -m tests.bench.replay_memory --events 100000 400000 [--stocks 20000] [--projection stock-levels]

On a PostgreSQL of its own: for each number of events a database with so many, over so many rows in all partitions, and
`everfold replay` of one projection as a process of its own, whose largest size is told. For the full size give
`--events 10000000`; the last two sizes must not differ by more than `GROWTH_BYTES_MAX`, and none may be above
`MEMORY_BYTES_MAX`.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import uvloop

from event_store.migrate import migrate
from event_store.postgres import PostgresLog
from infra.embedded.folders import ephemeral_folder, server_folder
from infra.embedded.ports import free_port
from infra.embedded.postgres import PostgresServer
from infra.embedded.server import running
from infra.settings import load_settings
from schemas import Event
from schemas.supply.stock import StockReceived
from tests.bench.feed import append
from tests.services import create_database, drop_database

MEMORY_BYTES_MAX = 300 * 1024 * 1024
GROWTH_BYTES_MAX = 30 * 1024 * 1024
TENANTS = 8
PART = 10_000
LOOK_SECONDS = 0.05
REPLAY_SECONDS_MAX = 3_600.0


async def fill(url: str, events: int, stocks: int) -> None:
    """Append so many events about so many stocks, tenant by tenant, so that most partitions have some."""
    chance = random.Random(7)
    settings = load_settings(store_url=url, read_url=url, domains="supply")
    async with PostgresLog(settings.store_urls, settings.namespace) as log:
        for start in range(0, events, PART):
            received: list[tuple[str, Event]] = [
                (
                    f"stock/S{(number := chance.randrange(stocks)) % 50}/I{number // 50}",
                    StockReceived(lot=f"L{chance.randrange(4)}", quantity=1, expires_on=date(2027, 1, 1)),
                )
                for _ in range(min(PART, events - start))
            ]
            await append(log, received, f"t{start // PART % TENANTS}")


def replay(url: str, projection: str) -> tuple[int, float]:
    """Replay as a process of its own; return the most memory that it took, and for how long it ran."""
    environment = {
        **os.environ, "EVERFOLD_STORE_URL": url, "EVERFOLD_READ_URL": url, "EVERFOLD_DOMAINS": "supply",
        "EVERFOLD_BROKER_URL": "log",
    }  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.cli", "replay", projection], env=environment, stderr=subprocess.DEVNULL
    )
    most = 0
    while process.poll() is None:
        most = max(most, _peak_bytes(process.pid))
        time.sleep(LOOK_SECONDS)
        if time.perf_counter() - began > REPLAY_SECONDS_MAX:
            process.kill()
    if process.returncode != 0:
        raise RuntimeError(f"the replay ended with status {process.returncode}")
    return most, time.perf_counter() - began


def _peak_bytes(pid: int) -> int:
    """Return the largest size that a process has had; 0 when it has just ended."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) * 1024 if found else 0


def main() -> int:
    """Measure each size, and say whether memory stays within its bounds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, nargs="+", default=[100_000, 400_000])
    parser.add_argument("--stocks", type=int, default=20_000)
    parser.add_argument("--projection", default="stock-levels")
    given = parser.parse_args()
    peaks: list[int] = []
    with ephemeral_folder() as folder:
        server = PostgresServer(server_folder(folder, "postgres"), free_port(), fast=True)
        with running(server):
            for events in given.events:
                url = create_database(server.url)
                migrate(url, "everfold", range(8))
                uvloop.run(fill(url, events, given.stocks))
                peak, seconds = replay(url, given.projection)
                peaks.append(peak)
                print(
                    f"{events:>12,} events: {peak / 2**20:6.0f} MiB, {events / seconds:,.0f} events a second"
                )
                drop_database(server.url, url)
    growth = peaks[-1] - peaks[-2] if len(peaks) > 1 else 0
    holds = max(peaks) <= MEMORY_BYTES_MAX and growth <= GROWTH_BYTES_MAX
    print(
        f"most {max(peaks) / 2**20:.0f} MiB, growth {growth / 2**20:.0f} MiB: {'holds' if holds else 'DOES NOT HOLD'}"
    )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
