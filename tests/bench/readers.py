"""
A closed-loop load generator for reads, in a process of its own, thin enough that it does not measure itself.

    python -m tests.bench.readers < plan.json     prints one line of JSON: rate, statuses, percentiles, a checksum
"""

import asyncio
import itertools
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
import uvloop


@dataclass
class Plan:
    """What to ask, over how many connections, for how long."""

    port: int
    paths: list[str]
    headers: dict[str, str]
    connections: int = 32
    seconds: float = 3.0
    requests: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        self.requests = [
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n".encode() for path in self.paths
        ]


@dataclass
class Tally:
    """What came back."""

    statuses: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    hits: int = 0


class Client(asyncio.Protocol):
    """One connection: asks again when it has been answered."""

    def __init__(self, plan: Plan, turns: "itertools.cycle[bytes]", tally: Tally) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns, self._tally = turns, tally
        self._stop_at = time.perf_counter() + plan.seconds
        self._buffer = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(next(self._turns))

    def data_received(self, data: bytes) -> None:
        """Take an answer, and send the next request."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self._buffer.find(b"content-length: ", 0, end)
        length = int(self._buffer[at + 16 : self._buffer.find(b"\r\n", at)]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return
        now = time.perf_counter()
        self._tally.latencies.append(now - self._sent)
        self._tally.statuses[self._buffer[9:12].decode()] += 1
        self._tally.hits += b"everfold; hit" in self._buffer
        self._buffer = b""
        if now >= self._stop_at:
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Be done."""
        if not self.done.done():
            self.done.set_result(None)


async def run(plan: Plan) -> dict[str, Any]:
    """Ask and return what came back."""
    loop, turns, tally = asyncio.get_running_loop(), itertools.cycle(plan.requests), Tally()
    started = time.perf_counter()
    clients = [Client(plan, turns, tally) for _ in range(plan.connections)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", plan.port)  # type: ignore[misc]  # bound now
    async with asyncio.timeout(plan.seconds + 30):
        await asyncio.gather(*(client.done for client in clients))
    seconds = time.perf_counter() - started
    ordered = sorted(tally.latencies)
    return {
        "per_second": len(ordered) / seconds,
        "statuses": tally.statuses,
        "hits": tally.hits,
        "p50_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000,
    }


if __name__ == "__main__":
    given = Plan(**orjson.loads(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(orjson.dumps(uvloop.run(run(given))) + b"\n")
