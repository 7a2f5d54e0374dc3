"""
The servers that a log stands on: which one has a partition, and how a statement gets there.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg

from event_store.announcer import Announcer
from event_store.connections import Connections, StoreConnection, connect
from event_store.failures import (
    EPOCH_CHANGED,
    LOST,
    NOT_MIGRATED,
    PartitionNotHere,
    StoreNotMigrated,
    leaves_unknown,
    means_later,
)
from infra.sql import load_sql
from schemas.envelope import CommitMark
from schemas.errors import EpochChanged, StoreUnavailable

WRITERS_MAX = 16
"""Connections for appends to one server. A partition's lock holds up those that append to it and no others."""

READERS_MAX = 4
CALL_SECONDS_MAX = 30.0
READ_ATTEMPTS_MAX = 2
"""A read is tried again when its connection turns out to have ended; it changes nothing."""


class LogRoles(NamedTuple):
    """The database roles that a log's connections take; None: those of their account."""

    writing: str | None = None
    reading: str | None = None
    keeping: str | None = None
    """To make tables ahead of the log and drop old keys."""


OF_ACCOUNT = LogRoles()


class Server:
    """One server of the log and the ways to talk to it."""

    def __init__(
        self, url: str, namespace: str, partitions: int, statements_cached_max: int, roles: LogRoles
    ) -> None:
        size_max = min(partitions, WRITERS_MAX)
        self.writers = Connections(
            url,
            size_max=size_max,
            name="everfold-writer",
            statements_cached_max=statements_cached_max,
            role=roles.writing,
        )
        self.readers = Connections(
            url,
            size_max=READERS_MAX,
            name="everfold-reader",
            statements_cached_max=statements_cached_max,
            role=roles.reading,
        )
        self.keepers = Connections(
            url,
            size_max=1,
            name="everfold-keeper",
            statements_cached_max=statements_cached_max,
            role=roles.keeping,
        )
        self.announcer = Announcer(url, namespace, roles.writing)
        self._url, self._statements_cached_max = url, statements_cached_max

    @asynccontextmanager
    async def aside(self, name: str) -> AsyncIterator[StoreConnection]:
        """
        Open a connection of its own for a block, in the account's role: for what takes long and is done seldom.

        Raises:
            StoreUnavailable: The server does not take it.
        """
        connection = await connect(self._url, name=name, statements_cached_max=self._statements_cached_max)
        try:
            yield connection
        finally:
            connection.terminate()

    async def close(self) -> None:
        """Close every connection."""
        await self.announcer.close()
        await self.writers.close()
        await self.readers.close()
        await self.keepers.close()


class Servers:
    """All of a log's servers, by partition."""

    def __init__(
        self,
        store_urls: Mapping[range, str],
        namespace: str,
        statements_cached_max: int,
        roles: LogRoles = OF_ACCOUNT,
    ) -> None:
        self.namespace = namespace
        counts: dict[str, int] = defaultdict(int)
        for part, url in store_urls.items():
            counts[url] += len(part)
        servers = {
            url: Server(url, namespace, count, statements_cached_max, roles) for url, count in counts.items()
        }
        self._servers = {partition: servers[url] for part, url in store_urls.items() for partition in part}
        self.partitions: Sequence[int] = sorted(self._servers)
        self._statements: dict[tuple[str, int | None], str] = {}

    async def close(self) -> None:
        """Close every connection."""
        for server in self.all():
            await server.close()

    def of(self, partition: int) -> Server:
        """
        Return the server that has a partition.

        Raises:
            PartitionNotHere: None has it.
        """
        try:
            return self._servers[partition]
        except KeyError:
            there = f"{self.partitions[0]} to {self.partitions[-1]}"
            raise PartitionNotHere(
                f"partition {partition}", f"is none of the log's, which has {there}"
            ) from None

    def besides(self, home: int, *, first: int) -> Sequence[Server]:
        """Return every server but that of one partition; before all others the one that has the partition `first`."""
        servers = dict.fromkeys((self.of(first), *self._servers.values()))
        return [server for server in servers if server is not self.of(home)]

    def all(self) -> Sequence[Server]:
        """Return every server, once."""
        return list(dict.fromkeys(self._servers.values()))

    def firsts(self) -> Sequence[int]:
        """Return one partition of each server."""
        return list({server: partition for partition, server in reversed(self._servers.items())}.values())

    def beside(self, partition: int) -> Sequence[int]:
        """Return the partitions that are on the same server as one of them, which is among them."""
        server = self.of(partition)
        return [other for other in self.partitions if self._servers[other] is server]

    def sql(self, name: str, partition: int | None = None) -> str:
        """
        Return a statement, about one partition's own tables where it has placeholders for them.

        What names a partition's table is planned in a fraction of the time that the table over all of them takes.
        """
        statement = self._statements.get((name, partition))
        if statement is None:
            file, own = f"sql/queries/{name}.sql", {}
            if partition is not None:
                own = {"events": f"events_p{partition}", "commits": f"commits_p{partition}"}
            statement = load_sql("event_store", file, namespace=self.namespace, **own)
            self._statements[name, partition] = statement
        return statement

    async def read(
        self,
        partition: int,
        read: Callable[[StoreConnection], Awaitable[Any]],
        *,
        known: CommitMark | None = None,
        keeps_house: bool = False,
    ) -> Any:
        """
        Run a statement that may be run again, on a connection to a partition's server.

        What keeps house has a connection of its own, because it works in another role.

        Raises:
            EpochChanged: The log does not have the commit `known`.
            StoreUnavailable: The server does not answer.
        """
        server = self.of(partition)
        for attempt in range(1, READ_ATTEMPTS_MAX + 1):
            try:
                connections = server.keepers if keeps_house else server.readers
                async with connections.borrow() as connection, asyncio.timeout(CALL_SECONDS_MAX):
                    return await read(connection)
            except asyncpg.PostgresError as error:
                if error.sqlstate == EPOCH_CHANGED and known is not None:
                    raise EpochChanged(partition, known.position) from error
                if error.sqlstate in NOT_MIGRATED:
                    raise StoreNotMigrated from error
                if not (leaves_unknown(error) or means_later(error)):
                    raise
                failure: Exception = error
            except LOST as error:
                failure = error
            if attempt == READ_ATTEMPTS_MAX:
                raise StoreUnavailable from failure
        raise AssertionError("unreachable")
