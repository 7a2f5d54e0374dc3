"""
How fast queries are answered, beside FastAPI routes that return fixed bytes, make one GET from Redis, or one query.

    python -m tests.bench.queries --url postgresql://… --redis redis://… [--rounds 3] [--seconds 3]

Interleaved runs on the same server settings, medians of the rounds' own ratios; every answer's status is counted, and
where the cache is measured all must be hits. Makes a database of its own and drops it.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from urllib.request import urlopen

import orjson

from event_store.migrate import migrate
from infra.embedded.ports import free_port
from tests.bench.query_server import PAGE_ITEMS
from tests.integration.query_api.readside import TENANT, ReadSideUnderTest
from tests.services import create_database, drop_database

ACCOUNTS = 1_000
START_SECONDS_MAX = 20.0


Runs = dict[str, list[dict[str, Any]]]
"""What was measured of each kind of request, run by run."""


class Asked(NamedTuple):
    """One kind of request."""

    server: str
    paths: Sequence[str]
    is_conditional: bool = False
    """Whether it says that the client has the answer."""
    hits: bool | None = None
    """Whether each must, or must not, come out of the cache."""


DOCUMENTS = [f"/v1/accounts/A-{number:04}" for number in range(ACCOUNTS)]
PAGES = [f"/v1/accounts?sort=account_id&below_cents={1_000 + number}" for number in range(20)]
QUESTIONS = range(1_000, 1_400)
"""As many as make it unlikely that two connections ask the same at once and share one read."""
KINDS: dict[str, Asked] = {
    "fixed bytes": Asked("bare", DOCUMENTS),
    "one GET": Asked("bare", [f"/redis/A-{number:04}" for number in range(ACCOUNTS)]),
    "fixed page": Asked("bare", ["/v1/accounts"]),
    "one query": Asked("bare", [f"/query?below_cents={number}" for number in QUESTIONS]),
    "document": Asked("ours", DOCUMENTS, hits=True),
    "not modified": Asked("ours", DOCUMENTS, is_conditional=True, hits=True),
    "page": Asked("ours", PAGES, hits=True),
    "page read": Asked(
        "ours without Redis",
        [f"/v1/accounts?sort=account_id&below_cents={number}" for number in QUESTIONS],
        hits=False,
    ),
}


class Compared(NamedTuple):
    """What is compared with what."""

    name: str
    ours: str
    other: str
    aim: str


COMPARED = (
    Compared("a document out of Redis, of fixed bytes", "document", "fixed bytes", "≥ 0.9, p99 ≤ 10 ms"),
    Compared("… of a route with one GET", "document", "one GET", "≥ 2"),
    Compared("… not modified, of fixed bytes", "not modified", "fixed bytes", "≥ 1.0, p99 ≤ 10 ms"),
    Compared(
        f"a page of {PAGE_ITEMS} out of Redis, of fixed bytes", "page", "fixed page", "≥ 0.7, p99 ≤ 10 ms"
    ),
    Compared("… out of PostgreSQL, of a route with the bare query", "page read", "one query", "≥ 0.6"),
)


@contextmanager
def server(kind: str, environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """Run a server for a block and yield its port and process id."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.query_server", kind.split()[0], str(port)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        path = "/v1/accounts/A" if kind == "bare" else "/readyz"
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


def measure(
    place: tuple[int, int], paths: Sequence[str], headers: dict[str, str], seconds: float
) -> dict[str, Any]:
    """Run the load generator against a server."""
    port, pid = place
    before = cpu_seconds(pid)
    plan = {"port": port, "paths": list(paths), "headers": headers, "seconds": seconds}
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
    """Run the servers in turn, and ask each for what it is there for."""
    headers = {"Authorization": f"Bearer {token}"}
    found: Runs = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for name in dict.fromkeys(asked.server for asked in KINDS.values()):
            given = dict(environment)
            if name.endswith("without Redis"):
                del given["EVERFOLD_REDIS_URL"]
            with server(name, given) as place:
                for kind, asked in KINDS.items():
                    if asked.server == name:
                        more = {"If-None-Match": "*"} if asked.is_conditional else {}
                        measure(place, asked.paths, headers | more, 0.5)
                        found[kind].append(measure(place, asked.paths, headers | more, seconds))
    return found


def is_good(kind: str, runs: Sequence[dict[str, Any]]) -> bool:
    """Say whether every answer was one that counts."""
    asked, status = KINDS[kind], "304" if KINDS[kind].is_conditional else "200"
    for run in runs:
        if set(run["statuses"]) != {status}:
            return False
        if asked.hits is not None and run["hits"] != (run["statuses"][status] if asked.hits else 0):
            return False
    return True


def share_of(found: Runs, ours: str, other: str) -> float:
    """Return the median of the rounds' own ratios."""
    pairs = zip(found[ours], found[other], strict=True)
    return float(median(mine["per_second"] / theirs["per_second"] for mine, theirs in pairs))


def show_all(found: Runs) -> None:
    """Print the table."""
    for kind, runs in found.items():
        rate, p99, cpu = (median(run[key] for run in runs) for key in ("per_second", "p99_ms", "cpu_us"))
        good = "" if is_good(kind, runs) else "  NOT ALL GOOD"
        print(f"{kind:<14} {rate:8,.0f}/s  p99 {p99:6.2f} ms  server {cpu:4.0f} µs{good}")
    for line in COMPARED:
        print(f"{line.name:<56} {share_of(found, line.ours, line.other):5.2f}  {line.aim}")


if __name__ == "__main__":
    main()
