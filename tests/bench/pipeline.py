"""
How soon a command's row can be read with every role a process of its own, through RabbitMQ; and after a stop.

    python -m tests.bench.pipeline [--seconds 20] [--rate 500] [--broker amqp://…]

Lag: so many `stock.receive` a second are sent over HTTP at fixed times, whatever the answers do. PostgreSQL keeps the
time of each commit, and `lot-traces` makes a row of its own of each receipt that is never written again: from the
commit of an event to the commit of its row, for every event, with nothing that watches meanwhile. Catching up: the
projector is frozen for ten seconds, in which events are appended through the log's interface; told is how many a second
went through all projections from its first move on until the last had all.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from pydantic import SecretStr

from infra.embedded.folders import ephemeral_folder, server_folder
from infra.embedded.ports import free_port
from infra.embedded.postgres import PostgresServer
from infra.embedded.rabbitmq import LOCAL_URL
from infra.embedded.server import running
from infra.system import DEMO_TENANT, RunningSystem, running_system
from infra.telemetry import start_telemetry
from tests.bench.commands import BODY, ITEMS, register
from tests.load import Ledger, Request, load_client
from tests.queues import delete_queues
from tests.system import caught_up, settings_for, tool

CONNECTIONS = 16
WARM_SECONDS = 3.0
STOP_SECONDS = 10.0
STOPPED_RATE = 10_000
REACH_SECONDS_MAX = 120.0
PROJECTOR = "projector"


@dataclass
class Found:
    """What was measured."""

    sent: int = 0
    acknowledged: int = 0
    seconds: float = 0.0
    lags_ms: list[float] = field(default_factory=list)
    stopped_events: int = 0
    caught_up_seconds: float = 0.0
    stored: int = 0
    verified: bool = False

    @property
    def holds(self) -> bool:
        """Whether what was acknowledged is stored, and rows are what the log says."""
        return self.acknowledged == self.stored == self.sent and self.verified

    def lag_ms(self, share: float) -> float:
        """Return the time from commit to readable row that this share of the events did not exceed."""
        ordered = sorted(self.lags_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Pipeline:
    """One run against one system."""

    def __init__(self, system: RunningSystem, options: argparse.Namespace) -> None:
        self.found = Found()
        self._system, self._options = system, options
        self._namespace = system.settings.namespace
        (self._url,) = set(system.settings.store_urls.values())

    async def lag(self) -> None:
        """Send at fixed times, then read from PostgreSQL when what became readable."""
        await self._send(WARM_SECONDS, "warm")
        await caught_up(self._system)
        async with self._database() as connection:
            since = await connection.fetchval("SELECT clock_timestamp()")
            began = time.monotonic()
            await self._send(self._options.seconds, "lag")
            self.found.seconds = time.monotonic() - began
            await caught_up(self._system)
            schema = await connection.fetchval(
                f"SELECT schema FROM {self._namespace}.generations WHERE projection = 'lot-traces' AND state = 'live'"
            )
            rows = await connection.fetch(
                f"""
                SELECT extract(epoch FROM pg_xact_commit_timestamp(m.xmin) - pg_xact_commit_timestamp(c.xmin)) * 1000
                  FROM {self._namespace}.events AS e
                  JOIN {self._namespace}.commits AS c ON c.partition = e.partition
                       AND e.position BETWEEN c.first_position AND c.last_position
                  JOIN "{schema}".movements AS m ON m.tenant = e.tenant AND m.position = e.position
                 WHERE e.type = 'StockReceived' AND e.recorded_at > $1
                """,
                since,
            )
        self.found.lags_ms = [float(row[0]) for row in rows]

    async def after_a_stop(self) -> None:
        """Freeze the projector while events are appended, and see how fast it takes them."""
        process = self._system.supervisor.children[PROJECTOR].pid
        assert process is not None
        os.kill(process, signal.SIGSTOP)
        try:
            appender = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.bench.following", "append", "--url", self._url, "--namespace",
                self._namespace, "--only-stock", "--rate", str(STOPPED_RATE),
                "--seconds", str(STOP_SECONDS), stdout=subprocess.PIPE,
            )  # fmt: skip
            out, _ = await asyncio.wait_for(appender.communicate(), REACH_SECONDS_MAX)
        finally:
            os.kill(process, signal.SIGCONT)
        began = time.monotonic()
        self.found.stopped_events = int(out.split()[0])
        async with self._database() as connection, asyncio.timeout(REACH_SECONDS_MAX):
            while await self._behind(connection):
                await asyncio.sleep(0.02)
        self.found.caught_up_seconds = time.monotonic() - began

    async def check(self) -> None:
        """Count what is stored of what was acknowledged, and compare all rows with their fold."""
        async with self._database() as connection:
            self.found.stored = await connection.fetchval(
                f"SELECT count(*) FROM {self._namespace}.events WHERE type = 'StockReceived' AND tenant = $1",
                DEMO_TENANT,
            )
        status, _, wrong = await tool(self._system, "verify", "--projections")
        assert status in (0, 1), wrong
        self.found.verified = status == 0

    async def _behind(self, connection: "asyncpg.Connection[Any]") -> int:
        """Return how many events the slowest live projection lacks."""
        row = await connection.fetchrow(
            f"""
            SELECT (SELECT sum(last) FROM (
                       SELECT max(last_position) AS last FROM {self._namespace}.commits GROUP BY partition) AS h),
                   (SELECT min(reached) FROM (
                       SELECT sum(c.position) AS reached
                         FROM {self._namespace}.generations AS g
                         JOIN {self._namespace}.checkpoints AS c ON c.kind = 'projection'
                              AND c.consumer = g.projection AND c.generation = g.generation
                        WHERE g.state = 'live' GROUP BY g.projection) AS p)
            """
        )
        assert row is not None
        return int(row[0] - row[1])

    async def _send(self, seconds: float, name: str) -> None:
        """Send commands at fixed times over some connections; a late answer does not keep the next one back."""
        rate, count = self._options.rate, int(seconds * self._options.rate)
        url, token, ledger = self._system.command_url, self._system.token(), Ledger()
        async with (
            load_client(url, token, clients=CONNECTIONS, give_up_after_seconds=REACH_SECONDS_MAX) as client,
            asyncio.TaskGroup() as tasks,
        ):
            began = time.monotonic()
            for number in range(count):
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                request = Request(f"/v1/stock/S1/I{number % ITEMS}/receive", BODY, f"{name}-{number}")
                tasks.create_task(ledger.carry_out(client, request))
        assert not ledger.rejected, ledger.rejected
        self.found.acknowledged += len(ledger.acknowledged)
        self.found.sent += count

    @asynccontextmanager
    async def _database(self) -> AsyncIterator["asyncpg.Connection[Any]"]:
        connection = await asyncpg.connect(self._url)
        try:
            yield connection
        finally:
            await connection.close()


async def run(options: argparse.Namespace, postgres_url: str) -> Found:
    """Measure a system of its own on a PostgreSQL that keeps the times of commits."""
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_for(
            Path(folder), broker_url=options.broker, store_url=SecretStr(postgres_url), drift_sweep_seconds=0
        )
        try:
            async with running_system(settings) as system:
                await register(system)
                pipeline = Pipeline(system, options)
                await pipeline.lag()
                await pipeline.after_a_stop()
                await pipeline.check()
                return pipeline.found
        finally:
            if settings.uses_broker:
                await delete_queues(options.broker, settings.namespace, settings.partitions)


def measure(options: argparse.Namespace) -> Found:
    """Measure with a PostgreSQL of its own."""
    with ephemeral_folder() as folder:
        server = PostgresServer(
            server_folder(folder, "postgres"), free_port(), database="everfold",
            settings={"track_commit_timestamp": "on"},
        )  # fmt: skip
        with running(server):
            return asyncio.run(run(options, server.url))


def main() -> int:
    """Measure, print, and say by the exit status whether what was acknowledged is stored and rows are right."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--broker", default=LOCAL_URL, help="log: without a broker")
    options = parser.parse_args()
    start_telemetry(role="bench", level="WARNING")
    found = measure(options)
    sent = len(found.lags_ms) / found.seconds
    print(
        f"commit to readable row at {sent:,.0f} commands/s: p50 {found.lag_ms(0.5):.1f} ms, "
        f"p99 {found.lag_ms(0.99):.1f} ms, most {found.lag_ms(1.0):.0f} ms, of {len(found.lags_ms):,} events"
    )
    rate = found.stopped_events / found.caught_up_seconds
    print(
        f"after {STOP_SECONDS:g} s of standing still {found.stopped_events:,} events were taken in "
        f"{found.caught_up_seconds:.1f} s: {rate:,.0f} a second through all projections"
    )
    print(
        f"acknowledged {found.acknowledged:,}, stored {found.stored:,}; rows "
        f"{'equal' if found.verified else 'DO NOT EQUAL'} their fold"
    )
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(main())
