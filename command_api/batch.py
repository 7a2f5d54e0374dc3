"""
Carries out commands that wait together: load, decide, append, and answer what is certain.

Every command goes into the one append, a refusal or no change as a check of what it saw, because another
process may have written since. What the log does not confirm is forgotten and decided again.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterable, Sequence, Set

from command_api.deciding import Decision
from command_api.drafting import DECIDED_A_TURN, Draft, Drafter
from command_api.groups import bind_together, key_checks, refusal_of
from command_api.outcomes import Appender, Result
from command_api.pending import Group, Pending
from command_api.queue import Item
from command_api.requests import Answer
from command_api.settling import Settler
from command_api.state_cache import StateCache, StreamKey
from event_store.log import Answer as Verdict
from event_store.log import Outcome
from infra.telemetry import Histogram, log, span
from schemas.errors import (
    EpochChanged,
    IdempotencyKeyReused,
    OutcomeUnknown,
    Overloaded,
    ServiceError,
    TooLarge,
    Unavailable,
)

_sizes = Histogram(
    "everfold_pipeline_batch_commands",
    "Commands in a batch",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 1000),
)
_seconds = Histogram(
    "everfold_pipeline_batch_seconds",
    "Time that a batch's append took",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 10),
)


Sent = Sequence[Result] | Exception
"""What came of appending a draft: each append's outcome, or why there is none."""


class BatchRunner:
    """Runs batches of one partition: while one is appended, the next is drafted."""

    def __init__(
        self, partition: int, drafter: Drafter, appender: Appender, settler: Settler, cache: StateCache
    ) -> None:
        self._partition, self._cache = partition, cache
        self._drafter, self._appender, self._settler = drafter, appender, settler

    # -- independent commands --------------------------------------------------------------------------

    def draft(self, after: Draft | None) -> Draft:
        """Return an empty draft, resting on the one that is under way."""
        return Draft(self._cache, self._partition, after)

    async def extend(self, draft: Draft, batch: Sequence[Pending]) -> Sequence[Item]:
        """Decide commands into a draft, and return those that have to be tried again."""
        return await self._guarded(self._drafter.decide(batch, draft), batch, Overloaded())

    async def append(self, draft: Draft) -> Sent:
        """Append a draft, and return what came of it; whatever goes wrong is returned too."""
        try:
            if draft.epoch != self._cache.epoch(self._partition):
                raise EpochChanged(self._partition, 0)
            _sizes.observe(len(draft))
            with _Timed([decision.pending for decision in draft.decisions], self._partition):
                appends = [decision.append for decision in draft.decisions]
                return await self._appender.append(self._partition, appends)
        except asyncio.CancelledError:
            _answer_all([decision.pending for decision in draft.decisions], OutcomeUnknown())
            raise
        except Exception as error:
            return error

    def undone(self, draft: Draft, sent: Sent) -> Set[StreamKey]:
        """
        Take note of what is stored of a draft, and return the streams of which something is not.

        What rests on the draft may be appended from here on; its commands are answered by `settle`.
        """
        return self._keep(draft.decisions, [None] * len(draft) if isinstance(sent, Exception) else sent)

    def _keep(self, decisions: Sequence[Decision], outcomes: Sequence[Result]) -> Set[StreamKey]:
        undone: set[StreamKey] = set()
        for decision, outcome in zip(decisions, outcomes, strict=True):
            if isinstance(outcome, Outcome) and outcome.answer is Verdict.APPENDED:
                self._settler.keep(decision, outcome)
            else:
                undone.update((decision.pending.tenant, stream) for stream in decision.written)
        return undone

    async def settle(self, draft: Draft, sent: Sent) -> Sequence[Item]:
        """Answer a draft's commands, and return those that have to be tried again."""
        batch = [decision.pending for decision in draft.decisions]
        return await self._guarded(self._settle(draft, sent), batch, OutcomeUnknown())

    async def _settle(self, draft: Draft, sent: Sent) -> Sequence[Item]:
        if isinstance(sent, Exception):
            raise sent
        return self._settler.again(await self._settler.settle(draft.decisions, sent))

    async def _guarded(
        self, work: Awaitable[Sequence[Item]], items: Sequence[Item], at_end: ServiceError
    ) -> Sequence[Item]:
        """Do some work for items: whatever goes wrong, each is answered or returned; `at_end` when we end meanwhile."""
        try:
            return await work
        except asyncio.CancelledError:
            _answer_all(items, at_end)
            raise
        except EpochChanged as error:
            return self._void(error, items)
        except (Unavailable, TooLarge) as error:
            _answer_all(items, error)
        except Exception as error:
            log.error("batch failed", partition=self._partition, exc_info=error)
            self._cache.drop_partition(self._partition)
            _answer_all(items, ServiceError())
        return ()

    def _void(self, error: EpochChanged, items: Sequence[Item]) -> Sequence[Item]:
        """Forget a history that is no more, and return what is to be decided on the new one."""
        self._cache.drop_partition(self._partition)
        return self._settler.again(items, f"partition {error.partition}")

    # -- by itself -------------------------------------------------------------------------------------

    async def run_alone(self, item: Item) -> Sequence[Item]:
        """Carry out a group, or a command that is to be by itself, while nothing else is under way."""
        if isinstance(item, Pending):
            draft = self.draft(None)
            left = await self.extend(draft, [item])
            sent = await self.append(draft) if draft else ()
            self.undone(draft, sent)
            return [*left, *await self.settle(draft, sent)]
        _sizes.observe(item.count)
        with _Timed(item.members, self._partition):
            return await self._guarded(self._run_group(item), [item], OutcomeUnknown())

    async def _run_group(self, group: Group) -> Sequence[Item]:
        if not await self._find_keys(group):
            return ()
        members = [member for member in group.members if member.answer is None]
        if not members:
            return ()
        desk, speculation = self._drafter.desk(), self.draft(None).speculation
        speculation.is_together = True
        decisions: list[Decision] = []
        for number, member in enumerate(members):
            decision = await self._drafter.decide_one(member, desk, speculation, members[number:])
            if decision is None:
                self._refuse_group(group, member)
                return ()
            if decision.refusal is not None:
                return await self._settle_refusal(group, refusal_of(decisions, decision))
            decisions.append(decision)
            if number % DECIDED_A_TURN == DECIDED_A_TURN - 1:
                await asyncio.sleep(0)
        ordered = bind_together(decisions)
        outcomes = await self._appender.append(self._partition, [decision.append for decision in ordered])
        failure = next((outcome for outcome in outcomes if isinstance(outcome, ServiceError)), None)
        if failure is not None:
            for decision in ordered:
                self._settler.doubt(decision)
            group.refuse(Answer(group.members[0].stream, error=failure))
            return ()
        self._keep(ordered, outcomes)
        again = await self._settler.settle(ordered, outcomes)
        return self._settler.again([group]) if again else ()

    async def _find_keys(self, group: Group) -> bool:
        """Answer the members whose keys are bound already; False when one of them refuses the group."""
        keyed, appends = key_checks(group)
        if not keyed:
            return True
        outcomes = await self._appender.append(self._partition, appends)
        repeated = []
        for member, outcome in zip(keyed, outcomes, strict=True):
            if isinstance(outcome, Outcome) and outcome.answer is Verdict.REUSED:
                answer = self._settler.error(member, IdempotencyKeyReused(), outcome)
                self._refuse_group(group, member, answer)
                return False
            if isinstance(outcome, Outcome) and outcome.answer is Verdict.DUPLICATE:
                repeated.append((member, outcome))
        await self._settler.repeat(repeated)
        return True

    async def _settle_refusal(self, group: Group, refused: Decision) -> Sequence[Item]:
        (outcome,) = await self._appender.append(self._partition, [refused.append])
        if isinstance(outcome, ServiceError):
            group.refuse(self._settler.error(refused.pending, outcome))
            return ()
        if outcome is None or outcome.answer is not Verdict.APPENDED:
            self._settler.doubt(refused)
            return self._settler.again([group])
        self._cache.move_mark(self._partition, outcome.commit)
        assert refused.refusal is not None
        answer = self._settler.error(refused.pending, refused.refusal, outcome)
        self._refuse_group(group, refused.pending, answer)
        return ()

    @staticmethod
    def _refuse_group(group: Group, culprit: Pending, answer: Answer | None = None) -> None:
        """Give every member the culprit's answer, with its place."""
        answer = answer or culprit.answer
        assert answer is not None
        place = list(group.members).index(culprit)
        group.refuse(
            Answer(answer.stream, answer.version, answer.position, error=answer.error, culprit=place)
        )


class _Timed:
    """Measures the append of a batch, and links it to the requests that it answers."""

    __slots__ = ("_began", "_span")

    def __init__(self, commands: Iterable[Pending], partition: int) -> None:
        links = tuple(filter(None, (pending.request.traceparent for pending in commands)))
        self._span = span("pipeline batch", links=links, partition=partition)

    def __enter__(self) -> None:
        self._began = time.perf_counter()
        self._span.__enter__()

    def __exit__(self, *exception: object) -> None:
        self._span.__exit__(*exception)  # type: ignore[arg-type]  # the three that every block is left with
        _seconds.observe(time.perf_counter() - self._began)


def _answer_all(items: Iterable[Item], error: ServiceError) -> None:
    for item in items:
        for pending in item.commands:
            pending.settle(Answer(pending.stream, error=error))
