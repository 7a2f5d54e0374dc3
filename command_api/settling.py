"""
Turns what the log says of appends into answers: what is certain is answered, what is not is decided again.
"""

from collections.abc import Iterable, Sequence

from command_api.deciding import Decision
from command_api.first_answers import FirstAnswers
from command_api.outcomes import FailedTogether, Result
from command_api.pending import Pending
from command_api.queue import Item
from command_api.requests import Answer
from command_api.saved_states import StateSaver
from command_api.state_cache import StateCache
from event_store.log import Answer as Verdict
from event_store.log import Outcome
from infra.failpoints import failpoint
from schemas.errors import ConcurrentUpdate, IdempotencyKeyReused, ServiceError
from schemas.position import position_of

ATTEMPTS_MAX = 16


class Settler:
    """Answers the commands of one partition."""

    def __init__(
        self, partition: int, cache: StateCache, first_answers: FirstAnswers, saver: StateSaver
    ) -> None:
        self._partition, self._cache, self._first_answers = partition, cache, first_answers
        self._saver = saver

    async def settle(self, decisions: Sequence[Decision], outcomes: Sequence[Result]) -> Sequence[Pending]:
        """Answer what the log has decided, and return the commands that have to be decided again; see `keep`."""
        failpoint("pipeline.before_answer")
        again: list[Pending] = []
        repeated: list[tuple[Pending, Outcome]] = []
        for decision, outcome in zip(decisions, outcomes, strict=True):
            match outcome:
                case Outcome(answer=Verdict.APPENDED):
                    self._answer(decision, outcome)
                case Outcome(answer=Verdict.DUPLICATE):
                    self.doubt(decision)
                    repeated.append((decision.pending, outcome))
                case Outcome(answer=Verdict.REUSED):
                    self.doubt(decision)
                    decision.pending.settle(self.error(decision.pending, IdempotencyKeyReused(), outcome))
                case FailedTogether() if len(decisions) > 1 and not decision.pending.alone:
                    self.doubt(decision)
                    decision.pending.alone = True
                    again.append(decision.pending)
                case ServiceError():
                    self.doubt(decision)
                    decision.pending.settle(self.error(decision.pending, outcome))
                case _:
                    self.doubt(decision)
                    again.append(decision.pending)
        await self.repeat(repeated)
        return again

    async def repeat(self, repeated: Sequence[tuple[Pending, Outcome]]) -> None:
        """Give commands whose keys were bound before the answers that they got then."""
        if repeated:
            await self._first_answers.give(self._partition, repeated)

    def keep(self, decision: Decision, outcome: Outcome) -> None:
        """Take over what a stored decision led to."""
        self._cache.move_mark(self._partition, outcome.commit)
        for stream, known in decision.written.items():
            key = (decision.pending.tenant, stream)
            self._cache.put(self._partition, key, known)
            self._saver.grown(self._partition, key, decision.seen[stream], known, outcome.commit)
        if decision.tags:
            self._cache.doubt([(decision.pending.tenant, tag) for tag in decision.tags])

    def _answer(self, decision: Decision, outcome: Outcome) -> None:
        pending = decision.pending
        if decision.refusal is not None:
            pending.settle(self.error(pending, decision.refusal, outcome))
            return
        pending.settle(
            Answer(
                decision.append.stream,
                decision.version,
                position_of(self._partition, outcome.position, outcome.commit.hash),
                decision.events,
                decision.objects,
            )
        )

    def doubt(self, decision: Decision) -> None:
        """Have the streams and tags that a decision was made on looked at again before the next."""
        tenant = decision.pending.tenant
        self._cache.doubt([(tenant, name) for name in (*decision.seen, *decision.seen_tags)])

    def error(self, pending: Pending, error: ServiceError, outcome: Outcome | None = None) -> Answer:
        """Return an error as the answer to a command, with what the log said of it."""
        position = None
        if outcome is not None:
            position = position_of(self._partition, outcome.position, outcome.commit.hash)
        return Answer(pending.stream, outcome.version if outcome else 0, position, error=error)

    def again(self, items: Iterable[Item], stream: str | None = None) -> Sequence[Item]:
        """Return the items that may be tried again, and answer those that were tried often enough."""
        again: list[Item] = []
        for item in items:
            item.attempts += 1
            if all(pending.answer is not None for pending in item.commands):
                continue
            if item.attempts < ATTEMPTS_MAX:
                again.append(item)
                continue
            for pending in item.commands:
                main = pending.stream
                pending.settle(Answer(main, error=ConcurrentUpdate(stream or main, item.attempts)))
        return again
