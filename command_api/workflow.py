"""
What a workflow is: pure reactions to events, which send commands, set timers, tell others, and learn the outcomes.

A reaction is a generator. It yields a list of steps and is sent the list of their outcomes; what it yields
next may rest on them. The runner (`workflow_runner.py`) advances the reactions of a whole feed batch together, so
a thousand waiting orders cost a few round trips. A crash runs a reaction again from its start: each command
carries an idempotency key derived from (workflow, event, step), so its effect happens once and its first answer
comes back. So a reaction must be deterministic in the event, its state, and the outcomes.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, NamedTuple, TypeVar

from schemas import Command, Event, Notice
from schemas.errors import BadDefinition, ServiceError
from schemas.personal import personal_fields


@dataclass(frozen=True, slots=True)
class Send:
    """A command, sent as the workflow. Its outcome is an `Outcome`."""

    command: Command
    occurred_at: datetime | None = None
    """When it happened for the business; the triggering event's own unless given."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A command to be sent later, late rather than early, once. The same key again replaces it."""

    key: str
    at: datetime
    command: Command


@dataclass(frozen=True, slots=True)
class Unschedule:
    """Forget a scheduled command, if it is still there."""

    key: str


@dataclass(frozen=True, slots=True)
class Tell:
    """
    A message to the outside world, delivered at least once, always with the same de-duplication key.

    It leaves once the reaction has ended and its page is committed; what becomes of it is not told to the workflow.
    """

    notice: Notice


@dataclass(frozen=True, slots=True)
class Read:
    """The events of a stream, of the types given (all when empty). Its outcome is an `Outcome`."""

    stream: str
    types: tuple[str, ...] = ()
    until: int | None = None
    """The last position that counts; None: all that there is when the step is taken."""


class Outcome(NamedTuple):
    """What became of one step: the events of an accepted command (or of a `Read`), or the error of a refused one."""

    events: Sequence[Event] = ()
    error: ServiceError | None = None

    @property
    def accepted(self) -> bool:
        """Whether the command was accepted, also when it changed nothing."""
        return self.error is None


Step = Send | Schedule | Unschedule | Tell | Read
Reaction = Generator[Sequence[Step], Sequence[Outcome], None]


class Trigger(NamedTuple):
    """The event that a reaction answers, with its surroundings."""

    event: Any
    stream: str
    version: int
    position: int
    recorded_at: datetime
    occurred_at: datetime
    now: datetime
    """When the workflow took it up, by the database's clock: what waiting times are counted from (UTC). A reaction
    that runs again after a crash has a later one, so no `Send` may be made of it."""
    tenant: str = ""

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids in the stream's name."""
        return tuple(self.stream.split("/")[1:])


Handler = TypeVar("Handler", bound=Callable[..., Reaction])


def on(*events: type[Event]) -> Callable[[Handler], Handler]:
    """Mark a method as the reaction to some events: `def placed(self, trigger: Trigger) -> Reaction`."""

    def mark(function: Handler) -> Handler:
        function.__everfold_on__ = events  # type: ignore[attr-defined]  # a mark on the function itself
        return function

    return mark


class Workflow:
    """
    A process manager: what should follow from events, across streams and time.

    `commands` lists what it may send, `notices` what it may tell: the runner refuses anything else. `key` names what
    must be handled one after the other: reactions with the same key run in order, others side by side.
    """

    abstract: ClassVar[bool] = True
    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised with a fix: what could not be reacted to under a lower version is taken up again by itself."""
    commands: ClassVar[tuple[type[Command], ...]] = ()
    notices: ClassVar[tuple[type[Notice], ...]] = ()
    since_beginning: ClassVar[bool] = False
    """Whether it begins with the log's first event also when it joins a domain whose workflows have run before;
    by default it then begins at the head, so as not to act on all of history."""
    reactions: ClassVar[dict[str, str]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.abstract = "name" not in vars(cls)
        cls.reactions = {
            event.type: name
            for name in dir(cls)
            for event in getattr(getattr(cls, name, None), "__everfold_on__", ())
        }
        for notice in cls.notices:
            if not (notice.channel and notice.type):
                raise BadDefinition(notice.__name__, "is told to nobody: give it a channel and a type")
            if personal_fields(notice) is not None:
                raise BadDefinition(
                    notice.__name__, "has personal fields, and what has left cannot be erased"
                )

    @classmethod
    def from_environment(cls, environment: Any) -> "Workflow":
        """Make the workflow with its settings from `EVERFOLD_…` variables (a mapping of names to texts)."""
        return cls()

    def key(self, trigger: Trigger) -> str:
        """Return what the event is about: reactions of one key run in order. By default its stream."""
        return trigger.stream

    def react(self, trigger: Trigger) -> Reaction | Iterable[Step] | None:
        """Return the reaction to an event that `reactions` names: a generator, or the steps of its only round."""
        reaction: Reaction | Iterable[Step] | None = getattr(self, self.reactions[trigger.event.type])(
            trigger
        )
        return reaction
