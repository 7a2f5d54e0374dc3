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
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from event_store.migrate import migrate
from event_store.postgres import PostgresLog
from infra.embedded.folders import ephemeral_folder, server_folder
from infra.embedded.ports import free_port
from infra.embedded.postgres import PostgresServer
from infra.embedded.server import running
from infra.settings import load_settings
from tests.bench.replay import fill
from tests.services import create_database, drop_database

MEMORY_BYTES_MAX = 300 * 1024 * 1024
GROWTH_BYTES_MAX = 30 * 1024 * 1024
LOOK_SECONDS = 0.05
REPLAY_SECONDS_MAX = 3_600.0


async def fill_log(url: str, events: int, stocks: int) -> None:
    """Append so many events about so many stocks."""
    settings = load_settings(store_url=url, read_url=url, domains="supply")
    async with PostgresLog(settings.store_urls, settings.namespace) as log:
        await fill(log, events, stocks=stocks)


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


@dataclass
class Found:
    """The most memory by number of events, and for how long each replay ran."""

    events: list[int]
    peaks: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def most_bytes(self) -> int:
        """The most of all."""
        return max(self.peaks)

    @property
    def growth_bytes(self) -> int:
        """By how much the last took more than the one before."""
        return self.peaks[-1] - self.peaks[-2] if len(self.peaks) > 1 else 0

    @property
    def holds(self) -> bool:
        """Whether memory stays within its bounds."""
        return self.most_bytes <= MEMORY_BYTES_MAX and self.growth_bytes <= GROWTH_BYTES_MAX


def measure(sizes: list[int], stocks: int, projection: str) -> Found:
    """Replay logs of some sizes, on a PostgreSQL of the run's own."""
    found = Found(sizes)
    with ephemeral_folder() as folder:
        server = PostgresServer(server_folder(folder, "postgres"), free_port(), fast=True)
        with running(server):
            for events in sizes:
                url = create_database(server.url)
                migrate(url, "everfold", range(8))
                uvloop.run(fill_log(url, events, stocks))
                peak, seconds = replay(url, projection)
                found.peaks.append(peak)
                found.seconds.append(seconds)
                drop_database(server.url, url)
    return found


def main() -> int:
    """Measure each size, and say whether memory stays within its bounds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, nargs="+", default=[100_000, 400_000])
    parser.add_argument("--stocks", type=int, default=20_000)
    parser.add_argument("--projection", default="stock-levels")
    given = parser.parse_args()
    found = measure(given.events, given.stocks, given.projection)
    for events, peak, seconds in zip(found.events, found.peaks, found.seconds, strict=True):
        print(f"{events:>12,} events: {peak / 2**20:6.0f} MiB, {events / seconds:,.0f} events a second")
    print(
        f"most {found.most_bytes / 2**20:.0f} MiB, growth {found.growth_bytes / 2**20:.0f} MiB: "
        f"{'holds' if found.holds else 'DOES NOT HOLD'}"
    )
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(main())
