"""
Finds domains by entry point and the part of each that a layer needs.

A domain is a sub-folder of its own name in each layer and one entry point in the group `everfold.domains`,
whose value is a `Domain`. A small domain may keep several layers in one module and say so in `modules`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from types import ModuleType
from typing import TypeVar

from schemas.errors import BadDefinition
from schemas.registry import Registry, modules_of

LAYERS = ("schemas", "command_api", "projectors", "query_api", "client")
T = TypeVar("T")


@dataclass(frozen=True)
class Domain:
    """A domain's name, and where its parts are when they are not in `{layer}/{name}/`."""

    name: str
    modules: Mapping[str, str] = field(default_factory=dict)
    examples: Sequence[str] = ()
    """
    Command lines that `everfold up` prints, with `{command_url}`, `{query_url}` and `{token}` to fill in, and `{run}`
    for ids that must differ from one start to the next.
    """

    def parts(self, layer: str) -> Iterator[ModuleType]:
        """Return the domain's modules in a layer, imported; none where it has no folder there."""
        name = self.modules.get(layer, f"{layer}.{self.name}")
        if find_spec(name) is not None:
            yield from modules_of(import_module(name))


@lru_cache
def load_domains(names: tuple[str, ...]) -> tuple[Domain, ...]:
    """
    Return the named domains.

    Raises:
        BadDefinition: There is no entry point of that name.
    """
    found = {entry.name: entry for entry in entry_points(group="everfold.domains")}
    domains = []
    for name in names:
        if name not in found:
            known = ", ".join(sorted(found)) or "none"
            raise BadDefinition(
                f"domain {name}", f"no entry point in everfold.domains has this name; there are: {known}"
            )
        domains.append(found[name].load())
    return tuple(domains)


def load_registry(domains: Sequence[Domain]) -> Registry:
    """Return the messages of the domains."""
    registry = Registry()
    for domain in domains:
        registry.add(domain.name, domain.parts("schemas"))
    return registry


def definitions(domains: Sequence[Domain], layer: str, kind: type[T]) -> list[type[T]]:
    """Return the concrete classes of a kind that the domains define in a layer: their deciders, projections …"""
    found: list[type[T]] = []
    for domain in domains:
        for module in domain.parts(layer):
            for value in vars(module).values():
                if (
                    isinstance(value, type)
                    and issubclass(value, kind)
                    and value.__module__ == module.__name__
                    and not getattr(value, "abstract", False)
                    and value not in found
                ):
                    found.append(value)
    return found
