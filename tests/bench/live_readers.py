"""
Many readers of live streams, in a process of its own, thin enough that it does not measure itself.

    python -m tests.bench.live_readers < plan.json

Opens the plan's streams, says `ready` on a line when all have their snapshot, then reads until its input ends, and
prints one line of JSON: when each key's version reached the last of the streams, by the machine's monotonic clock.
"""

import asyncio
import re
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvloop

OPENED_TOGETHER = 100
_CHANGE = re.compile(rb'"key":"([^"]*)","version":(\d+)')


@dataclass
class Plan:
    """What to open, and with whose tokens (in turn)."""

    port: int
    path: str
    tokens: list[str]
    streams: int
    reads: bool = True
    """Whether they read; else they let everything lie after the first bytes."""


@dataclass
class Tally:
    """What has come."""

    arrived: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By key and version, when it reached each stream."""
    lost: int = 0


class Reader(asyncio.Protocol):
    """One stream."""

    def __init__(self, plan: Plan, number: int, tally: Tally) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._plan, self._tally = plan, tally
        self._head = (
            f"GET {plan.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
            f"Authorization: Bearer {plan.tokens[number % len(plan.tokens)]}\r\n\r\n"
        ).encode()
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self.transport: Any = transport
        transport.write(self._head)  # type: ignore[attr-defined]  # a transport that writes

    def data_received(self, data: bytes) -> None:
        """Look for what is known by its key and version."""
        now = time.monotonic()
        data = self._rest + data
        end = data.rfind(b"\n\n")
        self._rest = data[end + 2 :] if end >= 0 else data
        if end < 0:
            return
        if not self.ready.done() and b"event: snapshot-end" in data:
            self.ready.set_result(None)
            if not self._plan.reads:
                self.transport.pause_reading()
            return
        for key, version in _CHANGE.findall(data[: end + 2]):
            self._tally.arrived[f"{key.decode()}@{version.decode()}"].append(now)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note."""
        self._tally.lost += 1
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("refused or cut"))


async def run(plan: Plan) -> dict[str, Any]:
    """Read, and return what came."""
    loop, tally = asyncio.get_running_loop(), Tally()
    readers: list[Reader] = []
    for start in range(0, plan.streams, OPENED_TOGETHER):
        opened = [
            Reader(plan, number, tally) for number in range(start, min(start + OPENED_TOGETHER, plan.streams))
        ]
        for reader in opened:
            await loop.create_connection(lambda reader=reader: reader, "127.0.0.1", plan.port)  # type: ignore[misc]  # bound now
        await asyncio.gather(*(reader.ready for reader in opened))
        readers += opened
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    found = {name: [len(times), max(times)] for name, times in tally.arrived.items()}
    for reader in readers:
        reader.transport.abort()
    return {"arrived": found, "lost": tally.lost}


if __name__ == "__main__":
    given = Plan(**orjson.loads(sys.stdin.buffer.readline()))
    sys.stdout.buffer.write(orjson.dumps(uvloop.run(run(given))) + b"\n")
