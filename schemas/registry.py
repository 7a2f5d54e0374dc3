"""
Every message of the loaded domains by name and version: routes, decoding and API documents are made from it.

Two domains may not claim one command, event type or collection: that is refused at start, by name.
"""

import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from schemas.errors import BadDefinition, Rejection, UnknownEvent
from schemas.messages import Command, Event, View
from schemas.upcasting import upcast_source


class Registry:
    """The messages of some domains."""

    def __init__(self) -> None:
        self.commands: dict[str, type[Command]] = {}
        self.events: dict[tuple[str, int], type[Event]] = {}
        self.newest: dict[str, type[Event]] = {}
        self.views: dict[str, type[View]] = {}
        self.rejections: dict[str, type[Rejection]] = {}
        self.domain_of: dict[type, str] = {}
        self._upcasts: dict[type, Any] = {}

    def add(self, domain: str, modules: Iterable[ModuleType]) -> None:
        """
        Take up what modules define.

        Raises:
            BadDefinition: A name is taken already, or an old version has no upcast.
        """
        for module in modules:
            for value in vars(module).values():
                if getattr(value, "__module__", None) != module.__name__:
                    continue
                if getattr(value, "__everfold_upcast__", False):
                    self._upcasts[upcast_source(value)] = value
                elif inspect.isclass(value):
                    self._add_class(domain, value)
        for (name, version), event in self.events.items():
            if event is not self.newest[name] and event not in self._upcasts:
                raise BadDefinition(
                    f"{name} version {version}", "an old version needs an upcast to a newer one"
                )

    def _add_class(self, domain: str, value: type) -> None:
        if issubclass(value, Command) and value.route:
            self._claim(self.commands, value.command_name, value)
        elif issubclass(value, Event) and value is not Event:
            self._claim(self.events, (value.type, value.schema_version), value)
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

    def decode(self, type: str, schema_version: int, data: bytes) -> Sequence[Event]:
        """
        Return stored bytes as today's events: one, or several where an old fact was split.

        Raises:
            UnknownEvent: No class for this type and version: a newer program wrote it, or its class was removed.
        """
        model = self.events.get((type, schema_version))
        if model is None:
            raise UnknownEvent(type, schema_version)
        try:
            event = model.__pydantic_validator__.validate_json(data)
        except ValidationError as error:
            raise UnknownEvent(type, schema_version) from error
        return (event,) if model not in self._upcasts else tuple(self._cast(event))

    def _cast(self, event: Event) -> Iterator[Event]:
        function = self._upcasts.get(type(event))
        if function is None:
            yield event
            return
        result = function(event)
        for newer in result if isinstance(result, list | tuple) else (result,):
            yield from self._cast(newer)


def modules_of(package: ModuleType) -> Iterator[ModuleType]:
    """Return a package and the modules in it, imported; or a plain module alone."""
    yield package
    for info in pkgutil.iter_modules(getattr(package, "__path__", ())):
        yield from modules_of(import_module(f"{package.__name__}.{info.name}"))
