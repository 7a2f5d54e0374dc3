"""
Live streams: how much memory idle ones take, and how soon a change reaches the last of a thousand.

    python -m tests.bench.live idle --url postgresql://… [--streams 5000]
    python -m tests.bench.live fan-out [--streams 1000] [--changes 100]

One process of the query API serves them all. Idle streams are of ten tenants, and of subjects that have a hundred
each. A change's time is from the command's acknowledgement to the arrival of its message at the last stream, with
every role and the readers each a process of its own; each change must have reached every stream.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from client.http import Client
from event_store.migrate import migrate
from infra.auth import issue_development_token
from infra.embedded.folders import ephemeral_folder
from infra.open_files import allow_open_files
from infra.roles import QUERY_API
from infra.settings import Settings
from infra.system import DEMO_TENANT, running_system
from schemas.supply.items import RegisterItem, Tracking
from schemas.supply.sites import RegisterSite
from schemas.supply.stock import ReceiveStock
from tests.bench.live_readers import Plan
from tests.integration.query_api.live import ServerProcess
from tests.integration.query_api.readside import ReadSideUnderTest
from tests.services import create_database, drop_database
from tests.system import settings_for

TENANTS = 10
STREAMS_OF_SUBJECT = 100
ACCOUNTS = 20
IDLE_STREAMS, FAN_OUT_STREAMS, CHANGES = 5_000, 1_000, 100
PACE_SECONDS = 0.25
SETTLE_SECONDS = 3.0
OPEN_SECONDS_MAX = 300.0


@dataclass
class Idle:
    """What idle streams take."""

    streams: int
    alone_mb: float
    """What the process takes before the first."""
    with_streams_mb: float
    lost: int


@asynccontextmanager
async def readers(plan: Plan) -> AsyncIterator[asyncio.subprocess.Process]:
    """Keep streams open for a block, in a process of their own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.live_readers",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=64 * 1024 * 1024,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(orjson.dumps(asdict(plan)) + b"\n")
        await process.stdin.drain()
        async with asyncio.timeout(OPEN_SECONDS_MAX):
            assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def told(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """Have the readers end, and return what came to them."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    async with asyncio.timeout(OPEN_SECONDS_MAX):
        found: dict[str, Any] = orjson.loads(await process.stdout.readline())
        await process.wait()
    return found


def memory_mb(pid: int) -> float:
    """Return the memory that a process has in use, in MB (10⁶ bytes)."""
    (line,) = [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
    ]
    return int(line.split()[1]) * 1024 / 1e6


def tokens_of(settings: Settings, streams: int, *, tenant: str | None = None) -> list[str]:
    """Return tokens of as many subjects as it takes, of ten tenants unless one is named."""
    return [
        issue_development_token(
            settings, tenant=tenant or f"t{number % TENANTS}", roles=["viewer"], subject=f"s{number}"
        )
        for number in range(-(-streams // STREAMS_OF_SUBJECT))
    ]


async def idle(side: ReadSideUnderTest, environment: dict[str, str], streams: int) -> Idle:
    """Open idle streams on one process, and see what it takes."""
    for number in range(TENANTS):
        for account in range(ACCOUNTS):
            await side.open_account(f"A{account}", tenant=f"t{number}")
        await side.apply(tenant=f"t{number}", to_cache=False)
    server = ServerProcess(environment)
    await server.start()
    try:
        alone = memory_mb(server.pid)
        plan = Plan(server.port, "/v1/live?views=accounts", tokens_of(side.settings, streams), streams)
        async with readers(plan) as process:
            await asyncio.sleep(SETTLE_SECONDS)
            with_streams = memory_mb(server.pid)
            found = await told(process)
    finally:
        await server.end()
    return Idle(streams, alone, with_streams, found["lost"])


@dataclass
class FanOut:
    """How soon changes reached the last of some streams."""

    streams: int
    changes: int
    """Those that are whole: told to every stream, by a message at or after them."""
    p50_ms: float
    p99_ms: float
    lost: int


async def fan_out(streams: int, changes: int) -> FanOut:
    """Let one item's stock change at a time, and see when the last stream knows."""
    with ephemeral_folder() as folder:
        async with running_system(settings_for(folder / "system")) as system:
            tokens = tokens_of(system.settings, streams, tenant=DEMO_TENANT)
            client = Client(command_url=system.command_url, query_url=system.query_url, token=system.token())
            async with client:
                await client.do(RegisterSite(site_id="S1", name="Main", time_zone="UTC"))
                for number in range(ACCOUNTS):
                    plain = Tracking(lot=False, expiry=False)
                    await client.do(RegisterItem(item_id=f"I{number}", name="Gloves", tracking=plain))
                    await client.do(ReceiveStock(site_id="S1", item_id=f"I{number}", quantity=1))
                await client.get("/v1/stock-levels")
                plan = Plan(system.ports[QUERY_API], "/v1/live?views=stock-levels", tokens, streams)
                async with readers(plan) as process:
                    sent = await _change(client, changes)
                    await asyncio.sleep(SETTLE_SECONDS)
                    found = await told(process)
    return _fan_out(streams, sent, found)


async def _change(client: Client, changes: int) -> dict[str, float]:
    """Receive stock now and then; return when each was acknowledged, by key and version."""
    sent: dict[str, float] = {}
    for number in range(changes):
        began = time.monotonic()
        item = f"I{number % ACCOUNTS}"
        result = await client.do(ReceiveStock(site_id="S1", item_id=item, quantity=1))
        sent[f"S1/{item}@{result.version}"] = time.monotonic()
        await asyncio.sleep(max(0.0, began + PACE_SECONDS - time.monotonic()))
    return sent


def _fan_out(streams: int, sent: dict[str, float], found: dict[str, Any]) -> FanOut:
    arrived = found["arrived"]
    whole = {name for name in sent if arrived.get(name, [0])[0] == streams}
    waits = sorted(max(arrived[name][1] - sent[name], 0.0) * 1000 for name in whole) or [float("inf")]
    p50, p99 = (waits[min(int(len(waits) * share), len(waits) - 1)] for share in (0.5, 0.99))
    return FanOut(streams, len(whole), p50, p99, found["lost"])


@asynccontextmanager
async def world(url: str) -> AsyncIterator[tuple[ReadSideUnderTest, dict[str, str]]]:
    """Keep a database of the run's own for a block."""
    store_url = create_database(url)
    try:
        await asyncio.to_thread(migrate, store_url, "everfold", range(8))
        with tempfile.TemporaryDirectory() as folder:
            async with ReadSideUnderTest(store_url, None, Path(folder)) as side:
                yield side, {"EVERFOLD_STORE_URL": store_url, "EVERFOLD_DATA_DIR": folder}
    finally:
        drop_database(url, store_url)


async def measure_idle(url: str, streams: int) -> Idle:
    """Measure idle streams on a database of their own."""
    async with world(url) as (side, environment):
        return await idle(side, environment, streams)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["idle", "fan-out"])
    parser.add_argument("--url")
    parser.add_argument("--streams", type=int)
    parser.add_argument("--changes", type=int, default=CHANGES)
    options = parser.parse_args()
    allow_open_files()
    if options.what == "idle":
        print(asyncio.run(measure_idle(options.url, options.streams or IDLE_STREAMS)))
    else:
        print(asyncio.run(fan_out(options.streams or FAN_OUT_STREAMS, options.changes)))


if __name__ == "__main__":
    main()
