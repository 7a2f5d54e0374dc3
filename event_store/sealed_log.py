"""
The log as those see it who need values: personal fields are encrypted on the way in and decrypted on the way out.

It stands before a log, and keeps the same interface. Events of types without personal fields pass through untouched.
Whoever moves bytes only (the relay, the integrity check) works on the log itself and never sees a value.

States may rest on values that were readable when they were folded. When a person has been erased since, an append with
personal fields is refused as of another epoch, so that what is kept is dropped and the commands are decided again on
what can still be read: nothing erased is written again.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from event_store.feed import Feed
from event_store.key_ring import KeyLost
from event_store.log import (
    Append,
    Commit,
    EventLog,
    Filter,
    Matches,
    NewEvent,
    Outcome,
    Page,
    Snapshot,
    StateTail,
    StreamStates,
    StreamTail,
    TagTail,
)
from event_store.residences import Residences
from event_store.sealed_states import SealedStates
from event_store.sealing import MARK, Sealable, SealBroken, Sealer
from infra.telemetry import log
from schemas.envelope import CommitMark, RecordedEvent
from schemas.errors import EpochChanged
from schemas.registry import Registry

UNREADABLE = (SealBroken, KeyLost)
STREAM_EVENTS_OPENED = 200
"""A stream's events are opened so many at a time."""


class SealedLog:
    """A log whose personal fields are sealed. Keeps `event_store.log.EventLog`."""

    def __init__(self, event_log: EventLog, sealer: Sealer, registry: Registry) -> None:
        self._log, self._sealer, self._personal = event_log, sealer, registry.personal
        self.partitions = event_log.partitions
        self._rests_on: dict[int, int] = {}
        """By partition the epoch of keys that states may rest on."""
        self._states = SealedStates(sealer.ring)

    async def append_batch(
        self, partition: int, appends: Sequence[Append], *, known: CommitMark | None = None
    ) -> Sequence[Outcome]:
        """
        Seal personal fields, then append; see `EventLog.append_batch`.

        Raises:
            EpochChanged: Also where a person was erased since the states were folded.
        """
        return await self._log.append_batch(partition, await self._seal(partition, appends), known=known)

    async def settle(self, partition: int, append: Append) -> Outcome | None:
        """Say what became of an append; see `EventLog.settle`."""
        return await self._log.settle(partition, append)

    async def partition_of(self, tenant: str) -> int:
        """Return where a tenant lives."""
        return await self._log.partition_of(tenant)

    async def likely_partition_of(self, tenant: str) -> int:
        """Return where a tenant lives as far as any server knows; see `EventLog.likely_partition_of`."""
        return await self._log.likely_partition_of(tenant)

    async def residences_of(self, tenant: str) -> Residences:
        """Return where a tenant lives and has lived; see `EventLog.residences_of`."""
        return await self._log.residences_of(tenant)

    async def moved_tenants(self, partition: int) -> Collection[str]:
        """Return the tenants that have left a partition or come to it."""
        return await self._log.moved_tenants(partition)

    async def reachable_heads(self) -> Mapping[int, CommitMark]:
        """Return the heads of the partitions whose server answers."""
        return await self._log.reachable_heads()

    async def read_tails(
        self, partition: int, tails: Sequence[StreamTail]
    ) -> tuple[Sequence[RecordedEvent], CommitMark]:
        """Return many streams' events, opened; see `EventLog.read_tails`."""
        events, head = await self._log.read_tails(partition, tails)
        return await self._open_for_states(partition, events), head

    async def read_tagged(
        self, partition: int, tails: Sequence[TagTail]
    ) -> tuple[Sequence[Sequence[RecordedEvent]], CommitMark]:
        """Return the events that carry each of some tags, opened; see `EventLog.read_tagged`."""
        by_tag, head = await self._log.read_tagged(partition, tails)
        return [await self._open_for_states(partition, events) for events in by_tag], head

    async def read_states(self, partition: int, tails: Sequence[StateTail]) -> StreamStates:
        """Return many streams' saved states and the events that follow, opened; see `EventLog.read_states`."""
        read = await self._log.read_states(partition, tails)
        if read.saved:
            saved = await self._states.opened(read.saved)
            if saved is None:
                return await self.read_states(partition, [tail._replace(shape=None) for tail in tails])
            self._rests_on.setdefault(partition, await self._sealer.ring.seen_epoch())
            read = read._replace(saved=saved)
        return read._replace(events=await self._open_for_states(partition, read.events))

    async def save_states(self, partition: int, snapshots: Sequence[Snapshot]) -> int:
        """Keep states of streams, encrypted; see `EventLog.save_states`. None for a while after an erasure."""
        seen = await self._sealer.ring.seen_epoch()
        epoch = self._rests_on.setdefault(partition, seen)
        if epoch != seen or not self._states.may_save(partition):
            return 0
        return await self._log.save_states(partition, await self._states.sealed(snapshots, epoch))

    async def forget_states(self, tenant: str, streams: Sequence[str]) -> int:
        """Delete the saved states of streams, and never keep one of them again."""
        return await self._log.forget_states(tenant, streams)

    async def read_stream(
        self,
        tenant: str,
        stream: str,
        *,
        after_version: int = 0,
        until_version: int | None = None,
        until_position: int | None = None,
        until_partition: int | None = None,
        since_time: datetime | None = None,
        until_time: datetime | None = None,
        backwards: bool = False,
        events_max: int | None = None,
    ) -> AsyncIterator[RecordedEvent]:
        """Return one stream's events, opened; see `EventLog.read_stream`."""
        part: list[RecordedEvent] = []
        async for event in self._log.read_stream(
            tenant,
            stream,
            after_version=after_version,
            until_version=until_version,
            until_position=until_position,
            until_partition=until_partition,
            since_time=since_time,
            until_time=until_time,
            backwards=backwards,
            events_max=events_max,
        ):
            part.append(event)
            if len(part) >= STREAM_EVENTS_OPENED:
                for opened in await self.open(part):
                    yield opened
                part = []
        for opened in await self.open(part):
            yield opened

    async def read_page(
        self, partition: int, after: CommitMark, *, events_max: int, bytes_max: int = 8 * 1024 * 1024
    ) -> Page:
        """Return what follows a place, opened; see `EventLog.read_page`."""
        return await self.open_page(
            await self._log.read_page(partition, after, events_max=events_max, bytes_max=bytes_max)
        )

    async def read_filtered(
        self,
        partition: int,
        after: CommitMark,
        filter: Filter,
        *,
        events_max: int,
        bytes_max: int = 8 * 1024 * 1024,
    ) -> Matches:
        """Return what follows a place and matches, opened; see `EventLog.read_filtered`."""
        found = await self._log.read_filtered(
            partition, after, filter, events_max=events_max, bytes_max=bytes_max
        )
        return replace(found, events=await self.open(found.events))

    async def read_range(
        self, partition: int, first: int, last: int, *, tenants: Collection[str] | None = None
    ) -> Sequence[RecordedEvent]:
        """Return the events of a range of positions, opened; see `EventLog.read_range`."""
        return await self.open(await self._log.read_range(partition, first, last, tenants=tenants))

    async def head(self, partition: int) -> Commit | None:
        """Return the partition's last commit."""
        return await self._log.head(partition)

    async def heads(self) -> Mapping[int, CommitMark]:
        """Return every partition's head."""
        return await self._log.heads()

    async def commit_of(self, partition: int, position: int) -> Commit | None:
        """Return the commit that a position belongs to."""
        return await self._log.commit_of(partition, position)

    # -- sealing and opening ------------------------------------------------------------------------------

    async def open_page(self, page: Page) -> Page:
        """Return a page with its events opened."""
        events = await self.open(page.events)
        return page if events is page.events else replace(page, events=events)

    async def open(self, events: Sequence[RecordedEvent]) -> Sequence[RecordedEvent]:
        """Return events opened; the same object where none has personal fields."""
        personal = self._personal
        numbers = [
            number
            for number, event in enumerate(events)
            if (event.type, event.schema_version) in personal and MARK in event.data
        ]  # fmt: skip
        if not numbers:
            return events
        messages = [
            Sealable(event.tenant, place_of(event.id, place), personal[place], event.data)
            for event in (events[number] for number in numbers)
            for place in ((event.type, event.schema_version),)
        ]
        opened = list(events)
        for number, data in zip(numbers, await self._sealer.open(messages), strict=True):
            opened[number] = opened[number]._replace(data=data)
        return opened

    async def _open_for_states(
        self, partition: int, events: Sequence[RecordedEvent]
    ) -> Sequence[RecordedEvent]:
        """Return events opened that states are folded from, and take note of the epoch that those then rest on."""
        try:
            opened = await self.open(events)
        except UNREADABLE:
            opened = await self._open_each(events)
        if opened is not events and self._sealer.ring.epoch is not None:
            self._rests_on.setdefault(partition, self._sealer.ring.epoch)
        return opened

    async def _open_each(self, events: Sequence[RecordedEvent]) -> Sequence[RecordedEvent]:
        """Return events opened, but for those that cannot be: then only their own stream is unreadable."""
        opened: list[RecordedEvent] = []
        for event in events:
            try:
                opened.extend(await self.open([event]))
            except UNREADABLE as error:
                log.error(
                    "sealed event unreadable", stream=event.stream, position=event.position, error=str(error)
                )
                opened.append(event)
        return opened

    async def _seal(self, partition: int, appends: Sequence[Append]) -> Sequence[Append]:
        personal = self._personal
        concerned = [
            (number, append) for number, append in enumerate(appends)
            if any((event.type, event.schema_version) in personal for event in append.events)
        ]  # fmt: skip
        if not concerned:
            return appends
        events = [
            (append, event)
            for _, append in concerned
            for event in append.events
            if (event.type, event.schema_version) in personal
        ]
        sealed = iter(await self._sealer.seal([self._sealable(*one) for one in events]))
        self._check_epoch(partition)
        done = list(appends)
        for number, append in concerned:
            done[number] = replace(
                append,
                events=[
                    event._replace(data=next(sealed))
                    if (event.type, event.schema_version) in personal
                    else event
                    for event in append.events
                ],
            )
        return done

    def _sealable(self, append: Append, event: NewEvent) -> Sealable:
        place = event.type, event.schema_version
        return Sealable(append.tenant, place_of(event.id, place), self._personal[place], event.data)

    def _check_epoch(self, partition: int) -> None:
        epoch = self._sealer.ring.epoch
        if epoch is None:  # no key was needed
            return
        rests_on = self._rests_on.setdefault(partition, epoch)
        if rests_on != epoch:
            self._rests_on[partition] = epoch
            self._states.moved(partition)
            raise EpochChanged(partition, 0)


class OpenedFeed:
    """A feed whose pages are opened after they have been proved. Keeps `event_store.feed.Feed`."""

    def __init__(self, feed: Feed, sealed: SealedLog) -> None:
        self._feed, self._sealed = feed, sealed

    async def next(self, after: CommitMark, *, wait_seconds: float) -> Page:
        """Return what follows a mark, opened."""
        return await self._sealed.open_page(await self._feed.next(after, wait_seconds=wait_seconds))

    async def settled(self, mark: CommitMark) -> None:
        """Take note that everything up to a mark has been committed."""
        await self._feed.settled(mark)

    async def close(self) -> None:
        """Let go of the feed."""
        await self._feed.close()


def opened_feeds(
    feed_of: Callable[[int], Awaitable[Feed]], event_log: EventLog
) -> Callable[[int], Awaitable[Feed]]:
    """Return what makes feeds, opened where the log that goes with them is a sealed one."""
    if not isinstance(event_log, SealedLog):
        return feed_of

    async def opened(partition: int) -> Feed:
        return OpenedFeed(await feed_of(partition), event_log)

    return opened


def opened_events(
    event_log: EventLog,
) -> Callable[[Sequence[RecordedEvent]], Awaitable[Sequence[RecordedEvent]]]:
    """Return what opens events that were read past the log; it leaves them as they are where nothing is sealed."""
    if isinstance(event_log, SealedLog):
        return event_log.open

    async def as_they_are(events: Sequence[RecordedEvent]) -> Sequence[RecordedEvent]:
        return events

    return as_they_are


def place_of(event_id: str, kind: tuple[str, int]) -> tuple[str, ...]:
    """Return what names an event for ever."""
    return "event", event_id, kind[0], str(kind[1])
