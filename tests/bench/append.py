"""
How many appends a second the log takes, in process and durable, beside a plain insert of the same rows.

    python -m tests.bench.append URL [SECONDS]

Runs are interleaved and their medians compared, because the machine drifts. After each run what was acknowledged is
counted in the log, and must be there without a gap.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import asyncpg
import uvloop
from uuid_utils import uuid7

from event_store.log import Answer, Append, Check, NewEvent
from event_store.migrate import migrate
from event_store.postgres import PostgresLog

NAMESPACE = "everfold_bench_append"
RUNS = 3
SECONDS = 2.0
CALLERS = (1, 32, 256)
BATCHES = (1, 10, 50, 200)
BATCH_MAX = 500
STREAM_EVENTS = 5
"""Events that a caller gives a stream before it begins another, as short streams are what there is most of."""
DATA = json.dumps({"lot": "L-1", "quantity": 12, "note": "x" * 210}).encode()
METADATA = json.dumps({"actor": "clerk-1", "command": "stock.receive", "correlation_id": "y" * 90}).encode()
PARTITION = 0


@dataclass
class Measured:
    """One path's rates, run by run."""

    name: str
    unit: str = "appends/s"
    rates: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return the medians."""
        latency = {"p50_ms": median(self.p50_ms), "p99_ms": median(self.p99_ms)} if self.p50_ms else {}
        return {
            "name": self.name,
            "unit": self.unit,
            "median": median(self.rates),
            "runs": self.rates,
            **latency,
        }


class Batcher:
    """The smallest group commit there is: whatever waits while a call is under way goes into the next one."""

    def __init__(self, log: PostgresLog) -> None:
        self._log = log
        self._waiting: list[tuple[Append, asyncio.Future[int]]] = []
        self._woken = asyncio.Event()

    async def append(self, append: Append) -> int:
        """Append, and return the stream's version."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((append, answer))
        self._woken.set()
        return await answer

    async def run(self) -> None:
        """Carry out what waits, until cancelled."""
        while True:
            await self._woken.wait()
            batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
            if not self._waiting:
                self._woken.clear()
            outcomes = await self._log.append_batch(PARTITION, [append for append, _ in batch])
            for (_, answer), outcome in zip(batch, outcomes, strict=True):
                assert outcome.answer is Answer.APPENDED
                answer.set_result(outcome.version)


def one_append(stream: str, version: int) -> Append:
    """Return an append of one event."""
    event = NewEvent(stream, str(uuid7()), "StockReceived", 1, DATA)
    return Append("demo", stream, (Check(stream, version),), (event,), METADATA)


def new_stream() -> str:
    """Return a stream's name that no other has."""
    return f"stock/S1/{random.getrandbits(60):x}"


async def by_callers(log: PostgresLog, callers: int, seconds: float, measured: Measured) -> int:
    """Let callers append one by one, each as soon as it was answered, and return how many were acknowledged."""
    batcher, waits, stop = Batcher(log), [], time.perf_counter() + seconds

    async def call() -> None:
        stream, version = new_stream(), 0
        while (began := time.perf_counter()) < stop:
            version = await batcher.append(one_append(stream, version))
            waits.append(time.perf_counter() - began)
            if version == STREAM_EVENTS:
                stream, version = new_stream(), 0

    running, began = asyncio.create_task(batcher.run()), time.perf_counter()
    await asyncio.gather(*(call() for _ in range(callers)))
    measured.rates.append(len(waits) / (time.perf_counter() - began))
    running.cancel()
    waits.sort()
    measured.p50_ms.append(waits[len(waits) // 2] * 1_000)
    measured.p99_ms.append(waits[len(waits) * 99 // 100] * 1_000)
    return len(waits)


async def by_batches(log: PostgresLog, size: int, seconds: float, measured: Measured) -> int:
    """Append batch after batch of one size, one at a time."""
    done, began = 0, time.perf_counter()
    while time.perf_counter() < began + seconds:
        outcomes = await log.append_batch(PARTITION, [one_append(new_stream(), 0) for _ in range(size)])
        done += sum(outcome.answer is Answer.APPENDED for outcome in outcomes)
    measured.rates.append(done / (time.perf_counter() - began))
    return done


async def plain_inserts(url: str, size: int, seconds: float, measured: Measured) -> None:
    """Insert the same rows with a primary key and an index, and nothing else: no check, no order, no chain."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            f"CREATE TABLE {NAMESPACE}.plain (position bigint PRIMARY KEY, id uuid, stream text, version bigint,"
            " type text, data bytea, metadata bytea, UNIQUE (stream, version))"
        )
        insert = await connection.prepare(
            f"INSERT INTO {NAMESPACE}.plain SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::bigint[],"
            " $5::text[], $6::bytea[], $7::bytea[])"
        )
        done, began = 0, time.perf_counter()
        while time.perf_counter() < began + seconds:
            rows = [one_append(new_stream(), 0) for _ in range(size)]
            await insert.fetch(
                list(range(done, done + size)), [row.events[0].id for row in rows], [row.stream for row in rows],
                [1] * size, ["StockReceived"] * size, [DATA] * size, [METADATA] * size,
            )  # fmt: skip
            done += size
        measured.rates.append(done / (time.perf_counter() - began))
    finally:
        await connection.execute(f"DROP TABLE IF EXISTS {NAMESPACE}.plain")
        await connection.close()


async def checked(log: PostgresLog, url: str, run: Callable[[], Awaitable[int]]) -> None:
    """Run, and count afterwards: what was acknowledged is stored, and there is no gap."""
    before = (await log.heads())[PARTITION].position
    acknowledged = await run()
    connection = await asyncpg.connect(url)
    try:
        ((stored, first, last),) = await connection.fetch(
            f"SELECT count(*), min(position), max(position) FROM {NAMESPACE}.events"
            f" WHERE partition = {PARTITION} AND position > $1", before
        )  # fmt: skip
    finally:
        await connection.close()
    assert stored == acknowledged == last - before, (stored, acknowledged, before, last)
    assert first == before + 1


async def measure(url: str, seconds: float = SECONDS, runs: int = RUNS) -> list[Measured]:
    """Measure every path some times over, in turn. Leaves nothing behind in the database."""
    admin = await asyncpg.connect(url)
    await admin.execute(f"DROP SCHEMA IF EXISTS {NAMESPACE} CASCADE")
    await asyncio.to_thread(migrate, url, NAMESPACE, range(1))
    callers = {count: Measured(f"append, {count} callers") for count in CALLERS}
    batches = {size: Measured(f"append_batch of {size}, one after another") for size in BATCHES}
    plain = {size: Measured(f"ceiling: plain insert of {size} rows a commit", "rows/s") for size in BATCHES}
    try:
        async with PostgresLog({range(1): url}, NAMESPACE) as log:
            await by_batches(log, 50, 0.2, Measured("warm-up"))
            for _ in range(runs):
                for count, measured in callers.items():
                    await checked(log, url, partial(by_callers, log, count, seconds, measured))
                for size, measured in batches.items():
                    await checked(log, url, partial(by_batches, log, size, seconds, measured))
                    await plain_inserts(url, size, seconds, plain[size])
    finally:
        await admin.execute(f"DROP SCHEMA IF EXISTS {NAMESPACE} CASCADE")
        await admin.close()
    return [*callers.values(), *batches.values(), *plain.values()]


def main() -> None:
    """Print one line a path."""
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else SECONDS
    for measured in uvloop.run(measure(sys.argv[1], seconds)):
        facts = measured.document()
        latency = f"  p50 {facts['p50_ms']:.2f} ms, p99 {facts['p99_ms']:.2f} ms" if "p50_ms" in facts else ""
        print(f"{facts['name']:<44}{facts['median']:>10,.0f} {facts['unit']}{latency}")


if __name__ == "__main__":
    main()
