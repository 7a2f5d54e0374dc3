"""
Advances many reactions side by side, so that a page of a thousand waiting orders costs a few round trips.

In each round all that the running reactions have yielded is carried out together, and every reaction is sent its
outcomes. Reactions of one key run one after the other, in the order of their events. One that raises is set aside
with its error, and every later one of its key with it; the others go on. No I/O here: `Carrier` does it.
"""

from collections import defaultdict, deque
from collections.abc import Generator, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, cast

from command_api.workflow import Outcome, Reaction, Schedule, Send, Step, Tell, Trigger, Unschedule, Workflow
from schemas import Notice
from schemas.envelope import Metadata, RecordedEvent
from schemas.errors import BadDefinition, ServiceError

STEPS_MAX = 1_000_000
"""More than this is a reaction that never ends."""
LEFT_FOR_COMMIT = (Schedule, Unschedule, Tell)
"""Steps that are only written, in the transaction that moves the checkpoint."""


class Cause(NamedTuple):
    """The event that a reaction answers, as the log has it: what the commands of the reaction are caused by."""

    recorded: RecordedEvent
    metadata: Metadata
    part: int = 0
    """Which of the events, where an old one was split into several."""

    def step_key(self, step: int) -> str:
        """Name one step of the reaction, the same whenever it runs again."""
        return f"{self.recorded.id}/{self.part}/{step}"


class Take(NamedTuple):
    """An event that a workflow takes up."""

    cause: Cause
    trigger: Trigger


class Request(NamedTuple):
    """One step to be carried out: a command or a read."""

    cause: Cause
    trigger: Trigger
    number: int
    """The step's number in its reaction."""
    step: Step


class Fault(NamedTuple):
    """A step that could not be carried out for a reason that is no answer: its reaction is set aside."""

    error: ServiceError


class Carrier(Protocol):
    """Carries out commands and reads."""

    async def carry(self, requests: Sequence[Request]) -> Sequence[Outcome | Fault]:
        """
        Return the outcomes of steps, in their order.

        Raises:
            Unavailable: Not all could be carried out; the page is to be taken again.
        """
        ...


class Timer(NamedTuple):
    """A scheduled command, with what it was caused by."""

    schedule: Schedule
    cause: Cause
    number: int


class Message(NamedTuple):
    """What the outside world is to be told, with what it was caused by."""

    notice: Notice
    cause: Cause
    number: int


@dataclass(frozen=True, slots=True)
class SetAside:
    """An event whose reaction failed, or that waits behind one of its key: then there is no error."""

    take: Take
    key: str
    error: Exception | None


@dataclass(slots=True)
class Effects:
    """What is to be written in the transaction that moves the checkpoint."""

    timers: dict[tuple[str, str], Timer | None] = field(default_factory=dict)
    """By tenant and key; None: to be forgotten."""
    messages: list[Message] = field(default_factory=list)
    """Of reactions that have ended; one that failed has told nothing yet."""
    set_aside: list[SetAside] = field(default_factory=list)
    done: list[Take] = field(default_factory=list)

    @property
    def leaves_something(self) -> bool:
        """Whether anything is to be written."""
        return bool(self.timers or self.messages or self.set_aside)


@dataclass(slots=True)
class _Running:
    take: Take
    key: str
    reaction: Reaction
    steps: Sequence[Step] = ()
    first: int = 0
    """The number of the first of `steps` in the reaction."""
    messages: Sequence[Message] = ()


class Rounds:
    """The reactions to some events, in order, carried through to their ends."""

    def __init__(self, workflow: Workflow, carrier: Carrier, *, held: Set[tuple[str, str]]) -> None:
        """`held` has the tenants and keys of which earlier events are set aside already."""
        self._workflow = workflow
        self._carrier = carrier
        self._held = set(held)
        self._commands = workflow.commands
        self._effects = Effects()
        self._waiting: dict[tuple[str, str], deque[Take]] = {}
        self._running: list[_Running] = []

    async def run(self, takes: Sequence[Take]) -> Effects:
        """Take up events, in order of position, and return what is left to write."""
        self._queue(takes)
        for place in list(self._waiting):
            self._start_next(place)
        while self._running:
            await self._round()
        return self._effects

    # -- who runs -----------------------------------------------------------------------------------------

    def _queue(self, takes: Sequence[Take]) -> None:
        by_place: dict[tuple[str, str], deque[Take]] = defaultdict(deque)
        for take in takes:
            place = take.trigger.tenant, self._workflow.key(take.trigger)
            if place in self._held:
                self._effects.set_aside.append(SetAside(take, place[1], None))
            else:
                by_place[place].append(take)
        self._waiting = dict(by_place)

    def _start_next(self, place: tuple[str, str]) -> None:
        """Start the next reaction of a key that has something to carry out."""
        queue = self._waiting[place]
        while queue:
            take = queue.popleft()
            try:
                reaction = self._workflow.react(take.trigger)
            except Exception as error:
                self._set_aside(take, place, error)
                return
            running = _Running(take, place[1], _reaction_of(reaction))
            if self._advance(running, None):
                self._running.append(running)
                return

    def _advance(self, running: _Running, outcomes: Sequence[Outcome] | None) -> bool:
        """Send outcomes in; say whether the reaction goes on."""
        try:
            running.first += len(running.steps)
            running.steps = ()
            running.steps = tuple(running.reaction.send(outcomes))  # type: ignore[arg-type]  # None starts it
            self._refuse_undeclared(running)
        except StopIteration:
            self._effects.done.append(running.take)
            self._effects.messages.extend(running.messages)
            return False
        except Exception as error:
            self._end(running, error)
            return False
        return True

    def _end(self, running: _Running, error: Exception) -> None:
        running.reaction.close()
        self._set_aside(running.take, (running.take.trigger.tenant, running.key), error)

    def _set_aside(self, take: Take, place: tuple[str, str], error: Exception) -> None:
        self._effects.set_aside.append(SetAside(take, place[1], error))
        queue = self._waiting[place]
        self._effects.set_aside.extend(SetAside(later, place[1], None) for later in queue)
        queue.clear()

    def _refuse_undeclared(self, running: _Running) -> None:
        for step in running.steps:
            if isinstance(step, Tell):
                if not isinstance(step.notice, self._workflow.notices):
                    raise BadDefinition(
                        f"workflow {self._workflow.name}",
                        f"does not declare {type(step.notice).__name__} in `notices`",
                    )
            elif isinstance(step, (Send, Schedule)) and not isinstance(step.command, self._commands):
                raise BadDefinition(
                    f"workflow {self._workflow.name}",
                    f"does not declare {step.command.command_name} in `commands`",
                )
        if running.first > STEPS_MAX:
            raise BadDefinition(
                f"workflow {self._workflow.name}", f"has a reaction of more than {STEPS_MAX} steps"
            )

    # -- a round ------------------------------------------------------------------------------------------

    async def _round(self) -> None:
        requests = [
            Request(running.take.cause, running.take.trigger, number, step)
            for running in self._running
            for number, step in enumerate(running.steps, running.first)
            if not isinstance(step, LEFT_FOR_COMMIT)
        ]
        outcomes = iter(await self._carrier.carry(requests) if requests else ())
        turn, self._running = self._running, []
        for running in turn:
            told = list(self._outcomes(running, outcomes))
            fault = next((outcome for outcome in told if isinstance(outcome, Fault)), None)
            if fault is not None:
                self._end(running, fault.error)
            elif self._advance(running, cast(list[Outcome], told)):
                self._running.append(running)
            else:
                self._start_next((running.take.trigger.tenant, running.key))

    def _outcomes(self, running: _Running, outcomes: Iterator[Outcome | Fault]) -> Iterator[Outcome | Fault]:
        tenant = running.take.trigger.tenant
        for number, step in enumerate(running.steps, running.first):
            if isinstance(step, Schedule):
                self._effects.timers[tenant, step.key] = Timer(step, running.take.cause, number)
                yield Outcome()
            elif isinstance(step, Unschedule):
                self._effects.timers[tenant, step.key] = None
                yield Outcome()
            elif isinstance(step, Tell):
                running.messages = (*running.messages, Message(step.notice, running.take.cause, number))
                yield Outcome()
            else:
                yield next(outcomes)


def _reaction_of(result: Reaction | Iterable[Step] | None) -> Reaction:
    """Return what a reaction's method gave as a generator; a plain list of steps is one round."""
    if isinstance(result, Generator):
        return result
    return _one_round(tuple(result or ()))


def _one_round(steps: Sequence[Step]) -> Reaction:
    if steps:
        yield steps
