"""
Brings the states of streams and tags from the log, many in one query, and sees to it that they are of one history.

Where a state was saved, only what came after it is folded; a saved state that cannot be read is as good as none.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from command_api.decider import Rules
from command_api.saved_states import StateForms, StateSaver
from command_api.state_cache import ENTRY_WEIGHT, Known, StateCache, StreamKey
from event_store.log import EventLog, SavedState, StateTail, StreamTail, TagTail
from infra.telemetry import log
from schemas.envelope import CommitMark, RecordedEvent
from schemas.errors import EpochChanged, ServiceError, StreamsUnreadable, UnknownEvent
from schemas.registry import Registry

FOLDED_EVENTS_A_TURN = 1_000
"""After so many events the loop gets a turn, so that one long stream does not hold up every answer."""


class StateLoader:
    """Folds streams into states, from the cache where they are in it."""

    def __init__(
        self,
        event_log: EventLog,
        rules: Rules,
        registry: Registry,
        cache: StateCache,
        forms: StateForms,
        saver: StateSaver,
    ) -> None:
        self._log, self._rules, self._registry, self.cache = event_log, rules, registry, cache
        self._forms, self._saver = forms, saver

    async def load(
        self, partition: int, keys: Iterable[StreamKey], found: dict[StreamKey, Known | ServiceError]
    ) -> None:
        """
        Add the states of streams to `found`; one that cannot be folded gets its error instead.

        Raises:
            EpochChanged: The states in the cache are of a history that the log does not have any more.
            StoreUnavailable
        """
        epoch = self.cache.epoch(partition)  # what turns out to be void on its way is not kept
        starts = {key: self.cache.start_of(partition, key) for key in keys}
        if self._rules.has_tags:
            tags = {key: starts.pop(key) for key in list(starts) if self._rules.is_tag(key[1])}
            if tags:
                await self._load_tags(partition, tags, found, epoch)
        if not starts:
            return
        read = await self._log.read_states(partition, [self._tail(*entry) for entry in starts.items()])
        events, unread = read.events, self._take_saved(read.saved, starts)
        if unread:
            events, head = await self._log.read_tails(partition, [_tail(*entry) for entry in starts.items()])
        else:
            head = read.head
        await self._follow(partition, head)
        await self._fold_all(partition, starts, events, head, found, epoch)

    def _tail(self, key: StreamKey, start: Known | None) -> StateTail:
        form = self._forms.of_stream(key[1])
        return StateTail(*key, start.version if start else 0, form.shape if form else None)

    def _take_saved(self, saved: Iterable[SavedState], starts: dict[StreamKey, Known | None]) -> bool:
        """Have streams start from what was saved of them; say whether something saved could not be read."""
        unread = False
        for tenant, stream, version, data in saved:
            form = self._forms.of_stream(stream)
            try:
                state: Any = form.codec.decode(data) if form else None
            except Exception as error:
                log.error("saved state cannot be read", tenant=tenant, stream=stream, exc_info=error)
                unread = True
            else:
                starts[tenant, stream] = Known(version, state, ENTRY_WEIGHT + len(data))
        return unread

    async def _load_tags(
        self,
        partition: int,
        starts: Mapping[StreamKey, Known | None],
        found: dict[StreamKey, Known | ServiceError],
        epoch: int,
    ) -> None:
        """Add the states of what carries tags to `found`; a state's version is the last such event's position."""
        tails = [TagTail(*key, start.version if start else 0) for key, start in starts.items()]
        by_tag, head = await self._log.read_tagged(partition, tails)
        await self._follow(partition, head)
        for (key, start), events in zip(starts.items(), by_tag, strict=True):
            known = self._fold(key[1], start, events)
            if isinstance(known, Known) and events and events[-1].partition != partition:
                known = known._replace(version=head.position)  # all of them were before the tenant came here
            found[key] = known
            if isinstance(known, Known) and epoch == self.cache.epoch(partition):
                self.cache.put(partition, key, known)

    async def _follow(self, partition: int, head: CommitMark) -> None:
        """Rest on the head that was read, once the log still has the commit that was rested on before."""
        known = self.cache.mark(partition)
        if known is not None and known.position > 0 and head != known:
            commit = await self._log.commit_of(partition, known.position)
            if commit is None or commit.mark != known:
                raise EpochChanged(partition, known.position)
        self.cache.move_mark(partition, head)

    async def _fold_all(
        self,
        partition: int,
        starts: Mapping[StreamKey, Known | None],
        events: Sequence[RecordedEvent],
        head: CommitMark,
        found: dict[StreamKey, Known | ServiceError],
        epoch: int,
    ) -> None:
        by_key: dict[StreamKey, list[RecordedEvent]] = {key: [] for key in starts}
        for event in events:
            by_key[event.tenant, event.stream].append(event)
        folded = 0
        for key, own in by_key.items():
            found[key] = known = self._fold(key[1], starts[key], own)
            if isinstance(known, Known) and epoch == self.cache.epoch(partition):
                self.cache.put(partition, key, known)
                self._saver.folded(partition, key, known, len(own), head)
            folded += len(own)
            if folded > FOLDED_EVENTS_A_TURN:
                folded = 0
                await asyncio.sleep(0)

    def _fold(
        self, stream: str, start: Known | None, events: Sequence[RecordedEvent]
    ) -> Known | ServiceError:
        decider = self._rules.of_stream(stream)
        version, state, weight = start or (0, decider.initial, ENTRY_WEIGHT)
        try:
            for recorded in events:
                for event in self._registry.decode(recorded.type, recorded.schema_version, recorded.data):
                    if decider.by_tag:
                        state = decider.evolve_tagged(state, recorded.stream, event)
                    else:
                        state = decider.evolve(state, event)
                weight += len(recorded.data)
        except UnknownEvent as error:
            log.error("stream unreadable", stream=stream, error=str(error))
            return StreamsUnreadable(recorded.stream, error.type, error.schema_version)
        except Exception as error:
            log.error("stream cannot be folded", stream=stream, exc_info=error)
            return ServiceError()
        if events:
            version = events[-1].position if decider.by_tag else events[-1].version
        return Known(version, state, weight)


def _tail(key: StreamKey, start: Known | None) -> StreamTail:
    return StreamTail(*key, start.version if start else 0)
