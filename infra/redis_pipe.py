"""
One connection to Redis for reads and readers' turns, with many requests under way on it at once.

The library's path through pool, retries and streams costs five times what the reply does, and the hot route of the
query API is made of little else. Replies come in the order of requests, so each takes the place at the front of
a queue; a caller that has gone keeps its place, and its reply is dropped when it comes. Where a reply is overdue the
connection is ended, with all that wait on it: nothing is ever read by somebody whom it was not meant for.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import hiredis
from redis.asyncio.connection import SSLConnection, parse_url

Reply = Any
WAITING_MAX = 10_000


class PipeBroken(ConnectionError):
    """The connection has ended, or the server does not take it."""


class PipeRefused(PipeBroken):
    """The server answers, and says no."""


class _Wire(asyncio.Protocol):
    """The connection itself: requests out, replies in, in one order."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                waiter = self._waiting.popleft()
                if not waiter.done():
                    waiter.set_result(reply)
        except (hiredis.ProtocolError, IndexError):
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(PipeBroken("the connection was lost"))

    def ask(self, *command: Any) -> "asyncio.Future[Reply]":
        """Send a command; its reply comes with the future."""
        if self._transport is None or not self.is_open or len(self._waiting) >= WAITING_MAX:
            raise PipeBroken("the connection is not open")
        waiter: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._transport.write(hiredis.pack_command(command))
        return waiter

    def abort(self) -> None:
        """End the connection without another word."""
        if self._transport is not None:
            self._transport.abort()


class RedisPipe:
    """Reads over one connection, which is made when it is needed."""

    def __init__(self, url: str) -> None:
        self._place: dict[str, Any] = dict(parse_url(url))
        self._wire: _Wire | None = None
        self._connecting = asyncio.Lock()

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """
        Return the values of keys, in order, as they were at one moment.

        The caller sets the bound in time, and calls `close` when it is over.

        Raises:
            PipeBroken: The connection has ended, or the server refused.
            OSError: There is no connection to be had.
        """
        values: list[bytes | None] = await self.ask("MGET", *keys)
        return values

    async def ask(self, *command: Any) -> Reply:
        """
        Return the reply to one short command.

        Raises:
            PipeBroken: The connection has ended.
            PipeRefused: The server says no.
            OSError: There is no connection to be had.
        """
        wire = self._wire
        if wire is None or not wire.is_open:
            wire = await self._connect()
        return _checked(await wire.ask(*command))

    async def _connect(self) -> _Wire:
        async with self._connecting:
            if self._wire is not None and self._wire.is_open:
                return self._wire
            place, loop = self._place, asyncio.get_running_loop()
            if "path" in place:
                _, wire = await loop.create_unix_connection(_Wire, place["path"])
            else:
                secure = (
                    ssl.create_default_context() if place.get("connection_class") is SSLConnection else None
                )
                _, wire = await loop.create_connection(
                    _Wire, place.get("host", "localhost"), place.get("port", 6379), ssl=secure
                )
            try:
                await self._introduce(wire)
            except BaseException:
                wire.abort()
                raise
            self._wire = wire
            return wire

    async def _introduce(self, wire: _Wire) -> None:
        place = self._place
        if place.get("password"):
            names = [place["username"]] if place.get("username") else []
            _checked(await wire.ask("AUTH", *names, place["password"]))
        if place.get("db"):
            _checked(await wire.ask("SELECT", place["db"]))

    def close(self) -> None:
        """End the connection, with all that wait on it; the next read makes another."""
        if self._wire is not None:
            self._wire.abort()


def _checked(reply: Reply) -> Reply:
    if isinstance(reply, hiredis.ReplyError):
        raise PipeRefused(str(reply))
    return reply
