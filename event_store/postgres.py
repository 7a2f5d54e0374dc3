"""
The log on PostgreSQL.

What must hold is in the functions under `sql/functions`; this module takes calls there and back, and draws the line
between *nothing happened* and *nobody knows*: an error that the server reports means that the transaction was
undone; anything else that comes between sending an append and reading its reply leaves its outcome unknown, a
cancelled wait for a standby (which PostgreSQL calls success, with a warning) too. Each append call has a number, and
`settle` forbids the numbers of lost calls before it looks, so "it was not appended" stays true.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from event_store.announcer import Announcer
from event_store.codec import Batch, mark_of
from event_store.connections import STATEMENTS_CACHED_MAX, Connections, StoreConnection
from event_store.integrity import StoredCommit
from event_store.log import Answer, Append, Commit, Outcome, Page, StreamTail
from event_store.placement import home_of
from infra.sql import load_sql
from schemas.envelope import BEGINNING, CommitMark, RecordedEvent
from schemas.errors import BadDefinition, EpochChanged, OutcomeUnknown, Rejection, StoreUnavailable

WRITERS_MAX = 16
"""Connections for appends to one server; each partition has at most one append under way, so its lock can only ever
hold up this many."""
READERS_MAX = 4
CALL_SECONDS_MAX = 30.0
LOST_CALLS_MAX = 1_000
PLACEMENTS_CACHED_MAX = 100_000
STREAM_EVENTS_READ_MAX = 500
STREAM_BYTES_READ_MAX = 8 * 1024 * 1024
READ_ATTEMPTS_MAX = 2
"""A read is tried again when its connection turns out to have ended; it changes nothing."""

NOT_HERE, EPOCH_CHANGED, CALL_GIVEN_UP, HAS_EVENTS, PLACED_ELSEWHERE = (
    "ES001",
    "ES002",
    "ES004",
    "ES006",
    "ES008",
)
LOCK_NOT_AVAILABLE, READ_ONLY = "55P03", "25006"
NOTHING_WRITTEN = frozenset({CALL_GIVEN_UP, LOCK_NOT_AVAILABLE, READ_ONLY})
NOTHING_WRITTEN_CLASSES = frozenset({"40", "53", "57", "58"})
"""SQLSTATEs after which the same append may well succeed: rolled back, out of resources, stopped, disk."""

EVENT_FIELDS = len(RecordedEvent._fields)
LOST = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)

Read = TypeVar("Read")


@dataclass(eq=False)
class PartitionNotHere(BadDefinition):
    """The log was asked for a partition that the server at its address does not have."""


@dataclass(eq=False)
class TenantHasEvents(Rejection):
    """A tenant that has events stays where it lives."""

    tenant: str


class _Server:
    """One server of the log and the ways to talk to it."""

    def __init__(self, url: str, namespace: str, partitions: int, statements_cached_max: int) -> None:
        size_max = min(partitions, WRITERS_MAX)
        self.writers = Connections(
            url, size_max=size_max, name="everfold-writer", statements_cached_max=statements_cached_max
        )
        self.readers = Connections(
            url, size_max=READERS_MAX, name="everfold-reader", statements_cached_max=statements_cached_max
        )
        self.announcer = Announcer(url, namespace)

    async def close(self) -> None:
        await self.announcer.close()
        await self.writers.close()
        await self.readers.close()


class PostgresLog:
    """The log, on one or several PostgreSQL servers. Keeps `event_store.log.EventLog`."""

    def __init__(
        self,
        store_urls: Mapping[range, str],
        namespace: str = "everfold",
        *,
        statements_cached_max: int = STATEMENTS_CACHED_MAX,
    ) -> None:
        """
        Make a log that connects when it is first used.

        `statements_cached_max` is 0 behind a pooler that does not carry prepared statements.
        """
        self.partitions: Sequence[int] = sorted(partition for part in store_urls for partition in part)
        self.namespace = namespace
        counts: dict[str, int] = defaultdict(int)
        for part, url in store_urls.items():
            counts[url] += len(part)
        servers = {
            url: _Server(url, namespace, count, statements_cached_max) for url, count in counts.items()
        }
        self._servers = {partition: servers[url] for part, url in store_urls.items() for partition in part}
        self._lost: dict[int, list[int]] = defaultdict(list)
        self._placements: dict[str, int] = {}
        self._statements: dict[tuple[str, int | None], str] = {}

    async def __aenter__(self) -> "PostgresLog":
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        for server in set(self._servers.values()):
            await server.close()

    async def partition_of(self, tenant: str) -> int:
        """Return where a tenant lives: a stable hash, unless an override says otherwise."""
        placed = self._placements.get(tenant)
        if placed is None:
            home = home_of(tenant, self.partitions)
            row = await self._read(
                home, lambda connection: connection.fetchrow(self._sql("placement"), tenant)
            )
            if len(self._placements) >= PLACEMENTS_CACHED_MAX:
                self._placements.clear()
            placed = self._placements[tenant] = row[0] if row else home
        return placed

    async def place_tenant(self, tenant: str, partition: int) -> None:
        """
        Have a tenant without events live in a partition of choice.

        Raises:
            TenantHasEvents: It has events elsewhere already.
        """
        home = home_of(tenant, self.partitions)
        servers = dict.fromkeys((self._server(home), *self._servers.values()))  # first where it is looked up
        for server in servers:
            try:
                async with server.writers.borrow() as connection:
                    await connection.execute(self._sql("place_tenant"), tenant, partition)
            except asyncpg.PostgresError as error:
                if error.sqlstate == HAS_EVENTS:
                    raise TenantHasEvents(tenant) from error
                raise
            except LOST as error:
                raise StoreUnavailable from error
        self._placements.pop(tenant, None)

    async def append_batch(
        self, partition: int, appends: Sequence[Append], *, known: CommitMark | None = None
    ) -> Sequence[Outcome]:
        """Carry out independent appends in order, in one commit; see `EventLog.append_batch`."""
        if not appends:
            return ()
        batch = Batch(appends)
        server, call = self._server(partition), random.getrandbits(63)
        position, hash_ = known or BEGINNING
        arguments = (partition, call, position, hash_, *batch.arguments())
        is_lost = False
        try:
            async with server.writers.borrow() as connection:
                is_lost = True
                async with asyncio.timeout(CALL_SECONDS_MAX):
                    reply: Any = await connection.fetchrow(self._sql("append_batch"), *arguments)
                if connection.warned:
                    raise OutcomeUnknown
                is_lost = False
        except asyncpg.PostgresError as error:
            is_lost = _leaves_unknown(error)
            raise self._append_error(error, partition, position) from error
        except LOST as error:
            raise OutcomeUnknown from error
        finally:
            if is_lost:
                self._remember_lost(partition, call)
        if reply["_last"] > reply["_base"]:
            server.announcer.announce(partition, reply["_last"])
        return batch.outcomes(appends, reply)

    async def settle(self, partition: int, append: Append) -> Outcome | None:
        """Say what became of an append whose outcome is unknown; see `EventLog.settle`."""
        calls = list(self._lost[partition])
        key = append.key
        event_stream, event_version, event_id = _first_event(append)
        try:
            async with (
                self._server(partition).writers.borrow() as connection,
                asyncio.timeout(CALL_SECONDS_MAX),
            ):
                row = await connection.fetchrow(
                    self._sql("settle"), partition, calls, append.tenant, append.stream, key and key.subject,
                    key and key.key, event_stream, event_version, event_id, len(append.events),
                )  # fmt: skip
                if connection.warned:
                    raise OutcomeUnknown
        except (asyncpg.PostgresError, *LOST) as error:
            raise StoreUnavailable from error
        self._lost[partition] = [call for call in self._lost[partition] if call not in calls]
        if row is None:
            return None
        answer = Answer.APPENDED if row["own"] else Answer.DUPLICATE
        if key is not None and row["fingerprint"] not in (None, key.fingerprint):
            answer = Answer.REUSED
        commit = mark_of(row["commit_position"], row["commit_hash"])
        return Outcome(answer, row["position"], row["events"], commit, row["stream"], row["version"])

    async def read_tails(
        self, partition: int, tails: Sequence[StreamTail]
    ) -> tuple[Sequence[RecordedEvent], CommitMark]:
        """Return many streams' events in order of position, in one query, and the head that they were read at."""
        rows = await self._read(
            partition,
            lambda connection: connection.fetch(
                self._sql("read_tails"), partition, [tail.tenant for tail in tails], [tail.stream for tail in tails],
                [tail.after_version for tail in tails],
            ),
        )  # fmt: skip
        events = sorted(_events(row for row in rows if row[1] is not None))
        return events, mark_of(*rows[0][EVENT_FIELDS:])

    async def read_stream(
        self,
        tenant: str,
        stream: str,
        *,
        after_version: int = 0,
        until_position: int | None = None,
        until_time: datetime | None = None,
    ) -> AsyncIterator[RecordedEvent]:
        """Return one stream's events, oldest first, in bounded memory."""
        partition = await self.partition_of(tenant)
        while events := await self._read_part(
            partition, tenant, stream, after_version, until_position, until_time
        ):
            for event in events:
                yield event
            after_version = events[-1].version

    async def _read_part(
        self,
        partition: int,
        tenant: str,
        stream: str,
        after: int,
        until: int | None,
        until_time: datetime | None,
    ) -> Sequence[RecordedEvent]:
        rows = await self._read(
            partition,
            lambda connection: connection.fetch(
                self._sql("read_stream", partition), partition, tenant, stream, after, until, until_time,
                STREAM_EVENTS_READ_MAX, STREAM_BYTES_READ_MAX,
            ),
        )  # fmt: skip
        return _events(rows)

    async def read_page(
        self, partition: int, after: CommitMark, *, events_max: int, bytes_max: int = 8 * 1024 * 1024
    ) -> Page:
        """Return what follows a place in the partition's history, whole commits only; see `EventLog.read_page`."""
        rows = await self._read(
            partition,
            lambda connection: connection.fetch(
                self._sql("read_page", partition),
                partition,
                after.position,
                after.hash,
                events_max,
                bytes_max,
            ),
            known=after,
        )
        events = _events(rows)
        commits = [
            Commit(partition, row[11], row[1], row[10], row[12], row[13])
            for row in rows
            if row[11] is not None
        ]
        return Page(partition, after, events, commits[-1].mark if commits else after, commits)

    async def read_range(self, partition: int, first: int, last: int) -> Sequence[RecordedEvent]:
        """Return the events of a range of positions, both included, in order."""
        rows = await self._read(
            partition,
            lambda connection: connection.fetch(self._sql("read_range", partition), partition, first, last),
        )
        return _events(rows)

    async def head(self, partition: int) -> Commit | None:
        """Return the partition's last commit; None when nothing was ever appended."""
        row = await self._read(
            partition, lambda connection: connection.fetchrow(self._sql("head", partition), partition)
        )
        return Commit(*row) if row else None

    async def heads(self) -> Mapping[int, CommitMark]:
        """Return every partition's head."""
        firsts = {server: partition for partition, server in reversed(self._servers.items())}
        answers = await asyncio.gather(
            *(
                self._read(partition, lambda connection: connection.fetch(self._sql("heads")))
                for partition in firsts.values()
            )
        )
        found = {row[0]: mark_of(row[1], row[2]) for rows in answers for row in rows}
        return {partition: found[partition] for partition in self.partitions}

    async def commit_of(self, partition: int, position: int) -> Commit | None:
        """Return the commit that a position belongs to; None when it is still to come."""
        row = await self._read(
            partition,
            lambda connection: connection.fetchrow(self._sql("commit_of", partition), partition, position),
        )
        return Commit(*row) if row else None

    async def read_commits(self, partition: int, after: int, commits_max: int) -> Sequence[StoredCommit]:
        """Return the commits that end after a position, as they are stored."""
        rows = await self._read(
            partition,
            lambda connection: connection.fetch(
                self._sql("read_commits", partition), partition, after, commits_max
            ),
        )
        return [StoredCommit(Commit(*row[:6]), row[6], row[7]) for row in rows]

    async def last_position(self, partition: int) -> int:
        """Return the highest position for which there is an event, whether or not a commit knows of it."""
        row = await self._read(
            partition,
            lambda connection: connection.fetchrow(self._sql("last_position", partition), partition),
        )
        return int(row[0])

    async def keep_house(self, partition: int, *, keys_kept: timedelta) -> None:
        """Make the tables that a partition will need next, and drop idempotency keys that are old enough."""
        await self._read(
            partition, lambda connection: connection.execute(self._sql("ensure_ranges"), partition)
        )
        await self._read(
            partition, lambda connection: connection.execute(self._sql("forget"), partition, keys_kept)
        )

    def _server(self, partition: int) -> _Server:
        try:
            return self._servers[partition]
        except KeyError:
            raise PartitionNotHere(f"partition {partition}", "is none of the log's") from None

    def _sql(self, name: str, partition: int | None = None) -> str:
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

    def _remember_lost(self, partition: int, call: int) -> None:
        lost = self._lost[partition]
        lost.append(call)
        del lost[:-LOST_CALLS_MAX]

    def _append_error(self, error: asyncpg.PostgresError, partition: int, position: int) -> Exception:
        if _leaves_unknown(error):
            return OutcomeUnknown()
        state = error.sqlstate or ""
        if state == EPOCH_CHANGED:
            return EpochChanged(partition, position)
        if state == NOT_HERE:
            return PartitionNotHere(f"partition {partition}", "is not on the server that is to have it")
        if state == PLACED_ELSEWHERE:
            self._placements.clear()
            return StoreUnavailable()
        if state in NOTHING_WRITTEN or state[:2] in NOTHING_WRITTEN_CLASSES:
            return StoreUnavailable()
        return error

    async def _read(
        self,
        partition: int,
        read: Callable[[StoreConnection], Awaitable[Any]],
        *,
        known: CommitMark | None = None,
    ) -> Any:
        """Run a statement that may be run again, on a connection to a partition's server."""
        server = self._server(partition)
        for attempt in range(1, READ_ATTEMPTS_MAX + 1):
            try:
                async with server.readers.borrow() as connection, asyncio.timeout(CALL_SECONDS_MAX):
                    return await read(connection)
            except asyncpg.PostgresError as error:
                if error.sqlstate == EPOCH_CHANGED and known is not None:
                    raise EpochChanged(partition, known.position) from error
                if not _is_away(error):
                    raise
                failure: Exception = error
            except LOST as error:
                failure = error
            if attempt == READ_ATTEMPTS_MAX:
                raise StoreUnavailable from failure
        raise AssertionError("unreachable")


def _events(rows: Any) -> list[RecordedEvent]:
    """Return rows whose first columns are an event's fields as events, as cheaply as it can be done."""
    new = tuple.__new__
    return [new(RecordedEvent, row[:EVENT_FIELDS]) for row in rows]


def _first_event(append: Append) -> tuple[str | None, int | None, UUID | None]:
    """Return the stream, the version and the id that the first event of an append has, if it was appended."""
    if not append.events:
        return None, None, None
    first = append.events[0]
    expected = next((check.expected for check in append.checks if check.stream == first.stream), -1)
    return first.stream, expected + 1 if expected >= 0 else None, UUID(first.id)


def _leaves_unknown(error: asyncpg.PostgresError) -> bool:
    """Say whether an error does not tell if the transaction was undone: the connection ended with it."""
    return isinstance(error, asyncpg.PostgresConnectionError) or _is_fatal(error)


def _is_away(error: asyncpg.PostgresError) -> bool:
    return _leaves_unknown(error) or (error.sqlstate or "")[:2] in NOTHING_WRITTEN_CLASSES


def _is_fatal(error: asyncpg.PostgresError) -> bool:
    return getattr(error, "severity_en", None) in ("FATAL", "PANIC")
