"""
How fast a document is answered out of Redis, beside a FastAPI route that returns fixed bytes.

    python -m tests.bench.queries --url postgresql://… --redis redis://… [--rounds 3] [--seconds 3]

Interleaved runs on the same server settings, medians; every answer's status is counted, and all must be cache hits.
Makes a database of its own and drops it.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

import orjson

from event_store.migrate import migrate
from infra.embedded.ports import free_port
from tests.integration.query_api.readside import TENANT, ReadSideUnderTest
from tests.services import create_database, drop_database

ACCOUNTS = 1_000
START_SECONDS_MAX = 20.0


Runs = dict[str, list[dict[str, Any]]]
"""What each kind of server measured, run by run."""


@contextmanager
def server(kind: str, environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """Run a server for a block and yield its port and process id."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.query_server", kind, str(port)],
        env={**os.environ, **environment},
        stderr=subprocess.DEVNULL,
    )
    try:
        path = "/readyz" if kind == "ours" else "/v1/accounts/A"
        asyncio.run(answers(f"http://127.0.0.1:{port}{path}"))
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(10)


async def answers(url: str) -> None:
    """Wait until a server answers."""
    async with asyncio.timeout(START_SECONDS_MAX):
        while True:
            try:
                await asyncio.to_thread(lambda: urlopen(url, timeout=2).read())
            except OSError:
                await asyncio.sleep(0.05)
            else:
                return


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(place: tuple[int, int], headers: dict[str, str], seconds: float) -> dict[str, Any]:
    """Run the load generator against a server."""
    port, pid = place
    before = cpu_seconds(pid)
    plan = {
        "port": port,
        "paths": [f"/v1/accounts/A-{number:04}" for number in range(ACCOUNTS)],
        "headers": headers,
        "seconds": seconds,
    }
    finished = subprocess.run(
        [sys.executable, "-m", "tests.bench.readers"],
        input=orjson.dumps(plan),
        capture_output=True,
        check=True,
    )
    result: dict[str, Any] = orjson.loads(finished.stdout)
    result["cpu_us"] = (cpu_seconds(pid) - before) * 1e6 / sum(result["statuses"].values())
    return result


async def prepare(store_url: str, redis_url: str, folder: Path) -> str:
    """Open the accounts and write them through; return a token."""
    async with ReadSideUnderTest(store_url, redis_url, folder) as side:
        assert side.redis is not None
        await side.redis.run("return redis.call('FLUSHDB')", [], [])
        for number in range(ACCOUNTS):
            await side.open_account(f"A-{number:04}")
        await side.apply()
        return side.token(TENANT, ["viewer"])


def show(name: str, runs: list[dict[str, Any]], base: float | None) -> float:
    """Print one line of the table and return the rate."""
    rate = float(median(run["per_second"] for run in runs))
    p99 = median(run["p99_ms"] for run in runs)
    cpu = median(run["cpu_us"] for run in runs)
    statuses = {status for run in runs for status in run["statuses"]}
    ratio = f"{rate / base:6.2f}" if base else "  1.00"
    answered = ",".join(sorted(statuses))
    print(f"{name:<26} {rate:8,.0f}/s {ratio}  p99 {p99:6.2f} ms  server {cpu:4.0f} µs  statuses {answered}")
    return rate


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--redis", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    show_all(run(options.url, options.redis, options.rounds, options.seconds))


def run(url: str, redis_url: str, rounds: int, seconds: float) -> Runs:
    """Measure on a database of its own on a server."""
    store_url = create_database(url)
    try:
        migrate(store_url, "everfold", range(8))
        with tempfile.TemporaryDirectory() as folder:
            token = asyncio.run(prepare(store_url, redis_url, Path(folder)))
            environment = {
                "EVERFOLD_STORE_URL": store_url,
                "EVERFOLD_REDIS_URL": redis_url,
                "EVERFOLD_DATA_DIR": folder,
            }
            return compare(token, environment, rounds, seconds)
    finally:
        drop_database(url, store_url)


def compare(token: str, environment: dict[str, str], rounds: int, seconds: float) -> Runs:
    """Run the servers in turn: `fixed` bytes, `ours`, and ours `304`."""
    headers = {"Authorization": f"Bearer {token}"}
    found: Runs = {"fixed": [], "ours": [], "304": []}
    for _ in range(rounds):
        for kind in ("fixed", "ours"):
            with server(kind, environment) as place:
                measure(place, headers, 0.5)
                found[kind].append(measure(place, headers, seconds))
                if kind == "ours":
                    found["304"].append(measure(place, headers | {"If-None-Match": "*"}, seconds))
    return found


def show_all(found: Runs) -> None:
    """Print the table."""
    base = show("FastAPI, fixed bytes", found["fixed"], None)
    show("a document out of Redis", found["ours"], base)
    show("the same, not modified", found["304"], base)
    answered = sum(sum(run["statuses"].values()) for run in found["ours"])
    hits = sum(run["hits"] for run in found["ours"])
    print(f"answers {answered}, cache hits {hits}")


if __name__ == "__main__":
    main()
