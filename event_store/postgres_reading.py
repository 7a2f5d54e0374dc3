"""
Reading the log on PostgreSQL: streams, pages, commits, heads.

Rows come in the order of `RecordedEvent`'s fields, so that an event costs little more than the row it was.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Self

from event_store.codec import mark_of
from event_store.connections import STATEMENTS_CACHED_MAX
from event_store.integrity import StoredCommit
from event_store.log import Commit, Page, StreamTail
from event_store.placement import home_of
from event_store.servers import Servers
from schemas.envelope import CommitMark, RecordedEvent

PLACEMENTS_CACHED_MAX = 100_000
STREAM_EVENTS_READ_MAX = 500
STREAM_BYTES_READ_MAX = 8 * 1024 * 1024
EVENT_FIELDS = len(RecordedEvent._fields)


class PostgresReading:
    """The reading half of `PostgresLog`, and where it stands."""

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
        self._servers = Servers(store_urls, namespace, statements_cached_max)
        self.partitions: Sequence[int] = self._servers.partitions
        self._placements: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._servers.close()

    async def partition_of(self, tenant: str) -> int:
        """Return where a tenant lives: a stable hash, unless an override says otherwise."""
        placed = self._placements.get(tenant)
        if placed is None:
            home = home_of(tenant, self.partitions)
            row = await self._servers.read(
                home, lambda connection: connection.fetchrow(self._servers.sql("placement"), tenant)
            )
            if len(self._placements) >= PLACEMENTS_CACHED_MAX:
                self._placements.clear()
            placed = self._placements[tenant] = row[0] if row else home
        return placed

    async def read_tails(
        self, partition: int, tails: Sequence[StreamTail]
    ) -> tuple[Sequence[RecordedEvent], CommitMark]:
        """Return many streams' events in order of position, in one query, and the head that they were read at."""
        wanted = list(zip(*tails, strict=True)) or [(), (), ()]
        rows = await self._servers.read(
            partition,
            lambda connection: connection.fetch(self._servers.sql("read_tails"), partition, *wanted),
        )
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
        rows = await self._servers.read(
            partition,
            lambda connection: connection.fetch(
                self._servers.sql("read_stream", partition), partition, tenant, stream, after, until, until_time,
                STREAM_EVENTS_READ_MAX, STREAM_BYTES_READ_MAX,
            ),
        )  # fmt: skip
        return _events(rows)

    async def read_page(
        self, partition: int, after: CommitMark, *, events_max: int, bytes_max: int = 8 * 1024 * 1024
    ) -> Page:
        """Return what follows a place in the partition's history, whole commits only; see `EventLog.read_page`."""
        rows = await self._servers.read(
            partition,
            lambda connection: connection.fetch(
                self._servers.sql("read_page", partition),
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
        rows = await self._servers.read(
            partition,
            lambda connection: connection.fetch(
                self._servers.sql("read_range", partition), partition, first, last
            ),
        )
        return _events(rows)

    async def head(self, partition: int) -> Commit | None:
        """Return the partition's last commit; None when nothing was ever appended."""
        row = await self._servers.read(
            partition, lambda connection: connection.fetchrow(self._servers.sql("head", partition), partition)
        )
        return Commit(*row) if row else None

    async def heads(self) -> Mapping[int, CommitMark]:
        """Return every partition's head."""
        answers = await asyncio.gather(
            *(
                self._servers.read(partition, lambda connection: connection.fetch(self._servers.sql("heads")))
                for partition in self._servers.firsts()
            )
        )
        found = {row[0]: mark_of(row[1], row[2]) for rows in answers for row in rows}
        return {partition: found[partition] for partition in self.partitions}

    async def commit_of(self, partition: int, position: int) -> Commit | None:
        """Return the commit that a position belongs to; None when it is still to come."""
        row = await self._servers.read(
            partition,
            lambda connection: connection.fetchrow(
                self._servers.sql("commit_of", partition), partition, position
            ),
        )
        return Commit(*row) if row else None

    async def read_commits(self, partition: int, after: int, commits_max: int) -> Sequence[StoredCommit]:
        """Return the commits that end after a position, as they are stored."""
        rows = await self._servers.read(
            partition,
            lambda connection: connection.fetch(
                self._servers.sql("read_commits", partition), partition, after, commits_max
            ),
        )
        return [StoredCommit(Commit(*row[:6]), row[6], row[7]) for row in rows]

    async def last_position(self, partition: int) -> int:
        """Return the highest position for which there is an event, whether or not a commit knows of it."""
        row = await self._servers.read(
            partition,
            lambda connection: connection.fetchrow(self._servers.sql("last_position", partition), partition),
        )
        return int(row[0])


def _events(rows: Any) -> list[RecordedEvent]:
    """Return rows whose first columns are an event's fields as events, as cheaply as it can be done."""
    new = tuple.__new__
    return [new(RecordedEvent, row[:EVENT_FIELDS]) for row in rows]
