"""
A closed-loop load generator in a process of its own, thin enough that it does not measure itself.

    python -m tests.bench.wire < plan.json     prints one line of JSON: answers, statuses, seconds, percentiles

Each connection sends its next request when the last is answered. `{n}` in a path or body becomes a number that no
other request of the run has, `{m}` that number modulo `modulus`.
"""

import asyncio
import itertools
import sys
import time
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
import uvloop


@dataclass
class Plan:
    """What to send, over how many connections, for how long."""

    host: str
    port: int
    token: str
    path: str
    body: str
    connections: int = 32
    seconds: float = 5.0
    key: str = ""
    """An idempotency key with `{n}`; none when empty."""
    first: int = 0
    modulus: int = 1
    requests_max: int = 10_000_000


@dataclass
class Tally:
    """What came back."""

    statuses: dict[str, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    last_body: bytes = b""


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(
        self, plan: Plan, numbers: "itertools.count[int]", tally: Tally, done: "asyncio.Future[None]"
    ) -> None:
        self._plan, self._numbers, self._tally, self._done = plan, numbers, tally, done
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._sent = 0.0
        self._stop_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast(asyncio.Transport, transport)
        self._stop_at = time.perf_counter() + self._plan.seconds
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        plan, count = self._plan, next(self._numbers)
        number, rest = str(count), str(count % plan.modulus)
        body = plan.body.replace("{n}", number).encode()
        key = f"Idempotency-Key: {plan.key.replace('{n}', number)}\r\n" if plan.key else ""
        path = plan.path.replace("{n}", number).replace("{m}", rest)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {plan.host}\r\n"
            f"Authorization: Bearer {plan.token}\r\nContent-Type: application/json\r\n{key}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._sent = time.perf_counter()
        self._transport.write(head.encode() + body)

    def data_received(self, data: bytes) -> None:
        """Take an answer, and send the next request."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self._buffer.find(b"content-length: ") + len(b"content-length: ")
        length = int(self._buffer[at : self._buffer.find(b"\r\n", at)])
        if len(self._buffer) < end + 4 + length:
            return
        now = time.perf_counter()
        self._tally.latencies.append(now - self._sent)
        status = self._buffer[9:12].decode()
        self._tally.statuses[status] = self._tally.statuses.get(status, 0) + 1
        self._tally.last_body = self._buffer[end + 4 :]
        self._buffer = b""
        if now >= self._stop_at or len(self._tally.latencies) >= self._plan.requests_max:
            assert self._transport is not None
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Be done."""
        if not self._done.done():
            self._done.set_result(None)


async def run(plan: Plan) -> dict[str, Any]:
    """Send a plan's requests and return what came back."""
    loop, numbers, tally = asyncio.get_running_loop(), itertools.count(plan.first), Tally()
    started = time.perf_counter()
    waiting = []
    for _ in range(plan.connections):
        done: asyncio.Future[None] = loop.create_future()
        await loop.create_connection(
            lambda done=done: Client(plan, numbers, tally, done),  # type: ignore[misc]  # bound now
            plan.host,
            plan.port,
        )
        waiting.append(done)
    await asyncio.wait_for(asyncio.gather(*waiting), plan.seconds + 60)
    seconds = time.perf_counter() - started
    ordered = sorted(tally.latencies) or [0.0]
    return {
        "answers": len(tally.latencies),
        "statuses": tally.statuses,
        "seconds": seconds,
        "per_second": len(tally.latencies) / seconds,
        "p50_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000,
        "next": next(numbers),
        "last_body": tally.last_body[:300].decode(errors="replace"),
    }


if __name__ == "__main__":
    given = Plan(**orjson.loads(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(orjson.dumps(uvloop.run(run(given))) + b"\n")
