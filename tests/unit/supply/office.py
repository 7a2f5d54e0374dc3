"""
The workflows beside a story: they take up what people did, page by page, while people go on doing things.

Between any two commands somebody may do something else, and any round may be the last before a crash; then the
page is taken again, with the keys, the notes and the checkpoint that a real process would find.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from command_api.outgoing import message_id
from command_api.requests import Answer, CommandRequest
from command_api.supply.approval import ApprovalLimits
from command_api.supply.approval_deadline import Approval
from command_api.supply.expiry import Expiry
from command_api.supply.fulfilment import Fulfilment
from command_api.supply.recall import Recall
from command_api.workflow import Outcome, Trigger, Workflow
from command_api.workflow_carrier import PipelineCarrier
from command_api.workflow_rounds import Cause, Fault, Request, Rounds, Take, Timer
from event_store.log import EventLog
from infra.testing.log import TENANT, Moment, Recorded
from schemas import Command, Event, Notice
from schemas.envelope import Metadata, RecordedEvent
from schemas.errors import ServiceError
from schemas.registry import Registry
from tests.unit.supply.story import Story

APPROVAL_LIMIT = 90
PAGE_EVENTS_MAX = 12
QUIET_TURNS_MAX = 200
CRASH_CHANCE, MEANWHILE_CHANCE = 0.15, 0.2

PEOPLE = (
    *(Story.receive,) * 5,
    *(Story.place,) * 6,
    *(Story.ship,) * 3,
    *(Story.deliver,) * 2,
    *(Story.send_back,) * 2,
    *(Story.approve,) * 2,
    *(Story.cancel,) * 2,
    *(Story.quarantine,) * 2,
    *(Story.release,) * 2,
    Story.transfer,
    Story.adjust,
    Story.dispose,
    Story.issue,
    Story.close,
)


class Crash(Exception):
    """The process is gone."""


@dataclass
class Desk:
    """One workflow, with what it keeps."""

    workflow: Workflow
    position: int = 0
    notes: dict[str, bytes] = field(default_factory=dict)
    timers: dict[tuple[str, str], Timer] = field(default_factory=dict)
    told: list[tuple[str, Notice]] = field(default_factory=list)
    """What was told, with its de-duplication key."""

    async def note(self, answers: Sequence[tuple[int, str, bytes]]) -> None:
        """Keep what reactions are told."""
        self.notes |= {step: answer for _, step, answer in answers}


class Office:
    """A story with people and workflows."""

    def __init__(self, seed: int, registry: Registry) -> None:
        self.story = Story(seed)
        self.random = self.story.random
        self.registry = registry
        self.accepted: dict[tuple[str, str], Sequence[Event]] = {}
        self.crashes = 0
        self.is_wild = True
        fulfilment = Fulfilment(timedelta(hours=40), ApprovalLimits(APPROVAL_LIMIT))
        self.desks = [Desk(workflow) for workflow in (fulfilment, Approval(), Recall(), Expiry())]

    async def turn(self) -> None:
        """Let somebody do something."""
        if self.random.random() < 0.6:
            self.people()
        else:
            await self.work(self.random.choice(self.desks))

    def people(self) -> None:
        """Let time pass, and a person do something."""
        self.story.at += timedelta(hours=self.random.randint(0, 9))
        command = self.random.choice(PEOPLE)(self.story)
        if command is not None:
            self.story.carry_out(command)

    async def settle(self) -> None:
        """Let the workflows catch up while people rest."""
        self.is_wild = False
        for _ in range(QUIET_TURNS_MAX):
            behind = [desk for desk in self.desks if self.is_behind(desk)]
            if not behind:
                return
            for desk in behind:
                await self.work(desk)
        raise AssertionError("the workflows never come to rest")

    def is_behind(self, desk: Desk) -> bool:
        """Whether there is anything to be taken up, or due."""
        return desk.position < len(self.story.log.events) or bool(self._due(desk))

    # -- a page, or what is due -------------------------------------------------------------------------------

    async def work(self, desk: Desk) -> None:
        """Take up a page, and fire what is due when there is no more; a crash leaves it to be done again."""
        page = self.story.log.events[desk.position :][: self.random.randint(1, PAGE_EVENTS_MAX)]
        try:
            await self._take(desk, page)
            if desk.position == len(self.story.log.events):
                await self._fire(desk)
        except Crash:
            self.crashes += 1

    async def _take(self, desk: Desk, page: Sequence[Recorded]) -> None:
        takes = [
            self._taken(recorded, position)
            for position, recorded in enumerate(page, desk.position + 1)
            if recorded.event.type in desk.workflow.reactions
        ]
        carrier = PipelineCarrier(
            desk.workflow.name,
            0,
            Clerk(self),
            cast(EventLog, History(self)),
            self.registry,
            desk,
            desk.notes,
        )
        effects = await Rounds(desk.workflow, Crashing(self, carrier), held=frozenset()).run(takes)
        assert not effects.set_aside, effects.set_aside[0].error
        self.crash()
        for place, timer in effects.timers.items():
            desk.timers.pop(place, None)
            if timer is not None:
                desk.timers[place] = timer
        desk.told += [
            (message_id(desk.workflow.name, one.cause.step_key(one.number)), one.notice)
            for one in effects.messages
        ]
        desk.position += len(page)

    def _taken(self, recorded: Recorded, position: int) -> Take:
        moment = recorded.moment
        metadata = Metadata("people", (), "", moment.occurred_at, "c")
        event = self.recorded(recorded, position)
        trigger = Trigger(
            recorded.event, recorded.stream, recorded.version, position, moment.now, moment.occurred_at,
            self.story.at, TENANT,
        )  # fmt: skip
        return Take(Cause(event, metadata), trigger)

    @staticmethod
    def recorded(recorded: Recorded, position: int) -> RecordedEvent:
        """Return an event as the real log would have it."""
        return RecordedEvent(
            0, position, TENANT, recorded.stream, recorded.version, f"e{position}", recorded.event.type,
            recorded.event.schema_version, recorded.event.encode(), b"", recorded.moment.now,
        )  # fmt: skip

    def _due(self, desk: Desk) -> list[tuple[tuple[str, str], Timer]]:
        return [(place, timer) for place, timer in desk.timers.items() if timer.schedule.at <= self.story.at]

    async def _fire(self, desk: Desk) -> None:
        for place, timer in self._due(desk):
            key = timer.cause.step_key(timer.number)
            self.decide(desk.workflow.name, key, timer.schedule.command, timer.schedule.at)
            self.crash()
            del desk.timers[place]

    # -- what surrounds it ------------------------------------------------------------------------------------

    def crash(self) -> None:
        """Be a place where the process may end."""
        if self.is_wild and self.random.random() < CRASH_CHANCE:
            raise Crash

    def decide(self, workflow: str, key: str, command: Command, occurred_at: datetime) -> Answer:
        """Carry out a workflow's command, once for each key."""
        if self.is_wild and self.random.random() < MEANWHILE_CHANCE:
            self.people()
        if (workflow, key) in self.accepted:
            return Answer(command.stream, objects=self.accepted[workflow, key], replayed=True)
        moment = Moment(self.story.at, occurred_at, workflow, is_system=True)
        try:
            events = [event for _, event in self.story.log.carry_out(command, moment)]
        except ServiceError as error:
            return Answer(command.stream, error=error)
        self.accepted[workflow, key] = events
        return Answer(command.stream, objects=events)


@dataclass
class Clerk:
    """The pipeline, as far as workflows need it."""

    office: Office

    async def submit_many(self, requests: Sequence[CommandRequest]) -> Sequence[Answer]:
        """Carry out commands in order."""
        return [
            self.office.decide(
                request.principal.subject,
                str(request.key),
                request.command,
                request.occurred_at or self.office.story.at,
            )
            for request in requests
        ]


@dataclass
class History:
    """The log, as far as workflows read it."""

    office: Office

    async def head(self, partition: int) -> Any:
        """Return where it ends."""
        return SimpleNamespace(last_position=len(self.office.story.log.events))

    async def read_stream(
        self, tenant: str, stream: str, *, until_position: int, until_partition: int
    ) -> AsyncIterator[RecordedEvent]:
        """Return a stream's events."""
        for position, recorded in enumerate(self.office.story.log.events[:until_position], 1):
            if recorded.stream == stream:
                yield Office.recorded(recorded, position)


@dataclass
class Crashing:
    """Carries out steps, and may die before or after."""

    office: Office
    carrier: PipelineCarrier

    async def carry(self, requests: Sequence[Request]) -> Sequence[Outcome | Fault]:
        """Return the outcomes."""
        self.office.crash()
        outcomes = await self.carrier.carry(requests)
        self.office.crash()
        return outcomes
