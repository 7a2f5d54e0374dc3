"""Modules put together in a test, where a domain's definitions would stand."""

from types import ModuleType


def module(name: str, *values: object) -> ModuleType:
    """Return a module that defines these."""
    made = ModuleType(name)
    for value in values:
        value.__module__ = name
        setattr(made, value.__name__, value)  # type: ignore[attr-defined]  # classes and functions have one
    return made
