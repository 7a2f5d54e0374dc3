"""
The only write path: commands wait in queues, one worker for each partition carries them out in batches.

A worker owns its run from taking a batch to the last answer. Between finding its queues empty and waiting
there is no await, so no wake-up is lost; and whatever goes wrong in a batch, each of its commands is answered.
"""

import asyncio
from collections.abc import Sequence
from contextvars import Context, copy_context
from datetime import UTC, datetime
from itertools import zip_longest

from command_api.batch import BatchRunner, Sent
from command_api.decider import Rules
from command_api.deciding import Desk
from command_api.drafting import Clock, Draft, Drafter
from command_api.first_answers import FirstAnswers
from command_api.loading import StateLoader
from command_api.outcomes import SETTLE_SECONDS_MAX, Appender
from command_api.pending import Group, Pending, Ticket
from command_api.queue import TENANT_COMMANDS_MAX, Item, TenantQueues, commands_of
from command_api.requests import Answer, CommandRequest
from command_api.saved_states import EVENTS_BETWEEN, StateForms, StateSaver
from command_api.settling import Settler
from command_api.state_cache import StateCache
from event_store.log import EventLog
from event_store.sealing import Sealer
from infra.telemetry import log
from schemas.errors import OutcomeUnknown, Overloaded, ServiceError
from schemas.personal import find_personal
from schemas.registry import Registry

BATCH_COMMANDS_MAX = 256
BATCH_BYTES_MAX = 8 * 1024 * 1024
DRAFTED_TOGETHER = 8
"""While an append is under way commands are decided some at a time, which costs less than one by one."""
DRAIN_SECONDS_MAX = 5.0


def utc_now() -> datetime:
    """Return the time; the one place where the write side reads a clock."""
    return datetime.now(UTC)


class Pipeline:
    """Carries out commands: load, decide, append, in batches."""

    def __init__(
        self,
        event_log: EventLog,
        rules: Rules,
        registry: Registry,
        *,
        sealer: Sealer | None = None,
        clock: Clock = utc_now,
        batch_commands_max: int = BATCH_COMMANDS_MAX,
        tenant_commands_max: int = TENANT_COMMANDS_MAX,
        settle_seconds_max: float = SETTLE_SECONDS_MAX,
        events_between_saves: int = EVENTS_BETWEEN,
    ) -> None:
        """
        Make a pipeline.

        `sealer` is what `event_log` seals personal fields with, if it does; see event_store/sealed_log.py.

        Raises:
            BadDefinition: A decider's states cannot be saved.
        """
        self._log, self._rules = event_log, rules
        self._sealer, self._personal = sealer, registry.personal_commands
        self._cache = StateCache()
        forms = StateForms(rules)
        self._saver = StateSaver(event_log, forms, events_between=events_between_saves)
        self._loader = StateLoader(event_log, rules, registry, self._cache, forms, self._saver)
        self._appender = Appender(event_log, self._cache, settle_seconds_max=settle_seconds_max)
        self._first_answers = FirstAnswers(event_log, registry)
        self._clock = clock
        self._batch_commands_max, self._tenant_commands_max = batch_commands_max, tenant_commands_max
        self._workers: dict[int, Worker] = {}
        self._context = copy_context()
        self._closing = False

    async def submit(self, request: CommandRequest) -> Answer:
        """Carry out one command, and return what became of it."""
        ticket = Ticket(1)
        try:
            secret = await self._secret_for(request) if self._sealer is not None else None
        except ServiceError as error:
            return Answer(request.command.stream, error=error)
        pending = Pending(request, ticket, self._rules.of(request.command), secret)
        refused = await self._enqueue([pending])
        if refused is not None:
            return refused
        await ticket.done
        assert pending.answer is not None
        return pending.answer

    async def submit_many(
        self, requests: Sequence[CommandRequest], *, atomic: bool = False
    ) -> Sequence[Answer]:
        """
        Carry out one tenant's commands in order, and return what became of each.

        Atomic: all or none; the first error is everyone's answer then, and `culprit` says whose it is.
        """
        if not requests:
            return ()
        ticket = Ticket(len(requests))
        try:
            secrets = [await self._secret_for(request) for request in requests] if self._sealer else ()
        except ServiceError as error:
            return [Answer(request.command.stream, error=error) for request in requests]
        pendings = [
            Pending(request, ticket, self._rules.of(request.command), secret)
            for request, secret in zip_longest(requests, secrets)
        ]
        refused = await self._enqueue([Group(pendings, ticket)] if atomic else pendings)
        if refused is not None:
            return [refused] * len(requests)
        await ticket.done
        return [pending.answer for pending in pendings if pending.answer is not None]

    async def _secret_for(self, request: CommandRequest) -> bytes | None:
        """Return what a request's fingerprint is made with, where it could give personal data away."""
        if request.key is None or self._sealer is None:
            return None
        fields = self._personal.get(type(request.command))
        if fields is None or not find_personal(fields, request.command.model_dump_json()):
            return None
        return await self._sealer.ring.fingerprint_secret()

    async def _enqueue(self, items: Sequence[Item]) -> Answer | None:
        """Queue items of one tenant; an answer comes back at once when that cannot be."""
        try:
            partition = await self._log.partition_of(items[0].tenant)
            if self._closing:
                raise Overloaded
            self._worker(partition).offer(items)
        except ServiceError as error:
            stream = next(commands_of(items)).stream
            return Answer(stream, error=error)
        return None

    def _worker(self, partition: int) -> "Worker":
        worker = self._workers.get(partition)
        if worker is None:
            runner = BatchRunner(
                partition,
                Drafter(partition, self._loader, lambda now: Desk(self._rules, now), self._clock),
                self._appender,
                Settler(partition, self._cache, self._first_answers, self._saver),
                self._cache,
            )
            queues = TenantQueues(tenant_commands_max=self._tenant_commands_max)
            worker = Worker(runner, queues, self._batch_commands_max, self._context.copy())
            self._workers[partition] = worker
        return worker

    async def close(self, *, drain_seconds_max: float = DRAIN_SECONDS_MAX) -> None:
        """Take nothing more, finish what waits within a bound, and answer the rest all the same."""
        self._closing = True
        await asyncio.gather(*(worker.close(drain_seconds_max) for worker in self._workers.values()))
        await self._saver.close()


class Worker:
    """One partition's worker: it alone runs that partition's batches in this process."""

    def __init__(
        self, runner: BatchRunner, queues: TenantQueues, batch_commands_max: int, context: Context
    ) -> None:
        self._runner, self._queues, self._batch_commands_max = runner, queues, batch_commands_max
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._context = context
        self._draft: Draft | None = None
        self._under_way: tuple[Draft, asyncio.Task[Sent]] | None = None
        self._task = asyncio.create_task(self._work(), name="pipeline worker", context=context)

    def offer(self, items: Sequence[Item]) -> None:
        """
        Take in one tenant's items.

        Raises:
            Overloaded: They do not fit.
        """
        self._queues.offer(items)
        self._idle.clear()
        self._wake.set()

    async def _work(self) -> None:
        while True:
            draft = self._draft = self._runner.draft(self._under_way[0] if self._under_way else None)
            try:
                while await self._go_on(draft):
                    pass
                await self._hand_over(draft)
            except Exception as error:
                log.error("pipeline worker failed", exc_info=error)
                await self._give_up(ServiceError())

    async def _give_up(self, error: ServiceError) -> None:
        """Answer whatever is drafted or under way: what has been sent has an unknown outcome."""
        if self._under_way is not None:
            sent, task = self._under_way
            self._under_way = None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            _answer_all(sent, OutcomeUnknown())
        if self._draft is not None:
            _answer_all(self._draft, error)
            self._draft = None

    async def _go_on(self, draft: Draft) -> bool:
        """Bring the draft forward by what waits; False once it is time to send it."""
        self._wake.clear()
        if self._under_way is None:
            if await self._take(draft, alone=not draft):
                return True
            if draft:
                return False
            self._idle.set()
            await self._wake.wait()
        elif self._under_way[1].done():
            return not draft and await self._take(draft)
        elif len(self._queues) < DRAFTED_TOGETHER or not await self._take(draft):
            await self._wake.wait()
        return True

    async def _take(self, draft: Draft, *, alone: bool = False) -> bool:
        """Take the next of what waits into the draft, or carry it out by itself; False when nothing can be taken."""
        room = 0 if draft.is_full else self._batch_commands_max - len(draft)
        batch = self._queues.take(commands_max=room, bytes_max=BATCH_BYTES_MAX, alone=alone)
        if not batch:
            return False
        if batch[0].alone:
            left = await self._runner.run_alone(batch[0])
        else:
            left = await self._runner.extend(draft, [item for item in batch if isinstance(item, Pending)])
        self._queues.put_back(left)
        return True

    async def _hand_over(self, draft: Draft) -> None:
        """Send the draft on its way, unless it rested on what came to nothing; then answer what was under way."""
        if self._under_way is None:
            self._send(draft)
            return
        before, task = self._under_way
        sent = await task
        is_void = draft.rests_on(self._runner.undone(before, sent))
        self._under_way = None
        if is_void:
            self._queues.put_back([decision.pending for decision in draft.decisions])
        elif draft:
            self._send(draft)
        self._queues.put_back(await self._runner.settle(before, sent))

    def _send(self, draft: Draft) -> None:
        task = asyncio.create_task(self._runner.append(draft), name="pipeline append", context=self._context)
        task.add_done_callback(lambda _: self._wake.set())
        self._under_way, self._draft = (draft, task), None

    async def close(self, drain_seconds_max: float) -> None:
        """Finish what waits within a bound; what is left then is answered without having been tried."""
        try:
            async with asyncio.timeout(drain_seconds_max):
                await self._idle.wait()
        except TimeoutError:
            log.warning("commands left at the end", commands=len(self._queues))
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._give_up(Overloaded())
        for pending in commands_of(self._queues.drain()):
            pending.settle(Answer(pending.stream, error=Overloaded()))


def _answer_all(draft: Draft, error: ServiceError) -> None:
    for decision in draft.decisions:
        decision.pending.settle(Answer(decision.pending.stream, error=error))
