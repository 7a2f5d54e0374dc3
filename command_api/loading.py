"""
Brings the states of streams from the log, many in one query, and sees to it that they are of one history.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from command_api.decider import Rules
from command_api.state_cache import ENTRY_WEIGHT, Known, StateCache, StreamKey
from event_store.log import EventLog, StreamTail
from infra.telemetry import log
from schemas.envelope import CommitMark, RecordedEvent
from schemas.errors import EpochChanged, ServiceError, Unavailable, UnknownEvent
from schemas.registry import Registry

FOLDED_EVENTS_A_TURN = 1_000
"""After so many events the loop gets a turn, so that one long stream does not hold up every answer."""


class StreamsUnreadable(Unavailable):
    """This program cannot read a stream's events; a newer one wrote them."""


class StateLoader:
    """Folds streams into states, from the cache where they are in it."""

    def __init__(self, event_log: EventLog, rules: Rules, registry: Registry, cache: StateCache) -> None:
        self._log, self._rules, self._registry, self.cache = event_log, rules, registry, cache

    async def load(
        self, partition: int, keys: Iterable[StreamKey], found: dict[StreamKey, Known | ServiceError]
    ) -> None:
        """
        Add the states of streams to `found`; one that cannot be folded gets its error instead.

        Raises:
            EpochChanged: The states in the cache are of a history that the log does not have any more.
            StoreUnavailable
        """
        starts = {key: self.cache.start_of(key) for key in keys}
        tails = [StreamTail(*key, start.version if start else 0) for key, start in starts.items()]
        events, head = await self._log.read_tails(partition, tails)
        await self._follow(partition, head)
        await self._fold_all(partition, starts, events, found)

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
        found: dict[StreamKey, Known | ServiceError],
    ) -> None:
        by_key: dict[StreamKey, list[RecordedEvent]] = {key: [] for key in starts}
        for event in events:
            by_key[event.tenant, event.stream].append(event)
        folded = 0
        for key, own in by_key.items():
            found[key] = known = self._fold(key[1], starts[key], own)
            if isinstance(known, Known):
                self.cache.put(partition, key, known)
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
                    state = decider.evolve(state, event)
                weight += len(recorded.data)
        except UnknownEvent as error:
            log.error("stream unreadable", stream=stream, error=str(error))
            return StreamsUnreadable()
        except Exception as error:
            log.error("stream cannot be folded", stream=stream, exc_info=error)
            return ServiceError()
        return Known(events[-1].version if events else version, state, weight)
