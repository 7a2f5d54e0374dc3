"""
How fast commands are carried out over HTTP, durable, with every role running, beside a bare FastAPI POST.

    python -m tests.bench.commands [--rounds 3] [--seconds 3] [--connections 32] [--commands 50000] [--broker log]

One by one: runs of the bare route and of ours take turns on the same server settings, and the median of the rounds'
ratios is told; `tests.bench.wire` asks both over plain sockets, because the typed client would take from both what it
costs and bring them closer together than they are. In batches: `POST /v1/commands` with 500 `stock.receive` each over
a few connections, then the time until the read side has caught up. Afterwards what was acknowledged must be in the
log, each key once.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
import httpx2
import orjson

from infra.embedded.ports import free_port
from infra.system import RunningSystem, running_system
from infra.telemetry import start_telemetry
from tests.bench.wire import Plan
from tests.system import caught_up, settings_for

ITEMS = 200
BATCH_COMMANDS = 500
BATCH_CONNECTIONS = 4
START_SECONDS_MAX = 20.0
BODY = {"quantity": 5, "lot": "L1", "expires_on": "2031-12-31"}
PATH = "/v1/stock/S1/I{m}/receive"


@dataclass
class Found:
    """What was measured."""

    bare: list[dict[str, Any]] = field(default_factory=list)
    ours: list[dict[str, Any]] = field(default_factory=list)
    batch_commands: int = 0
    batch_seconds: float = 0.0
    caught_up_seconds: float = 0.0
    acknowledged: int = 0
    stored: int = 0

    def ratio(self) -> float:
        """Return our rate as a share of the bare route's in the same round: the median of the rounds."""
        ours, bare = ([float(run["per_second"]) for run in runs] for runs in (self.ours, self.bare))
        return float(median(map(truediv, ours, bare)))


async def load(plan: Plan) -> dict[str, Any]:
    """Send a plan's requests from a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.wire", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(orjson.dumps(asdict(plan))), plan.seconds + 90)
    answer: dict[str, Any] = orjson.loads(out)
    return answer


@asynccontextmanager
async def bare_server() -> AsyncIterator[int]:
    """Run the bare route for a block."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.bench.bare", str(port))
    try:
        async with asyncio.timeout(START_SECONDS_MAX), httpx2.AsyncClient(trust_env=False) as http:
            while not await _answers(http, port):
                await asyncio.sleep(0.1)
        yield port
    finally:
        process.terminate()
        await process.wait()


async def _answers(http: httpx2.AsyncClient, port: int) -> bool:
    try:
        return (await http.post(f"http://127.0.0.1:{port}/x", json=BODY)).status_code == 200
    except httpx2.TransportError:
        return False


async def register(system: RunningSystem) -> None:
    """Register what the commands are about."""
    headers = {"Authorization": f"Bearer {system.token()}"}
    async with httpx2.AsyncClient(base_url=system.command_url, headers=headers, trust_env=False) as http:
        site = {"name": "Main", "time_zone": "Europe/Berlin"}
        commands: list[Any] = [{"command": "sites.register", "id": {"site_id": "S1"}, "data": site}]
        commands += [
            {
                "command": "items.register",
                "id": {"item_id": f"I{number}"},
                "data": {"name": "x", "category": "y"},
            }
            for number in range(ITEMS)
        ]
        answer = await http.post("/v1/commands", json={"commands": commands}, timeout=60)
        assert {item["status"] for item in answer.json()["results"]} == {200}, answer.text[:500]


class Bench:
    """One run against one system."""

    def __init__(self, system: RunningSystem, options: argparse.Namespace) -> None:
        self.found = Found()
        self._system, self._options = system, options
        self._token = system.token()
        self._next = 0

    async def one_by_one(self) -> None:
        """Let the bare route and ours take turns."""
        port = self._system.ports["command-api"]
        async with bare_server() as bare:
            await load(self._plan(bare, 1.0))
            await self._ours(port, 1.0)
            for _ in range(self._options.rounds):
                self.found.bare.append(await load(self._plan(bare, self._options.seconds)))
                self.found.ours.append(await self._ours(port, self._options.seconds))

    async def _ours(self, port: int, seconds: float) -> dict[str, Any]:
        run = await load(self._plan(port, seconds))
        self._next = run["next"]
        assert set(run["statuses"]) == {"200"}, run
        self.found.acknowledged += run["answers"]
        return run

    def _plan(self, port: int, seconds: float) -> Plan:
        return Plan(
            "127.0.0.1", port, self._token, PATH, orjson.dumps(BODY).decode(),
            connections=self._options.connections, seconds=seconds, key="one-{n}", first=self._next, modulus=ITEMS,
        )  # fmt: skip

    async def in_batches(self) -> None:
        """Send many commands in batches, and wait for the read side."""
        bodies = [self._batch(number) for number in range(self._options.commands // BATCH_COMMANDS)]
        waiting = iter(bodies)
        async with httpx2.AsyncClient(
            base_url=self._system.command_url,
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            timeout=120,
            trust_env=False,
        ) as http:

            async def client() -> None:
                for body in waiting:
                    answer = await http.post("/v1/commands", content=body)
                    accepted = answer.content.count(b'"status":200')
                    assert accepted == BATCH_COMMANDS, answer.text[:500]
                    self.found.acknowledged += accepted

            began = time.perf_counter()
            await asyncio.gather(*(client() for _ in range(BATCH_CONNECTIONS)))
            self.found.batch_seconds = time.perf_counter() - began
        self.found.batch_commands = len(bodies) * BATCH_COMMANDS
        self.found.caught_up_seconds = await caught_up(self._system, 120)

    @staticmethod
    def _batch(number: int) -> bytes:
        return orjson.dumps(
            {
                "commands": [
                    {
                        "command": "stock.receive",
                        "id": {"site_id": "S1", "item_id": f"I{(number * BATCH_COMMANDS + index) % ITEMS}"},
                        "data": BODY,
                        "idempotency_key": f"batch-{number}-{index}",
                    }
                    for index in range(BATCH_COMMANDS)
                ]
            }
        )

    async def check(self) -> None:
        """Count what is stored of what was acknowledged; every key at most once."""
        for url in set(self._system.settings.store_urls.values()):
            connection = await asyncpg.connect(url)
            try:
                (row,) = await connection.fetch(
                    "SELECT count(*), count(DISTINCT convert_from(metadata, 'UTF8')::json->>'idempotency_key')"
                    f" FROM \"{self._system.settings.namespace}\".events WHERE stream LIKE 'stock/%'"
                )
            finally:
                await connection.close()
            assert row[0] == row[1], "a key has more than one event"
            self.found.stored += row[0]


def show(found: Found, connections: int) -> None:
    """Print the table."""

    def line(name: str, runs: Sequence[dict[str, Any]]) -> None:
        rate, p50, p99 = (median(run[key] for run in runs) for key in ("per_second", "p50_ms", "p99_ms"))
        print(f"{name:44} {rate:10,.0f}/s   p50 {p50:6.1f} ms   p99 {p99:6.1f} ms")

    line(f"bare FastAPI POST, {connections} connections", found.bare)
    line(f"stock.receive, {connections} connections", found.ours)
    print(f"{'ratio (aim 0.60)':44} {found.ratio():10.2f}")
    rate = found.batch_commands / found.batch_seconds
    print(f"{'stock.receive in batches (aim 5,000)':44} {rate:10,.0f}/s   {found.batch_commands:,} commands")
    print(f"{'read side caught up after (aim 10 s)':44} {found.caught_up_seconds:10.1f} s")
    same = "as many" if found.stored == found.acknowledged else "NOT AS MANY"
    print(f"acknowledged {found.acknowledged:,}, stored {found.stored:,}: {same}")


async def run(options: argparse.Namespace) -> Found:
    """Measure a system of its own."""
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_for(Path(folder), broker_url=options.broker)
        async with running_system(settings) as system:
            bench = Bench(system, options)
            await register(system)
            await bench.one_by_one()
            await caught_up(system, 120)
            await bench.in_batches()
            await bench.check()
            return bench.found


def main() -> int:
    """Measure, print, and say by the exit status whether what was acknowledged is stored."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--commands", type=int, default=50_000)
    parser.add_argument("--broker", default="log")
    options = parser.parse_args()
    start_telemetry(role="bench", level="WARNING")
    found = asyncio.run(run(options))
    show(found, options.connections)
    return 0 if found.stored == found.acknowledged else 1


if __name__ == "__main__":
    sys.exit(main())
