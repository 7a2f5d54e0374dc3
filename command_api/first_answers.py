"""
Gives the first answer again to a request that was carried out before, byte for byte, from the log.
"""

from collections.abc import Iterator, Mapping, Sequence

from command_api.pending import Pending
from command_api.requests import Answer, AppendedEvent
from event_store.log import EventLog, Outcome
from infra.telemetry import log
from schemas import Event
from schemas.envelope import RecordedEvent
from schemas.errors import ServiceError, StreamsUnreadable, UnknownEvent
from schemas.position import position_of
from schemas.registry import Registry

GAP_MAX = 64
SPAN_EVENTS_MAX = 2_000
Repeated = tuple[Pending, Outcome]


class FirstAnswers:
    """Rebuilds answers from what the key and the log have kept."""

    def __init__(self, event_log: EventLog, registry: Registry) -> None:
        self._log, self._registry = event_log, registry

    async def give(self, partition: int, repeated: Sequence[Repeated]) -> None:
        """Answer each command whose key was bound before with the answer that it got then."""
        for at, together in _neighbours(partition, repeated):
            try:
                events = await self._events(at, together)
            except ServiceError as error:
                log.warning("first answers not to be had", commands=len(together), error=str(error))
                for pending, outcome in together:
                    pending.settle(Answer(outcome.stream, error=error))
                continue
            for pending, outcome in together:
                pending.settle(self._first_answer(at, outcome, events))

    async def _events(self, partition: int, together: Sequence[Repeated]) -> Mapping[int, RecordedEvent]:
        """Return the events that commands had led to, by position."""
        wanted = {position for _, outcome in together for position in _positions(outcome)}
        if not wanted:
            return {}
        tenants = {pending.tenant for pending, _ in together}
        stored = await self._log.read_range(partition, min(wanted), max(wanted), tenants=tenants)
        return {event.position: event for event in stored if event.position in wanted}

    def _first_answer(self, partition: int, outcome: Outcome, events: Mapping[int, RecordedEvent]) -> Answer:
        own = [events[position] for position in _positions(outcome)]
        facts: list[Event] = []
        for event in own:
            try:
                facts.extend(self._registry.decode(event.type, event.schema_version, event.data))
            except UnknownEvent as error:
                log.error("first answer unreadable", stream=event.stream, error=str(error))
                unreadable = StreamsUnreadable(event.stream, error.type, error.schema_version)
                return Answer(outcome.stream, error=unreadable)
        return Answer(
            outcome.stream,
            outcome.version,
            position_of(partition, outcome.position, outcome.commit.hash),
            [
                AppendedEvent(
                    event.id, event.type, event.schema_version, event.stream, event.version, event.data
                )
                for event in own
            ],
            facts,
            replayed=True,
        )


def _positions(outcome: Outcome) -> range:
    return range(outcome.position - outcome.events + 1, outcome.position + 1)


def _neighbours(partition: int, repeated: Sequence[Repeated]) -> Iterator[tuple[int, Sequence[Repeated]]]:
    """
    Group commands whose events lie close together: those of a batch that is sent again are read in one query.

    Where they are is said with each group; what a tenant has left behind is in another partition.
    """
    by_partition: dict[int, list[Repeated]] = {}
    for pending, outcome in repeated:
        at = partition if outcome.partition is None else outcome.partition
        by_partition.setdefault(at, []).append((pending, outcome))
    for at, own in by_partition.items():
        for together in _runs(own):
            yield at, together


def _runs(repeated: Sequence[Repeated]) -> Iterator[Sequence[Repeated]]:
    together: list[Repeated] = []
    for pending, outcome in sorted(repeated, key=lambda one: one[1].position):
        if together:
            first, last = _positions(together[0][1]).start, together[-1][1].position
            if (
                outcome.position - outcome.events - last > GAP_MAX
                or outcome.position - first > SPAN_EVENTS_MAX
            ):
                yield together
                together = []
        together.append((pending, outcome))
    if together:
        yield together
