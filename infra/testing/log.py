"""
A log in memory, and what a test gives it: the facts of the past.

The parts under test stand above this package, so they are known here by what they can do, not by their classes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from schemas.messages import Command, Event

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
"""When everything happens, unless a test says otherwise."""
TENANT = "test"
FURTHER_ROUNDS_MAX = 8

Fact = Event | Command | tuple[str, Event]


class DeciderLike(Protocol):
    """What is tested as a decider."""

    @property
    def collection(self) -> Any: ...

    @property
    def initial(self) -> Any: ...

    @property
    def streams(self) -> Any: ...

    @property
    def further_streams(self) -> Any: ...

    @property
    def decide(self) -> Any: ...

    @property
    def evolve(self) -> Any: ...

    @property
    def by_tag(self) -> Any: ...

    @property
    def evolve_tagged(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Moment:
    """What a rule may know besides the past."""

    now: datetime = NOON
    occurred_at: datetime = NOON
    actor: str = "tester"
    is_system: bool = False
    reason: str | None = None


class StreamAt(NamedTuple):
    """Where an event stands: what folds and reactions are told of it."""

    tenant: str
    name: str
    version: int
    position: int
    event_id: str
    recorded_at: datetime
    occurred_at: datetime

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids in the stream's name."""
        return tuple(self.name.split("/")[1:])


class Known(Mapping[str, Any]):
    """The states that a decision looks at; asking for another is a fault of the rule."""

    def __init__(self, states: dict[str, Any], versions: dict[str, int]) -> None:
        self._states, self._versions = states, versions

    def __getitem__(self, stream: str) -> Any:
        return self._states[stream]

    def __iter__(self) -> Iterator[str]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def version(self, stream: str) -> int:
        """Return the number of events in a stream."""
        return self._versions[stream]


class Recorded(NamedTuple):
    """An event on the log in memory."""

    stream: str
    version: int
    event: Event
    moment: Moment


class Log:
    """Streams in memory, one order over all of them, and the rules that add to them."""

    def __init__(self, deciders: Iterable[DeciderLike] = ()) -> None:
        self.deciders = {decider.collection: decider for decider in deciders}
        self.events: list[Recorded] = []
        self.states: dict[str, Any] = {}
        self.versions: dict[str, int] = {}

    def append(self, stream: str, event: Event, moment: Moment, tags: Sequence[str] = ()) -> StreamAt:
        """Add an event."""
        version = self.versions[stream] = self.versions.get(stream, 0) + 1
        self.events.append(Recorded(stream, version, event, moment))
        decider = self.deciders.get(stream.partition("/")[0])
        if decider is not None:
            self.states[stream] = decider.evolve(self.state(stream), event)
        position = len(self.events)
        for tag in tags:
            folding = self.deciders.get(tag.partition("/")[0])
            if folding is not None and folding.by_tag:
                self.states[tag] = folding.evolve_tagged(self.state(tag), stream, event)
                self.versions[tag] = position
        return StreamAt(
            TENANT, stream, version, position, f"event-{position}", moment.now, moment.occurred_at
        )

    def state(self, stream: str) -> Any:
        """Return a stream's state."""
        if stream in self.states:
            return self.states[stream]
        collection = stream.partition("/")[0]
        if collection not in self.deciders:
            raise LookupError(f"{stream}: none of the deciders given has the collection {collection}")
        return self.deciders[collection].initial

    def decide(self, command: Command, moment: Moment) -> list[tuple[str, Event, Sequence[str]]]:
        """Return what follows from a command, with each event's stream and tags; nothing is added."""
        if command.collection not in self.deciders:
            raise LookupError(f"{command.command_name}: none of the deciders given has the collection")
        decider = self.deciders[command.collection]
        named = dict.fromkeys((command.stream, *decider.streams(command)))
        for _ in range(FURTHER_ROUNDS_MAX):
            states = Known(
                {name: self.state(name) for name in named},
                {name: self.versions.get(name, 0) for name in named},
            )
            more = [name for name in decider.further_streams(command, states) if name not in named]
            if not more:
                break
            named |= dict.fromkeys(more)
        else:
            raise LookupError(f"{command.command_name} names further streams for ever")
        results = decider.decide(command, states, moment)
        placed = [(command.stream, each, ()) if isinstance(each, Event) else tuple(each) for each in results]
        for stream, *_ in placed:
            assert stream in named, f"{command.command_name} adds to {stream}, which it did not name"
        return placed

    def carry_out(self, command: Command, moment: Moment) -> list[tuple[str, Event]]:
        """Add what follows from a command, and return it."""
        events = self.decide(command, moment)
        for stream, event, tags in events:
            assert not event.is_past, f"{type(event).__name__} is read as something else today: decide that"
            self.append(stream, event, moment, tags)
        return [(stream, event) for stream, event, _ in events]


class Past:
    """Facts in the order in which they are given; bare events wait for the command that names their stream."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self._bare: list[Event] = []

    def add(self, facts: Iterable[Fact], moment: Moment) -> None:
        """Take up facts."""
        for fact in facts:
            if isinstance(fact, Event):
                self._bare.append(fact)
            elif isinstance(fact, Command):
                self.settle(fact.stream, moment)
                self.log.carry_out(fact, moment)
            else:
                self.log.append(fact[0], fact[1], moment)

    def settle(self, stream: str, moment: Moment) -> None:
        """Put the bare events where they belong."""
        for event in self._bare:
            self.log.append(stream, event, moment)
        self._bare.clear()

    def refuse_bare(self) -> None:
        """Refuse events without a stream where no command comes that could name it."""
        if self._bare:
            raise TypeError(f"give the streams too, as (stream, event): {self._bare}")
