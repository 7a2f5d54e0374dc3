"""
Clients that never give up: closed-loop connections that repeat an unanswered command with its key, and a ledger.

Raw HTTP/1.1 over asyncio streams, because a full client would cost more than the server. The ledger says of each
command what a client may conclude: `acknowledged` with its events, `rejected` with the problem, or `unknown`.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

ANSWER_SECONDS_MAX = 30.0
CONNECT_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Request:
    """A command: its path under the command API, its body, and the key it is repeated with."""

    path: str
    body: Mapping[str, Any]
    key: str


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: its status, its headers in lower case, its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body's value."""
        return orjson.loads(self.body)


@dataclass(slots=True)
class Ledger:
    """What the clients know."""

    acknowledged: dict[str, list[str]] = field(default_factory=dict)
    """Event ids by key."""
    rejected: dict[str, str] = field(default_factory=dict)
    """Problem type by key."""
    unknown: set[str] = field(default_factory=set)
    attempts: int = 0
    latencies_seconds: list[float] = field(default_factory=list)
    """Of answers that came at the first attempt."""

    def percentile_ms(self, share: float) -> float:
        """Return the latency that this share of the first answers did not exceed."""
        ordered = sorted(self.latencies_seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0


class Connection:
    """One keep-alive connection, opened again when it is lost."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._host, self._port, self._token = host, port, token
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Response:
        """
        Send one request and return its answer.

        Raises:
            ConnectionError: The connection could not be made or was lost; nobody knows what happened.
            TimeoutError: No answer within the bound.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                if self._streams is None:
                    self._streams = await asyncio.open_connection(self._host, self._port)
                reader, writer = self._streams
                writer.write(self._head(method, path, body, headers or {}) + body)
                await writer.drain()
                return await self._answer(reader)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self.close()
            raise (error if isinstance(error, TimeoutError) else ConnectionError(str(error))) from error
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    def _head(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}", f"Authorization: Bearer {self._token}"]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def _answer(self, reader: asyncio.StreamReader) -> Response:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.close()
        return Response(int(head[0].split(" ")[1]), headers, body)


async def run_clients(
    *,
    host: str,
    port: int,
    token: str,
    clients: int,
    next_request: Callable[[int, int], Request | None],
    give_up_after_seconds: float = 60.0,
    pause_seconds: float = 0.0,
) -> Ledger:
    """
    Let so many clients send commands, each its next one after the answer to the last and a pause, until there are none.

    `next_request(client, number)` gives a client's next command. A command that was not answered, or with 503 or
    504, is sent again with the same key until it is, for so long at most: then its outcome is unknown.
    """
    ledger = Ledger()

    async def client(index: int) -> None:
        connection = Connection(host, port, token)
        number = 0
        while (request := next_request(index, number)) is not None:
            number += 1
            await _until_answered(connection, request, ledger, give_up_after_seconds)
            await asyncio.sleep(pause_seconds)
        connection.close()

    await asyncio.gather(*(client(index) for index in range(clients)))
    return ledger


async def _until_answered(connection: Connection, request: Request, ledger: Ledger, seconds: float) -> None:
    body = orjson.dumps(request.body)
    began = time.monotonic()
    for attempt in range(1_000_000):
        ledger.attempts += 1
        sent = time.monotonic()
        try:
            answer = await connection.request("POST", request.path, body, {"Idempotency-Key": request.key})
        except (ConnectionError, TimeoutError):
            answer = None
        if answer is not None and answer.status == 200:
            if attempt == 0:
                ledger.latencies_seconds.append(time.monotonic() - sent)
            ledger.acknowledged[request.key] = [event["id"] for event in answer.json()["events"]]
            return
        if answer is not None and answer.status not in (503, 504, 429):
            ledger.rejected[request.key] = answer.json()["type"]
            return
        if time.monotonic() - began > seconds:
            ledger.unknown.add(request.key)
            return
        await asyncio.sleep(CONNECT_PAUSE_SECONDS)
