"""Tests of workflows: which steps a reaction takes, with the outcomes that rules, or the test, give."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from typing import Any, Protocol

from infra.testing.log import TENANT, Log, Moment, Past
from schemas.errors import ServiceError
from schemas.messages import Command, Event

ROUNDS_MAX = 100


class WorkflowLike(Protocol):
    """What is tested as a workflow."""

    @property
    def reactions(self) -> Any: ...

    @property
    def commands(self) -> Any: ...

    @property
    def react(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class TriggerAt:
    """The event that a reaction answers, with its surroundings."""

    event: Event
    stream: str
    version: int
    position: int
    recorded_at: datetime
    occurred_at: datetime
    now: datetime
    tenant: str = TENANT

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids in the stream's name."""
        return tuple(self.stream.split("/")[1:])


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one step of a workflow."""

    events: Sequence[Event] = ()
    error: ServiceError | None = None

    @property
    def accepted(self) -> bool:
        """Whether the command was accepted."""
        return self.error is None


@dataclass(slots=True)
class GivenWorkflow:
    """
    A workflow and what has happened.

    Its commands are decided by the deciders given; where there is none for a command, `answering` says what
    becomes of it, and it is accepted without events otherwise.
    """

    workflow: WorkflowLike
    log: Log
    past: Past
    moment: Moment
    answers: dict[type[Command], Sequence[Event] | ServiceError] = field(default_factory=dict)

    def answering(self, command: type[Command], answer: Sequence[Event] | ServiceError) -> "GivenWorkflow":
        """Say what becomes of each command of a type: its events, or its refusal."""
        self.answers[command] = answer
        return self

    def when(
        self, stream: str, event: Event, *, now: datetime | None = None, occurred_at: datetime | None = None
    ) -> "Reacted":
        """Let an event happen, and the workflow react to it to the end."""
        moment = Moment(now or self.moment.now, occurred_at or self.moment.occurred_at, is_system=True)
        self.past.settle(stream, moment)
        at = self.log.append(stream, event, moment)
        trigger = TriggerAt(
            event, stream, at.version, at.position, at.recorded_at, at.occurred_at, moment.now
        )
        if event.type not in self.workflow.reactions:
            return Reacted(self, [])
        return Reacted(self, self._run(self.workflow.react(trigger), moment))

    def _run(self, reaction: Any, moment: Moment) -> list[list[Any]]:
        rounds: list[list[Any]] = []
        if not isinstance(reaction, Generator):
            return [list(steps) for steps in reaction]
        answers: list[Answer] | None = None
        while len(rounds) < ROUNDS_MAX:
            try:
                steps = list(reaction.send(answers) if answers is not None else next(reaction))
            except StopIteration:
                return rounds
            rounds.append(steps)
            answers = [self._answer(step, moment) for step in steps]
        raise AssertionError(f"no end after {ROUNDS_MAX} rounds: {rounds[-1]}")

    def _answer(self, step: Any, moment: Moment) -> Answer:
        if hasattr(step, "at") or not (hasattr(step, "command") or hasattr(step, "types")):
            return Answer()
        if hasattr(step, "types"):
            return Answer(
                [
                    recorded.event
                    for recorded in self.log.events
                    if recorded.stream == step.stream
                    and (not step.types or recorded.event.type in step.types)
                ]
            )
        command: Command = step.command
        assert isinstance(command, self.workflow.commands), (
            f"the workflow may not send {command.command_name}"
        )
        if type(command) in self.answers:
            answer = self.answers[type(command)]
            return Answer(error=answer) if isinstance(answer, ServiceError) else Answer(answer)
        if command.collection not in self.log.deciders:
            return Answer()
        sent = Moment(moment.now, step.occurred_at or moment.occurred_at, is_system=True)
        try:
            return Answer([event for _, event in self.log.carry_out(command, sent)])
        except ServiceError as refusal:
            return Answer(error=refusal)


@dataclass(slots=True)
class Reacted:
    """What a workflow did about an event, round by round."""

    given: GivenWorkflow
    rounds: list[list[Any]]

    @property
    def steps(self) -> list[Any]:
        """All steps, in order."""
        return [step for steps in self.rounds for step in steps]

    @property
    def sent(self) -> list[Command]:
        """The commands that were sent at once, in order."""
        return [step.command for step in self._sends()]

    def then(self, *expected: Any) -> "Reacted":
        """Check that just these steps were taken; a bare command stands for its being sent."""
        bare = {id(step): step.command for step in self._sends()}
        said = [
            bare.get(id(step), step) if isinstance(wanted, Command) else step
            for step, wanted in zip_longest(self.steps, expected)
        ]
        assert said == list(expected), f"the steps are {self.steps}, not {list(expected)}"
        return self

    def _sends(self) -> list[Any]:
        return [step for step in self.steps if hasattr(step, "command") and not hasattr(step, "at")]

    def then_nothing(self) -> "Reacted":
        """Check that the workflow did nothing."""
        return self.then()

    def when(self, stream: str, event: Event, **moment: Any) -> "Reacted":
        """Let a further event happen."""
        return self.given.when(stream, event, **moment)

    def state(self, stream: str) -> Any:
        """Return a stream's state now."""
        return self.given.log.state(stream)
