"""
Gives the first answer again to a request that was carried out before, byte for byte, from the log.
"""

from collections.abc import Sequence

from command_api.pending import Pending
from command_api.requests import Answer, AppendedEvent
from event_store.log import EventLog, Outcome
from infra.telemetry import log
from schemas.envelope import RecordedEvent
from schemas.errors import ServiceError
from schemas.position import position_of
from schemas.registry import Registry


class FirstAnswers:
    """Rebuilds answers from what the key and the log have kept."""

    def __init__(self, event_log: EventLog, registry: Registry) -> None:
        self._log, self._registry = event_log, registry

    async def give(self, partition: int, repeated: Sequence[tuple[Pending, Outcome]]) -> None:
        """Answer each command whose key was bound before with the answer that it got then."""
        for pending, outcome in repeated:
            try:
                pending.settle(await self._first_answer(partition, outcome))
            except ServiceError as error:
                log.warning("first answer not to be had", error=str(error))
                pending.settle(Answer(outcome.stream, error=error))

    async def _first_answer(self, partition: int, outcome: Outcome) -> Answer:
        events: Sequence[RecordedEvent] = ()
        if outcome.events:
            first = outcome.position - outcome.events + 1
            events = await self._log.read_range(partition, first, outcome.position)
        return Answer(
            outcome.stream,
            outcome.version,
            position_of(partition, outcome.position, outcome.commit.hash),
            [
                AppendedEvent(
                    event.id, event.type, event.schema_version, event.stream, event.version, event.data
                )
                for event in events
            ],
            [
                decoded
                for event in events
                for decoded in self._registry.decode(event.type, event.schema_version, event.data)
            ],
            replayed=True,
        )
