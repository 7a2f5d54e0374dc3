"""
What a decider is: pure rules over the states of streams. Nothing here awaits, reads a clock or draws a number.

There is one decider for each collection of streams. It folds that collection's events into states and decides
the collection's commands, which may look at, and add to, streams of other collections too. Every stream that
a decision looked at is expected to be unchanged when its events are appended.

Where a rule is about events that are spread over many streams, there is a decider `by_tag` instead: its names are
not those of streams but tags, and its states are folded from the events that carry the tag, in whatever stream (a
dynamic consistency boundary). A decision that looked at one expects that no such event was added since.
"""

from collections.abc import Iterator, Mapping, Sequence
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
    """An event for another stream than the command's own, or with tags."""

    stream: str
    event: Event
    tags: Sequence[str] = ()
    """By what it is found besides its stream; a `by_tag` decider folds those that begin with its collection."""


class States(Mapping[str, Any]):
    """
    The states that a decision looks at, by stream or tag. What does not exist has its decider's initial state.

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
        """Return the number of events in a stream, or the position of a tag's last; 0 means that there is none."""
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
    by_tag: ClassVar[bool] = False
    """Whether its names are tags, and `evolve_tagged` folds the events that carry them. It has no commands then."""
    saves_states: ClassVar[bool] = True
    """False: its states are never saved, and may be of types that cannot be."""

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

    def evolve_tagged(self, state: State, stream: str, event: Any) -> State:
        """Add one fact of some stream, which carries the tag, to the state of a tag."""
        return state


class Rules:
    """The deciders of the loaded domains, by collection."""

    def __init__(self, deciders: Sequence[Decider[Any]]) -> None:
        self._by_collection = {decider.collection: decider for decider in deciders}
        self._tagged = {decider.collection for decider in deciders if decider.by_tag}

    @property
    def has_tags(self) -> bool:
        """Whether any decider folds by tag."""
        return bool(self._tagged)

    def is_tag(self, name: str) -> bool:
        """Say whether a name is a tag that is folded, and not that of a stream."""
        return name.partition("/")[0] in self._tagged

    def __iter__(self) -> Iterator[Decider[Any]]:
        return iter(self._by_collection.values())

    def __getitem__(self, collection: str) -> Decider[Any]:
        return self._by_collection[collection]

    def of_stream(self, stream: str) -> Decider[Any]:
        """Return the decider that folds a stream, or what carries a tag."""
        return self._by_collection[stream.partition("/")[0]]

    def of(self, command: Command) -> Decider[Any]:
        """Return the decider that decides a command."""
        return self._by_collection[command.collection]
