"""
The chain that reads old versions of an event as the newest.

An upcast is a pure function from one version's class to the next; it stands beside the classes. The log is
never rewritten: stored bytes are validated by the class of the version they were written with, then cast. Its
annotations say what it reads and what it gives, so that a chain can be followed before anything is read.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Never, NoReturn, TypeGuard, TypeVar, get_args, get_origin, get_type_hints

from schemas.errors import BadDefinition
from schemas.messages import Event

Upcast = Callable[[Any], Any]
Function = TypeVar("Function", bound=Upcast)


def upcast(function: Function) -> Function:
    """
    Mark a function as the upcast of its parameter's event class.

    The parameter's annotation names the old class, the result's what it is read as: `-> OrderPlaced`. A list of events
    (`-> list[OrderPlaced | OrderNoted]`) is for an old fact that is several today; an empty one (`-> list[Never]`) for
    one that no longer counts.
    """
    function.__everfold_upcast__ = True  # type: ignore[attr-defined]  # a mark on the function itself
    return function


@dataclass(frozen=True)
class Step:
    """One upcast: what it reads, and what it may give."""

    function: Upcast
    source: type[Event]
    targets: frozenset[type[Event]]

    @property
    def name(self) -> str:
        """Return how people find it."""
        return f"upcast {self.function.__module__}.{self.function.__qualname__}"


def step_of(function: Upcast) -> Step:
    """
    Return what a marked function says of itself.

    Raises:
        BadDefinition: Its annotations do not name event classes.
    """
    name = f"upcast {function.__module__}.{function.__qualname__}"
    try:
        hints = get_type_hints(function)
    except NameError as error:
        raise BadDefinition(name, f"its annotations cannot be read: {error}") from error
    parameters = list(inspect.signature(function).parameters)
    source = hints.get(parameters[0]) if len(parameters) == 1 else None
    if not _is_event(source):
        raise BadDefinition(name, "takes one event, and its annotation says of which class")
    targets = frozenset(_classes(hints.get("return", object)))
    if wrong := [target for target in targets if not _is_event(target)]:
        said = " and ".join(sorted(getattr(target, "__name__", str(target)) for target in wrong))
        raise BadDefinition(
            name, f"its result is annotated with {said}: name the event classes that it gives, or list[Never]"
        )
    return Step(function, source, targets)


def check_steps(steps: Mapping[type[Event], Step], domain_of: Mapping[type, str]) -> None:
    """
    See to it that every chain goes forward, ends, and stays in its domain.

    Raises:
        BadDefinition: One does not.
    """
    for source, step in steps.items():
        for target in step.targets:
            if target not in domain_of:
                raise BadDefinition(
                    step.name, f"gives {place_of(target)}, which is not a class of the domain"
                )
            if domain_of[target] != domain_of.get(source):
                raise BadDefinition(
                    step.name, f"gives {place_of(target)}, which belongs to the domain {domain_of[target]}"
                )
            if target.type == source.type and target.schema_version <= source.schema_version:
                raise BadDefinition(
                    step.name, f"reads {place_of(source)} as {place_of(target)}, which is not newer"
                )
    for source in steps:
        _check_end(source, steps, ())


def _check_end(
    source: type[Event], steps: Mapping[type[Event], Step], before: tuple[type[Event], ...]
) -> None:
    chain = (*before, source)
    if source in before:
        said = " → ".join(map(place_of, chain))
        raise BadDefinition(steps[source].name, f"its chain comes back to where it began: {said}")
    if source in steps:
        for target in sorted(steps[source].targets, key=place_of):
            _check_end(target, steps, chain)


def ends_of(source: type[Event], steps: Mapping[type[Event], Step]) -> frozenset[type[Event]]:
    """Return the classes that stored events of a class may be read as in the end."""
    if source not in steps:
        return frozenset((source,))
    return frozenset(end for target in steps[source].targets for end in ends_of(target, steps))


def place_of(event: type[Event]) -> str:
    """Return how people call an event class: by type and version."""
    return f"{event.type} version {event.schema_version}"


def _is_event(value: Any) -> TypeGuard[type[Event]]:
    return isinstance(value, type) and issubclass(value, Event) and value is not Event


def _classes(annotation: Any) -> Iterator[Any]:
    """Return the classes in an annotation; none where nothing can come of it."""
    if annotation in (Never, NoReturn, ...):
        return
    if get_origin(annotation) is None:
        yield annotation
    for argument in get_args(annotation):
        yield from _classes(argument)
