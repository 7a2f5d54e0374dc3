"""
Every message of the loaded domains by name and version: routes, decoding and API documents are made from it.

Two domains may not claim one command, event type or collection: that is refused at start, by name.
"""

import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from schemas.errors import BadDefinition, Rejection, UnknownEvent, UnreadableEvent
from schemas.messages import Command, Event, View
from schemas.moves import COLLECTION, OWN_EVENTS
from schemas.personal import PersonalFields, personal_fields
from schemas.upcasting import Step, Upcast, check_steps, ends_of, step_of

PROBLEMS_TOLD_MAX = 3
"""So many of the fields that do not fit are named."""

NOTHING: frozenset[str] = frozenset()
_OWN_TYPES = frozenset(event.type for event in OWN_EVENTS.values())


class Registry:
    """The messages of some domains."""

    def __init__(self) -> None:
        self.commands: dict[str, type[Command]] = {}
        self.events: dict[tuple[str, int], type[Event]] = {}
        self.newest: dict[str, type[Event]] = {}
        self.views: dict[str, type[View]] = {}
        self.rejections: dict[str, type[Rejection]] = {}
        self.domain_of: dict[type, str] = {}
        self.upcasts: dict[type[Event], Step] = {}
        self._today: dict[tuple[str, int], frozenset[str]] = {}
        self.personal: dict[tuple[str, int], PersonalFields] = {}
        """Of events that have personal fields, by type and version."""
        self.personal_commands: dict[type[Command], PersonalFields] = {}

    def add(self, domain: str, modules: Iterable[ModuleType]) -> None:
        """
        Take up what modules define.

        Raises:
            BadDefinition: A name is taken already, an old version has no upcast, an upcast leads nowhere good, or a
                personal field is marked wrongly.
        """
        self._today.clear()
        for module in modules:
            for value in vars(module).values():
                if getattr(value, "__module__", None) != module.__name__:
                    continue
                if getattr(value, "__everfold_upcast__", False):
                    self._add_upcast(value)
                elif inspect.isclass(value):
                    self._add_class(domain, value)
        for (name, version), event in self.events.items():
            if event is not self.newest[name] and event not in self.upcasts:
                raise BadDefinition(
                    f"{name} version {version}", "an old version needs an upcast to a newer one"
                )
        check_steps(self.upcasts, self.domain_of)

    def _add_upcast(self, function: Upcast) -> None:
        step = step_of(function)
        if self.upcasts.setdefault(step.source, step).function is not function:
            raise BadDefinition(
                step.name, f"{self.upcasts[step.source].name} reads {step.source.__name__} already"
            )
        step.source.is_past = True

    def _add_class(self, domain: str, value: type) -> None:
        if issubclass(value, Command) and value.route:
            if value.collection == COLLECTION:
                raise BadDefinition(value.__name__, f"{COLLECTION} are the log's own streams")
            self._claim(self.commands, value.command_name, value)
            if (fields := personal_fields(value)) is not None:
                self.personal_commands[value] = fields
        elif issubclass(value, Event) and value is not Event:
            if value.type in _OWN_TYPES:
                raise BadDefinition(value.__name__, f"{value.type} is an event of the log's own")
            self._claim(self.events, (value.type, value.schema_version), value)
            if (fields := personal_fields(value)) is not None:
                self.personal[value.type, value.schema_version] = fields
            newest = self.newest.setdefault(value.type, value)
            if value.schema_version > newest.schema_version:
                self.newest[value.type] = value
        elif issubclass(value, View) and value is not View:
            self._claim(self.views, value.__name__, value)
        elif issubclass(value, Rejection):
            self._claim(self.rejections, value.slug, value)
        else:
            return
        self.domain_of[value] = domain

    @staticmethod
    def _claim(table: dict[Any, Any], name: Any, value: type) -> None:
        if table.setdefault(name, value) is not value:
            raise BadDefinition(
                str(name), f"is defined by {table[name].__module__} and by {value.__module__}"
            )

    def today(self, type: str, schema_version: int) -> frozenset[str] | None:
        """
        Return the types that stored events of a type and version are read as today; None: it is not known.

        A type that was renamed or split is read as others than its own, and one that no longer counts as none. Whoever
        looks for some types only must ask, as the stored type does not tell. The log's own events are read as none.
        """
        place = type, schema_version
        types = self._today.get(place)
        if types is None and place in self.events:
            types = frozenset(event.type for event in ends_of(self.events[place], self.upcasts))
            self._today[place] = types
        return NOTHING if types is None and place in OWN_EVENTS else types

    def reader(self, type: str, schema_version: int) -> Callable[[bytes], Event] | None:
        """
        Return what reads stored bytes of a type and version as today's one event; None where more is needed: `decode`.

        What it raises where the bytes do not fit is `ValidationError`; `decode` says then what is wrong.
        """
        model = self.events.get((type, schema_version))
        return None if model is None or model in self.upcasts else model.__pydantic_validator__.validate_json

    def decode(self, type: str, schema_version: int, data: bytes) -> Sequence[Event]:
        """
        Return stored bytes as today's events: one, several where an old fact was split, none where it no longer counts.

        None also for the log's own events, which no domain folds (`schemas/moves.py`).

        Raises:
            UnknownEvent: No class for this type and version: a newer program wrote it, or its class was removed.
            UnreadableEvent: There is one, but the bytes do not fit it, or its upcast fails on them.
        """
        model = self.events.get((type, schema_version))
        if model is None:
            if (type, schema_version) in OWN_EVENTS:
                return ()
            raise UnknownEvent(type, schema_version)
        try:
            event = model.__pydantic_validator__.validate_json(data)
        except ValidationError as error:
            raise UnreadableEvent(type, schema_version, _problems(error)) from error
        if model not in self.upcasts:
            return (event,)
        try:
            return tuple(self._cast(event))
        except _Failed as failed:
            raise UnreadableEvent(type, schema_version, str(failed)) from failed.__cause__

    def _cast(self, event: Event) -> Iterator[Event]:
        step = self.upcasts.get(type(event))
        if step is None:
            yield event
            return
        try:
            result = step.function(event)
        except ValidationError as error:
            raise _Failed(f"{step.name}: {_problems(error)}") from error
        except Exception as error:
            raise _Failed(f"{step.name}: {type(error).__name__}") from error
        for newer in result if isinstance(result, list | tuple) else (result,):
            if type(newer) not in step.targets:
                raise _Failed(f"{step.name}: gave {type(newer).__name__}, which its annotation does not name")
            yield from self._cast(newer)


class _Failed(Exception):
    """An upcast came to nothing."""


def _problems(error: ValidationError) -> str:
    """Return what does not fit, without the values, which may be personal."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = [": ".join(filter(None, (".".join(map(str, one["loc"])), one["msg"]))) for one in found]
    more = f"; and {len(told) - PROBLEMS_TOLD_MAX} more" if len(told) > PROBLEMS_TOLD_MAX else ""
    return "; ".join(told[:PROBLEMS_TOLD_MAX]) + more


def modules_of(package: ModuleType) -> Iterator[ModuleType]:
    """Return a package and the modules in it, imported; or a plain module alone."""
    yield package
    for info in pkgutil.iter_modules(getattr(package, "__path__", ())):
        yield from modules_of(import_module(f"{package.__name__}.{info.name}"))
