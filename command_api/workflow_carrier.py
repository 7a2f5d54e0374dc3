"""
Carries out the steps of a round: commands through the pipeline, reads from the log, all of a round together.

A command that could not be carried out for now is sent again with the same key; when that does not help, the whole
page is taken again later, and the same keys bring the same answers.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from command_api.requests import Answer, CommandRequest
from command_api.workflow import Outcome, Read, Send
from command_api.workflow_answers import Notes, note_read, note_refusal, read_until, refusal_of
from command_api.workflow_rounds import Fault, Request
from command_api.workflow_steps import in_calls, is_passing, is_told, may_pass, outcome_of, request_of
from event_store.log import EventLog
from infra.failpoints import failpoint
from schemas import Event
from schemas.errors import ServiceError, StoreUnavailable
from schemas.registry import Registry

ATTEMPTS_MAX = 5
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.05, 1.0
CALLS_AT_ONCE_MAX = 2
"""Calls of the pipeline for one tenant: the next waits there while one is carried out, and no queue fills up."""
READS_AT_ONCE_MAX = 8


class Sender(Protocol):
    """The pipeline, as far as workflows need it."""

    async def submit_many(self, requests: Sequence[CommandRequest]) -> Sequence[Answer]:
        """Carry out one tenant's commands in order, and return what became of each."""
        ...


class Notebook(Protocol):
    """Keeps what reactions in progress are told."""

    async def note(self, answers: Sequence[tuple[int, str, bytes]]) -> None:
        """Keep answers, each with the position of its event and its step, before they are acted on."""
        ...


class PipelineCarrier:
    """Carries out one workflow's steps in one partition."""

    def __init__(
        self,
        workflow: str,
        partition: int,
        sender: Sender,
        event_log: EventLog,
        registry: Registry,
        notebook: Notebook,
        notes: Notes,
    ) -> None:
        self._workflow, self._partition = workflow, partition
        self._sender, self._log, self._registry = sender, event_log, registry
        self._notebook, self._notes = notebook, notes
        self.noted: set[int] = set()
        """The positions of events for whose reactions something was noted."""

    async def carry(self, requests: Sequence[Request]) -> Sequence[Outcome | Fault]:
        """Return the outcomes of steps, in their order."""
        outcomes: dict[int, Outcome | Fault] = {}
        fresh: list[tuple[int, str, bytes]] = []
        sends: list[int] = []
        reads: list[int] = []
        for number, request in enumerate(requests):
            note = self._notes.get(request.cause.step_key(request.number))
            if isinstance(request.step, Read):
                reads.append(number)
            elif note is not None:
                outcomes[number] = Outcome(error=refusal_of(note))
            else:
                sends.append(number)
        failpoint("workflow.before_send")
        answers = await self._send([self._command(requests[number]) for number in sends])
        failpoint("workflow.after_send")
        for number, answer in zip(sends, answers, strict=True):
            outcomes[number] = outcome_of(answer) if is_told(answer.error) else Fault(_error(answer))
            if answer.error is not None and is_told(answer.error):
                fresh.append(_note(requests[number], note_refusal(answer.error)))
        if reads:
            fresh.extend(await self._read([(number, requests[number]) for number in reads], outcomes))
        if fresh:
            await self._notebook.note(fresh)
            self.noted.update(position for position, _, _ in fresh)
        return [outcomes[number] for number in range(len(requests))]

    # -- commands -----------------------------------------------------------------------------------------

    def _command(self, request: Request) -> CommandRequest:
        step = request.step
        assert isinstance(step, Send)
        return request_of(
            step.command,
            workflow=self._workflow,
            tenant=request.trigger.tenant,
            key=request.cause.step_key(request.number),
            occurred_at=step.occurred_at or request.trigger.occurred_at,
            causation_id=request.cause.recorded.id,
            correlation_id=request.cause.metadata.correlation_id,
            traceparent=request.cause.metadata.traceparent,
        )

    async def _send(self, commands: Sequence[CommandRequest]) -> Sequence[Answer]:
        """Send commands until each has an answer that says something about it."""
        answers: dict[int, Answer] = {}
        waiting = list(range(len(commands)))
        pause_seconds = PAUSE_SECONDS_MIN
        for attempt in range(1, ATTEMPTS_MAX + 1):
            answers.update(await self._send_once(commands, waiting))
            waiting = [number for number in waiting if may_pass(answers[number].error)]
            if not waiting or attempt == ATTEMPTS_MAX:
                break
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, PAUSE_SECONDS_MAX)
        for number in waiting:
            if is_passing(answers[number].error):
                raise _error(answers[number])
        return [answers[number] for number in range(len(commands))]

    async def _send_once(
        self, commands: Sequence[CommandRequest], numbers: Sequence[int]
    ) -> dict[int, Answer]:
        answers: dict[int, Answer] = {}
        windows: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(CALLS_AT_ONCE_MAX))

        async def send(call: Sequence[int]) -> None:
            requests = [commands[number] for number in call]
            async with windows[requests[0].tenant]:
                answers.update(zip(call, await self._sender.submit_many(requests), strict=True))

        calls = in_calls([commands[number] for number in numbers])
        await asyncio.gather(*(send([numbers[place] for place in call]) for call in calls))
        return answers

    # -- reads --------------------------------------------------------------------------------------------

    async def _read(
        self, reads: Sequence[tuple[int, Request]], outcomes: dict[int, Outcome | Fault]
    ) -> list[tuple[int, str, bytes]]:
        """Read streams up to a position, by default up to where they ended the first time; return new notes."""
        head = await self._log.head(self._partition)
        now = head.last_position if head else 0
        limit = asyncio.Semaphore(READS_AT_ONCE_MAX)
        fresh = []

        async def read(number: int, request: Request) -> None:
            assert isinstance(request.step, Read)
            until = request.step.until
            if until is None:
                note = self._notes.get(request.cause.step_key(request.number))
                until = now if note is None else read_until(note)
                if note is None:
                    fresh.append(_note(request, note_read(now)))
            async with limit:
                outcomes[number] = await self._read_one(request, until)

        await asyncio.gather(*(read(number, request) for number, request in reads))
        return fresh

    async def _read_one(self, request: Request, until: int) -> Outcome | Fault:
        step = request.step
        assert isinstance(step, Read)
        events: list[Event] = []
        try:
            async for recorded in self._log.read_stream(
                request.trigger.tenant, step.stream, until_position=until, until_partition=self._partition
            ):
                today = self._registry.today(recorded.type, recorded.schema_version)
                if not step.types or today is None or not today.isdisjoint(step.types):
                    facts = self._registry.decode(recorded.type, recorded.schema_version, recorded.data)
                    events.extend(fact for fact in facts if not step.types or fact.type in step.types)
        except StoreUnavailable:
            raise
        except ServiceError as error:
            return Fault(error)
        return Outcome(events)


def _note(request: Request, answer: bytes) -> tuple[int, str, bytes]:
    return request.cause.recorded.position, request.cause.step_key(request.number), answer


def _error(answer: Answer) -> ServiceError:
    assert answer.error is not None
    return answer.error
