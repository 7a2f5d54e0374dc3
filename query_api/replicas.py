"""
Where reads go: the nearest healthy replica that has come far enough, another, or the primary.

A replica may be late, paused, restarting, or cancel a query for its recovery's sake. None of that is an error of
the request: the next server is asked. How far a server is, it says itself, in the very statement that reads. A
connection whose statement was cancelled or timed out is closed, not used again.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import asyncpg

from event_store.connections import Connections
from infra.telemetry import Counter, log
from schemas.errors import ServiceError, StoreUnavailable

Row = Any
"""An asyncpg record."""
Judge = Callable[[Sequence[Row]], bool]
"""Says whether a replica's answer is new enough."""

CONNECTIONS_MAX = 8
PRIMARY_SECONDS_MAX = 10.0
REPLICA_SECONDS_MAX = 1.0
REST_SECONDS_MIN, REST_SECONDS_MAX = 0.5, 8.0
BEHIND_SECONDS = 0.25
LATENCY_WEIGHT = 0.1

READS = Counter(
    "everfold_query_reads_total", "Reads from PostgreSQL by server and outcome", ["server", "outcome"]
)

AWAY = (
    OSError,
    TimeoutError,
    StoreUnavailable,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
NOT_NOW_CLASSES = ("08", "40", "53", "57", "58")
"""SQLSTATE classes: connection, rollback (recovery conflicts too), resources, operator, system."""
NOT_THERE = ("3F000", "42P01")
"""No such schema or table: the generation is not there yet, or not any more."""


class GenerationGone(ServiceError):
    """The tables of the generation that was asked for are not there."""


class Server:
    """One PostgreSQL server to read from, and what is known of its health."""

    def __init__(self, url: str, name: str, *, statement_seconds_max: float) -> None:
        self.name = name
        self.latency_seconds = 0.0
        self.busy = 0
        self._statement_seconds_max = statement_seconds_max
        self._connections = Connections(url, size_max=CONNECTIONS_MAX, name="everfold-query-api")
        self._rest_seconds = 0.0
        self._rests_until = 0.0
        self._behind_until = 0.0

    @property
    def is_resting(self) -> bool:
        """Whether it has failed a moment ago."""
        return time.monotonic() < self._rests_until

    @property
    def is_behind(self) -> bool:
        """Whether it was behind a moment ago."""
        return time.monotonic() < self._behind_until

    @property
    def cost(self) -> float:
        """How long an answer will take, about."""
        return self.latency_seconds * (1 + self.busy)

    async def fetch(self, sql: str, arguments: Sequence[Any] = ()) -> Sequence[Row]:
        """
        Run one statement.

        Raises:
            StoreUnavailable: The server does not answer, or not now.
            GenerationGone: A schema or table is not there.
        """
        started = time.monotonic()
        self.busy += 1
        try:
            async with asyncio.timeout(self._statement_seconds_max):
                rows = await self._run(sql, arguments)
        except AWAY as error:
            if isinstance(error, ValueError):  # an argument that does not fit: nobody's health
                raise
            raise self._failed(error) from error
        except asyncpg.PostgresError as error:
            if error.sqlstate in NOT_THERE:
                raise GenerationGone from error
            if str(error.sqlstate)[:2] in NOT_NOW_CLASSES:
                raise self._failed(error) from error
            raise
        finally:
            self.busy -= 1
        self._rest_seconds = 0.0
        self.latency_seconds += LATENCY_WEIGHT * (time.monotonic() - started - self.latency_seconds)
        READS.labels(self.name, "ok").inc()
        return rows

    async def _run(self, sql: str, arguments: Sequence[Any]) -> Sequence[Row]:
        async with self._connections.borrow() as connection:
            rows: Sequence[Row] = await connection.fetch(sql, *arguments)
        return rows

    def _failed(self, error: BaseException) -> StoreUnavailable:
        READS.labels(self.name, "failed").inc()
        self._rest_seconds = min(max(2 * self._rest_seconds, REST_SECONDS_MIN), REST_SECONDS_MAX)
        self._rests_until = time.monotonic() + self._rest_seconds
        log.warning("read failed", server=self.name, error=repr(error))
        return StoreUnavailable()

    def was_behind(self) -> None:
        """Take note that its answer was not new enough."""
        READS.labels(self.name, "behind").inc()
        self._behind_until = time.monotonic() + BEHIND_SECONDS

    async def close(self) -> None:
        """Close every connection."""
        await self._connections.close()


class Servers:
    """The primary of the read tables and its replicas."""

    def __init__(self, primary_url: str, replica_urls: Sequence[str] = ()) -> None:
        self.primary = Server(primary_url, "primary", statement_seconds_max=PRIMARY_SECONDS_MAX)
        self.replicas = [
            Server(url, f"replica-{number}", statement_seconds_max=REPLICA_SECONDS_MAX)
            for number, url in enumerate(replica_urls, 1)
        ]

    async def fetch(self, sql: str, arguments: Sequence[Any], *, is_new_enough: Judge) -> Sequence[Row]:
        """
        Run a read on the replica that will answer first, if its answer is new enough; else on the primary.

        With the primary away an older answer is better than none: it says itself how old it is.

        Raises:
            StoreUnavailable: Neither a replica with a good answer nor the primary can be had.
            GenerationGone: On the primary, a table is not there.
        """
        for replica in self._in_turn():
            try:
                rows = await replica.fetch(sql, arguments)
            except (StoreUnavailable, GenerationGone):
                continue
            if is_new_enough(rows):
                return rows
            replica.was_behind()
        try:
            return await self.primary.fetch(sql, arguments)
        except StoreUnavailable:
            for replica in self.replicas:
                with suppress(StoreUnavailable, GenerationGone):
                    return await replica.fetch(sql, arguments)
            raise

    async def can_read(self) -> None:
        """
        See whether anybody answers.

        Raises:
            StoreUnavailable: Nobody does.
        """
        await self.fetch("SELECT 1", (), is_new_enough=lambda _rows: True)

    def _in_turn(self) -> list[Server]:
        able = [replica for replica in self.replicas if not replica.is_resting and not replica.is_behind]
        return sorted(able, key=lambda replica: replica.cost)

    async def close(self) -> None:
        """Close every connection."""
        for server in (self.primary, *self.replicas):
            await server.close()
