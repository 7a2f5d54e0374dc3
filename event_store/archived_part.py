"""
What a log on PostgreSQL has in the archive, joined to what it has in its tables.

The statements of the log say up to where its partition was archived at the very moment that they read; what they
lack of streams, tags and pages is looked up here. Streams, commits and tags themselves are always in the database.
"""

from collections.abc import AsyncIterator, Container, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from event_store.archive_reading import ArchivedRange, ArchiveReading
from event_store.feed import before_arrival
from event_store.integrity import StoredCommit
from event_store.log import Commit, Filter, Matches, Page, StreamTail
from event_store.object_errors import ArchiveDamaged
from event_store.object_store import ObjectStore
from event_store.servers import Servers
from schemas.envelope import CommitMark, RecordedEvent
from schemas.errors import EpochChanged

PAGE_COMMITS_MAX = 5_000


class CommittedLog(Protocol):
    """The log that a page is of."""

    async def commit_of(self, partition: int, position: int) -> Commit | None:
        """Return the commit that a position belongs to."""
        ...

    async def read_commits(self, partition: int, after: int, commits_max: int) -> Sequence[StoredCommit]:
        """Return the commits that end after a position."""
        ...

    async def read_range(self, partition: int, first: int, last: int) -> Sequence[RecordedEvent]:
        """Return the events of a range of positions, wherever they are."""
        ...


class StreamPart(NamedTuple):
    """Which part of a stream to read; all bounds but `after_version` are included."""

    tenant: str
    stream: str
    after_version: int
    until_version: int
    until_position: int | None
    since_time: datetime | None
    until_time: datetime | None

    def ends_before(self, event: RecordedEvent) -> bool:
        """Say whether an event, and all that follow it, come too late."""
        return (self.until_position is not None and event.position > self.until_position) or (
            self.until_time is not None and event.recorded_at > self.until_time
        )

    def begins_after(self, event: RecordedEvent) -> bool:
        """Say whether an event, and all before it, come too early."""
        return self.since_time is not None and event.recorded_at < self.since_time


class ArchivedPart:
    """The archived part of a log."""

    def __init__(self, servers: Servers, store: ObjectStore) -> None:
        self.events = ArchiveReading(store, self.ranges_of)
        self._servers = servers

    async def close(self) -> None:
        """Let go of the object store."""
        await self.events.close()

    async def ranges_of(self, partition: int) -> Sequence[ArchivedRange]:
        """Return what of a partition is archived, in order."""
        rows = await self._servers.read(
            partition,
            lambda connection: connection.fetch(self._servers.sql("archived_ranges"), partition),
        )
        return [ArchivedRange(*row) for row in rows]

    async def read_page(
        self, log: CommittedLog, partition: int, after: CommitMark, events_max: int, bytes_max: int
    ) -> Page:
        """Return a page that begins in the archive: commits are never archived, and say where it ends."""
        if after.position:
            known = await log.commit_of(partition, after.position)
            if known is None or known.mark != after:
                self.events.forget(partition)
                raise EpochChanged(partition, after.position)
        commits: list[Commit] = []
        octets = 0
        for stored in await log.read_commits(partition, after.position, min(events_max, PAGE_COMMITS_MAX)):
            octets += stored.octets
            is_full = stored.commit.last_position - after.position > events_max or octets > bytes_max
            if commits and is_full:
                break
            commits.append(stored.commit)
        if not commits:
            return Page(partition, after, (), after)
        end = commits[-1].mark
        events = await log.read_range(partition, after.position + 1, end.position)
        if len(events) != end.position - after.position:
            raise ArchiveDamaged(
                f"partition {partition}", f"events after position {after.position} are missing"
            )
        ends = (events[commit.last_position - after.position - 1] for commit in commits)
        if any(event.recorded_at != commit.recorded_at for event, commit in zip(ends, commits, strict=True)):
            self.events.forget(partition)  # after a restore this process may know of ranges that are no more
            raise ArchiveDamaged(
                f"partition {partition}",
                f"events after position {after.position} are not those of their commits",
            )
        return before_arrival(Page(partition, after, events, end, commits))

    async def read_tails(
        self, partition: int, tails: Sequence[StreamTail], found: Sequence[RecordedEvent], archived_to: int
    ) -> list[RecordedEvent]:
        """Return what belongs before the events that were found, of those streams that lack some."""
        firsts: dict[tuple[str, str], int] = {}
        for event in found:
            key = event.tenant, event.stream
            firsts[key] = min(event.version, firsts.get(key, event.version))
        lacking = {
            (tail.tenant, tail.stream): tail.after_version
            for tail in tails
            if firsts.get((tail.tenant, tail.stream)) != tail.after_version + 1
        }
        events: list[RecordedEvent] = []
        for (tenant, stream), first_position in (await self._places(partition, lacking, archived_to)).items():
            async for event in self.events.read_stream(
                partition,
                tenant,
                stream,
                after_version=lacking[tenant, stream],
                first_position=first_position,
            ):
                if event.position > archived_to:  # archived since: it is among those that were found
                    break
                events.append(event)
        return events

    async def _places(
        self, partition: int, after: Mapping[tuple[str, str], int], archived_to: int
    ) -> Mapping[tuple[str, str], int]:
        """Return where streams begin, of those that have archived events after a version."""
        if not after:
            return {}
        tenants, streams = zip(*after, strict=True)
        rows = await self._servers.read(
            partition,
            lambda connection: connection.fetch(
                self._servers.sql("stream_places"), partition, tenants, streams
            ),
        )
        return {
            (row["tenant"], row["stream"]): row["first_position"]
            for row in rows
            if row["version"] > after[row["tenant"], row["stream"]] and row["first_position"] <= archived_to
        }

    async def read_stream(
        self,
        log: CommittedLog,
        partition: int,
        part: StreamPart,
        archived_to: int,
        *,
        backwards: bool,
    ) -> AsyncIterator[RecordedEvent]:
        """Return a part of a stream as far as it is in the archive, up to a position."""
        if part.since_time is not None:
            last = await log.commit_of(partition, archived_to)
            if last is not None and last.recorded_at < part.since_time:
                return
        places = await self._places(partition, {(part.tenant, part.stream): part.after_version}, archived_to)
        for first_position in places.values():
            async for event in self.events.read_stream(
                partition, part.tenant, part.stream, after_version=part.after_version,
                until_version=part.until_version, first_position=first_position, backwards=backwards,
            ):  # fmt: skip
                if event.position > archived_to or part.ends_before(event):
                    if backwards:
                        continue
                    return
                if part.begins_after(event):
                    if backwards:
                        return
                    continue
                yield event

    async def add_tagged(
        self, partition: int, wanted: Sequence[Any], archived_to: int, by_tag: Sequence[list[RecordedEvent]]
    ) -> None:
        """Add the archived events that carry each of some tags; tags themselves are never archived."""
        rows = await self._servers.read(
            partition,
            lambda connection: connection.fetch(
                self._servers.sql("archived_tagged"), partition, *wanted, archived_to
            ),
        )
        for number, position in rows:
            by_tag[number - 1].extend(await self.events.read_range(partition, position, position))


def matches_of(
    page: Page, filter: Filter, events_max: int, bytes_max: int, carrying: Container[int] = ()
) -> Matches:
    """
    Return what matches of a page, up to a commit's end: within bounds, or what one commit has.

    `carrying` are the positions of events that carry the filter's tags.
    """
    found: list[RecordedEvent] = []
    octets, end = 0, page.after
    for commit in page.commits:
        first = end.position - page.after.position
        events = page.events[first : commit.last_position - page.after.position]
        matching = [
            event
            for event in events
            if filter.takes(event, filter.tags if event.position in carrying else ())
        ]
        octets += sum(len(event.data) + len(event.metadata) for event in matching)
        if found and matching and (len(found) + len(matching) > events_max or octets > bytes_max):
            break
        found += matching
        end = commit.mark
    return Matches(page.partition, page.after, found, end)
