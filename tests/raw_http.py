"""
HTTP/1.1 by hand, for tests of what no client library would send, or would keep from its caller.

Hostile addresses and headers, bytes after an answer without a body, a connection that is used again. Whoever wants
commands carried out takes `client.http`, and `tests.load` for many.
"""

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

ANSWER_SECONDS_MAX = 30.0
SILENCE_SECONDS_MAX = 20.0


def exchange(port: int, request: bytes) -> bytes:
    """Send bytes over a connection of its own, and return what comes back until it is closed or an answer is whole."""
    with socket.create_connection(("127.0.0.1", port), timeout=SILENCE_SECONDS_MAX) as connection:
        with suppress(ConnectionError):
            connection.sendall(request)
        answer = b""
        with suppress(ConnectionError):
            while part := connection.recv(65_536):
                answer += part
                if b"content-length: " in answer and _is_whole(answer):
                    break
    return answer


def _is_whole(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length: "))
    return bool(separator) and len(body) >= int(length.split(b": ")[1])


def status_of(answer: bytes) -> int:
    """Return the status of an answer."""
    return int(answer.split(b" ", 2)[1])


@dataclass(frozen=True, slots=True)
class RawResponse:
    """An answer: its status, its headers in lower case, its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body's value."""
        return orjson.loads(self.body)


class RawConnection:
    """One keep-alive connection, opened again when it is lost."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._host, self._port, self._token = host, port, token
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> RawResponse:
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

    async def _answer(self, reader: asyncio.StreamReader) -> RawResponse:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.close()
        return RawResponse(int(head[0].split(" ")[1]), headers, body)
