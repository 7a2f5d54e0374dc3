"""
What a decider is: pure rules over the states of streams. Nothing here awaits, reads a clock or draws a number.

There is one decider for each collection of streams. It folds that collection's events into states and decides
the collection's commands, which may look at, and add to, streams of other collections too. Every stream that
a decision looked at is expected to be unchanged when its events are appended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from schemas import Command, Event

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Context:
    """What a rule may know besides the past: its time and its caller."""

    now: datetime
    """When the decision is made, UTC."""
    occurred_at: datetime
    """When it happened for the business, UTC: `now` unless the request says otherwise."""
    actor: str = ""
    is_system: bool = False
    reason: str | None = None
    """What the request gives as its reason."""


class To(NamedTuple):
    """An event for another stream than the command's own."""

    stream: str
    event: Event


class States(Mapping[str, Any]):
    """
    The states that a decision looks at, by stream. A stream that does not exist has its decider's initial state.

    Asking for a stream that the decider did not name is a fault of the rule: KeyError.
    """

    __slots__ = ("_states", "_versions")

    def __init__(self, states: Mapping[str, Any], versions: Mapping[str, int]) -> None:
        self._states, self._versions = states, versions

    def __getitem__(self, stream: str) -> Any:
        return self._states[stream]

    def __iter__(self) -> Any:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def version(self, stream: str) -> int:
        """Return the number of events in a stream; 0 means that it does not exist."""
        return self._versions[stream]


class Decider(Generic[State]):
    """
    The rules of one collection of streams.

    Subclasses set `collection` (the first part of the streams' names) and `initial`, and write `evolve`; those
    that have commands write `decide` too.
    """

    abstract: ClassVar[bool] = True
    collection: ClassVar[str]
    initial: Any
    version: ClassVar[int] = 1
    """Raise it when `evolve` or the state's shape changes, so that saved states are not read as new ones."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.abstract = not hasattr(cls, "collection")

    def streams(self, command: Any) -> Sequence[str]:
        """Name the streams, besides the command's own, that the command's fields tell the decision needs."""
        return ()

    def further_streams(self, command: Any, states: States) -> Sequence[str]:
        """
        Name what else is needed in the light of what is known; asked again until it names nothing new.

        For example the streams of the things that the main stream's state lists.
        """
        return ()

    def decide(self, command: Any, states: States, context: Context) -> Sequence[Event | To]:
        """
        Return the events that follow from a command: plain ones go to `command.stream`.

        No events: the command changes nothing, and that is a success.

        Raises:
            Rejection: A rule says no.
            NotFound: What the command is about does not exist.
        """
        raise LookupError(f"{type(self).__name__} decides no commands, not {type(command).__name__}")

    def evolve(self, state: State, event: Any) -> State:
        """Add one fact to the state. Facts aren't argued with, so this never refuses."""
        return state


class Rules:
    """The deciders of the loaded domains, by collection."""

    def __init__(self, deciders: Sequence[Decider[Any]]) -> None:
        self._by_collection = {decider.collection: decider for decider in deciders}

    def __getitem__(self, collection: str) -> Decider[Any]:
        return self._by_collection[collection]

    def of_stream(self, stream: str) -> Decider[Any]:
        """Return the decider that folds a stream."""
        return self._by_collection[stream.partition("/")[0]]

    def of(self, command: Command) -> Decider[Any]:
        """Return the decider that decides a command."""
        return self._by_collection[command.collection]
