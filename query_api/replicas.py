"""
Where reads go: the nearest healthy replica that has come far enough, another, or the primary.

A replica may be late, paused, restarting, or cancel a query for its recovery's sake. None of that is an error of
the request: the next server is asked. How far a server is, it says itself, in the very statement that reads; and as
none goes back, what it said last is what it has at least. A connection whose statement was cancelled or timed out is
closed, not used again.
"""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import asyncpg

from event_store.connections import Connections
from infra.telemetry import Counter, log
from schemas.errors import ServiceError, StoreUnavailable

Row = Any
"""An asyncpg record."""
Place = tuple[str, int, int]
"""A projection, its generation, and a partition."""
Reached = Mapping[Place, int]
"""How far a server is in some places, at least."""

CONNECTIONS_MAX = 8
PRIMARY_SECONDS_MAX = 10.0
REPLICA_SECONDS_MAX = 1.0
REST_SECONDS_MIN, REST_SECONDS_MAX = 0.5, 8.0
BEHIND_SECONDS = 0.25
LATENCY_WEIGHT = 0.1
LATENCY_HALF_LIFE_SECONDS = 5.0
"""What was slow once is forgotten, so that it is tried again."""
REPLICAS_TRIED_MAX = 2
"""For one read; the primary surely has what a second late replica has not."""
PLACES_MAX = 10_000

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


class Need(NamedTuple):
    """How far a server must be to answer, place by place."""

    positions: Mapping[Place, int]

    def reached(self, rows: Sequence[Row]) -> Reached:
        """Return how far the server was that answered these rows, in the places that it speaks of."""
        return {}

    def is_met(self, reached: Reached) -> bool:
        """Say whether who is so far may answer."""
        return all(reached.get(place, 0) >= position for place, position in self.positions.items())

    def least(self, reached: Reached) -> int:
        """Return the position in the place where a server is known to be least far."""
        return min((reached.get(place, 0) for place in self.positions), default=0)


ANYTHING = Need({})


class Server:
    """One PostgreSQL server to read from, and what is known of its health."""

    def __init__(self, url: str, name: str, *, statement_seconds_max: float, role: str | None = None) -> None:
        self.name = name
        self.latency_seconds = 0.0
        self.busy = 0
        self.reached: dict[Place, int] = {}
        self._measured_at = 0.0
        self._statement_seconds_max = statement_seconds_max
        self._connections = Connections(url, size_max=CONNECTIONS_MAX, name="everfold-query-api", role=role)
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
        age = time.monotonic() - self._measured_at
        return self.latency_seconds * (1 + self.busy) * math.exp2(-age / LATENCY_HALF_LIFE_SECONDS)

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
        self._measured_at = time.monotonic()
        self.latency_seconds += LATENCY_WEIGHT * (self._measured_at - started - self.latency_seconds)
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

    def has_reached(self, reached: Reached) -> None:
        """Take note of how far it said it is; of a place that it goes back in, that it has been restored."""
        if len(self.reached) > PLACES_MAX:
            self.reached.clear()
        self.reached.update(reached)

    def was_behind(self) -> None:
        """Take note that its answer was not new enough."""
        READS.labels(self.name, "behind").inc()
        self._behind_until = time.monotonic() + BEHIND_SECONDS

    async def close(self) -> None:
        """Close every connection."""
        await self._connections.close()


class Servers:
    """The primary of the read tables and its replicas."""

    def __init__(
        self, primary_url: str, replica_urls: Sequence[str] = (), *, role: str | None = None
    ) -> None:
        self.primary = Server(primary_url, "primary", statement_seconds_max=PRIMARY_SECONDS_MAX, role=role)
        self.replicas = [
            Server(url, f"replica-{number}", statement_seconds_max=REPLICA_SECONDS_MAX, role=role)
            for number, url in enumerate(replica_urls, 1)
        ]

    async def fetch(self, sql: str, arguments: Sequence[Any], need: Need) -> Sequence[Row]:
        """
        Run a read on the replica that will answer first, if its answer is new enough; else on the primary.

        With the primary away an older answer is better than none: it says itself how old it is.

        Raises:
            StoreUnavailable: Neither a replica with a good answer nor the primary can be had.
            GenerationGone: On the primary, a table is not there.
        """
        for replica in self._in_turn(need):
            try:
                rows = await replica.fetch(sql, arguments)
            except (StoreUnavailable, GenerationGone):
                continue
            reached = need.reached(rows)
            replica.has_reached(reached)
            if need.is_met(reached):
                return rows
            replica.was_behind()
        try:
            return await self.primary.fetch(sql, arguments)
        except StoreUnavailable:
            for replica in sorted(self.replicas, key=lambda replica: -need.least(replica.reached)):
                with suppress(StoreUnavailable, GenerationGone):
                    return await replica.fetch(sql, arguments)
            raise

    async def can_read(self) -> None:
        """
        See whether anybody answers.

        Raises:
            StoreUnavailable: Nobody does.
        """
        await self.fetch("SELECT 1", (), ANYTHING)

    def _in_turn(self, need: Need) -> list[Server]:
        """Return the replicas to be asked: first those that surely are far enough, then those that may be."""
        able = [
            (not is_sure, replica.cost, number, replica)
            for number, replica in enumerate(self.replicas)
            if not replica.is_resting and ((is_sure := need.is_met(replica.reached)) or not replica.is_behind)
        ]
        return [replica for *_, replica in sorted(able)][:REPLICAS_TRIED_MAX]

    async def close(self) -> None:
        """Close every connection."""
        for server in (self.primary, *self.replicas):
            await server.close()
