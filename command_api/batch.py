"""
Carries out commands that wait together: load, decide, append, and answer what is certain.

Every command goes into the one append, a refusal or no change as a check of what it saw, because another
process may have written since. What the log does not confirm is forgotten and decided again.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from command_api.deciding import Decision, Desk, Missing, Speculation, foreseen_error
from command_api.first_answers import FirstAnswers
from command_api.groups import bind_together, key_checks, refusal_of
from command_api.loading import StateLoader
from command_api.outcomes import Appender, FailedTogether, Result
from command_api.pending import Group, Pending
from command_api.queue import Item
from command_api.requests import Answer
from command_api.state_cache import StreamKey
from event_store.log import BATCH_BYTES_MAX, Outcome
from event_store.log import Answer as Verdict
from infra.telemetry import Histogram, span
from schemas.errors import (
    ConcurrentUpdate,
    EpochChanged,
    IdempotencyKeyReused,
    ServiceError,
    StoreUnavailable,
    TooLarge,
)
from schemas.position import position_of

ATTEMPTS_MAX = 16
DECIDED_A_TURN = 64
"""After so many decisions the loop gets a turn: other requests are read and answered meanwhile."""
APPEND_BYTES_MAX = BATCH_BYTES_MAX // 2

Clock = Callable[[], datetime]

_sizes = Histogram(
    "everfold_pipeline_batch_commands",
    "Commands in a batch",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 1000),
)
_seconds = Histogram(
    "everfold_pipeline_batch_seconds",
    "Time from taking a batch to its answers",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 10),
)


class BatchRunner:
    """Runs batches of one partition, one after the other."""

    def __init__(
        self,
        partition: int,
        loader: StateLoader,
        appender: Appender,
        first_answers: FirstAnswers,
        desk: Callable[[datetime], Desk],
        clock: Clock,
    ) -> None:
        self._partition, self._loader, self._cache = partition, loader, loader.cache
        self._appender, self._first_answers = appender, first_answers
        self._desk_at, self._clock = desk, clock

    async def run(self, batch: Sequence[Item]) -> Sequence[Item]:
        """Carry out a batch, and return those of it that have to be tried again."""
        links = tuple(filter(None, (item.request.traceparent for item in batch if isinstance(item, Pending))))
        _sizes.observe(sum(item.count for item in batch))
        with _seconds.time(), span("pipeline batch", links=links, partition=self._partition):
            try:
                if isinstance(batch[0], Group):
                    return await self._run_group(batch[0])
                return await self._run_commands([item for item in batch if isinstance(item, Pending)])
            except EpochChanged as error:
                self._cache.drop_partition(self._partition)
                return self._again(batch, f"partition {error.partition}")
            except (StoreUnavailable, TooLarge) as error:
                self._fail(batch, error)
                return ()

    def forget_all(self) -> None:
        """Forget every state of the partition."""
        self._cache.drop_partition(self._partition)

    # -- independent commands --------------------------------------------------------------------------

    async def _run_commands(self, batch: Sequence[Pending]) -> Sequence[Item]:
        desk, speculation = self._desk_at(self._clock()), Speculation()
        await self._load(batch, desk, speculation)
        decisions: list[Decision] = []
        left: Sequence[Pending] = ()
        size = 0
        for number, pending in enumerate(batch):
            decision = await self._decide(pending, desk, speculation, batch[number:])
            if decision is not None:
                decisions.append(decision)
                size += decision.bytes
            if size > APPEND_BYTES_MAX:
                left = batch[number + 1 :]
                break
            if number % DECIDED_A_TURN == DECIDED_A_TURN - 1:
                await asyncio.sleep(0)
        outcomes = await self._appender.append(self._partition, [decision.append for decision in decisions])
        return (*self._again(await self._settle(decisions, outcomes)), *left)

    async def _load(self, batch: Sequence[Pending], desk: Desk, speculation: Speculation) -> None:
        """Load the streams that the batch's commands name."""
        named: dict[StreamKey, None] = {}
        for pending in batch:
            named.update(_named(pending, desk))
        await self._loader.load(self._partition, named, speculation.loaded)

    async def _decide(
        self, pending: Pending, desk: Desk, speculation: Speculation, rest: Sequence[Pending]
    ) -> Decision | None:
        """Return a command's decision; None when it has been answered because there can be none."""
        while True:
            try:
                return desk.decide(pending, speculation)
            except Missing as missing:
                await self._load_further(missing.keys, rest, desk, speculation)
            except Exception as error:
                pending.settle(Answer(pending.stream, error=foreseen_error(pending, error)))
                return None

    async def _load_further(
        self, keys: Sequence[StreamKey], rest: Sequence[Pending], desk: Desk, speculation: Speculation
    ) -> None:
        """Load what a command lacks, and in the same query what the rest of the batch will lack, as far as is known."""
        lacking = dict.fromkeys(keys)
        for pending in rest:
            if pending.names_further:
                lacking.update(_further(pending, desk, speculation))
        await self._loader.load(self._partition, lacking, speculation.loaded)

    async def _settle(self, decisions: Sequence[Decision], outcomes: Sequence[Result]) -> Sequence[Pending]:
        """Answer what the log has decided, and return the commands that have to be decided again."""
        again: list[Pending] = []
        repeated: list[tuple[Pending, Outcome]] = []
        for decision, outcome in zip(decisions, outcomes, strict=True):
            match outcome:
                case Outcome(answer=Verdict.APPENDED):
                    self._confirm(decision, outcome)
                case Outcome(answer=Verdict.DUPLICATE):
                    self._forget(decision)
                    repeated.append((decision.pending, outcome))
                case Outcome(answer=Verdict.REUSED):
                    self._forget(decision)
                    decision.pending.settle(self._error(decision.pending, IdempotencyKeyReused(), outcome))
                case FailedTogether() if len(decisions) > 1 and not decision.pending.alone:
                    self._forget(decision)
                    decision.pending.alone = True
                    again.append(decision.pending)
                case ServiceError():
                    self._forget(decision)
                    decision.pending.settle(self._error(decision.pending, outcome))
                case _:
                    self._forget(decision)
                    again.append(decision.pending)
        if repeated:
            await self._first_answers.give(self._partition, repeated)
        return again

    def _confirm(self, decision: Decision, outcome: Outcome) -> None:
        """Take over what a decision led to, and answer it."""
        pending = decision.pending
        self._cache.move_mark(self._partition, outcome.commit)
        for stream, known in decision.written.items():
            self._cache.put(self._partition, (pending.tenant, stream), known)
        if decision.refusal is not None:
            pending.settle(self._error(pending, decision.refusal, outcome))
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

    def _forget(self, decision: Decision) -> None:
        tenant = decision.pending.tenant
        self._cache.drop([(tenant, stream) for stream in decision.seen])

    def _error(self, pending: Pending, error: ServiceError, outcome: Outcome | None = None) -> Answer:
        position = None
        if outcome is not None:
            position = position_of(self._partition, outcome.position, outcome.commit.hash)
        return Answer(pending.stream, outcome.version if outcome else 0, position, error=error)

    def _again(self, items: Iterable[Item], stream: str | None = None) -> Sequence[Item]:
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

    def _fail(self, items: Iterable[Item], error: ServiceError) -> None:
        for item in items:
            for pending in item.commands:
                pending.settle(Answer(pending.stream, error=error))

    # -- a group ---------------------------------------------------------------------------------------

    async def _run_group(self, group: Group) -> Sequence[Item]:
        if not await self._find_keys(group):
            return ()
        members = [member for member in group.members if member.answer is None]
        if not members:
            return ()
        desk, speculation = self._desk_at(self._clock()), Speculation()
        await self._load(members, desk, speculation)
        decisions: list[Decision] = []
        for number, member in enumerate(members):
            decision = await self._decide(member, desk, speculation, members[number:])
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
                self._forget(decision)
            group.refuse(Answer(group.members[0].stream, error=failure))
            return ()
        again = await self._settle(ordered, outcomes)
        return self._again([group]) if again else ()

    async def _find_keys(self, group: Group) -> bool:
        """Answer the members whose keys are bound already; False when one of them refuses the group."""
        keyed, appends = key_checks(group)
        if not keyed:
            return True
        outcomes = await self._appender.append(self._partition, appends)
        repeated = []
        for member, outcome in zip(keyed, outcomes, strict=True):
            if isinstance(outcome, Outcome) and outcome.answer is Verdict.REUSED:
                self._refuse_group(group, member, self._error(member, IdempotencyKeyReused(), outcome))
                return False
            if isinstance(outcome, Outcome) and outcome.answer is Verdict.DUPLICATE:
                repeated.append((member, outcome))
        if repeated:
            await self._first_answers.give(self._partition, repeated)
        return True

    async def _settle_refusal(self, group: Group, refused: Decision) -> Sequence[Item]:
        (outcome,) = await self._appender.append(self._partition, [refused.append])
        if isinstance(outcome, ServiceError):
            group.refuse(self._error(refused.pending, outcome))
            return ()
        if outcome is None or outcome.answer is not Verdict.APPENDED:
            self._forget(refused)
            return self._again([group])
        self._cache.move_mark(self._partition, outcome.commit)
        assert refused.refusal is not None
        self._refuse_group(group, refused.pending, self._error(refused.pending, refused.refusal, outcome))
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


def _named(pending: Pending, desk: Desk) -> dict[StreamKey, None]:
    """Return the streams that a command names; none where asking fails, as it will again in its turn."""
    try:
        return {(pending.tenant, stream): None for stream in desk.named_streams(pending)}
    except Exception:
        return {}


def _further(pending: Pending, desk: Desk, speculation: Speculation) -> dict[StreamKey, None]:
    """Return what a command lacks besides, in the light of what is loaded; a guess until its turn comes."""
    try:
        desk.look(pending, speculation)
    except Missing as lacking:
        return dict.fromkeys(lacking.keys)
    except Exception:
        return {}
    return {}
