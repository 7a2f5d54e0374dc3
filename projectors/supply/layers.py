"""
An immutable map that is cheap to change however large it is: a few changes lie on top of what does not change.

A stock level may have thousands of lots and thousands of events in a batch; copying all lots for each event would
make the batch's cost grow with their product.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

TOP_MAX = 64
"""Changes that lie on top at most: each of them is copied by every further change."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class Layers(Mapping[Key, Value]):
    """A map whose keys stand in the order in which they were first put."""

    __slots__ = ("_base", "_top")

    def __init__(self, base: Mapping[Key, Value], top: Mapping[Key, Value] | None = None) -> None:
        self._base: Mapping[Key, Value] = base
        self._top: Mapping[Key, Value] = top or {}

    def put(self, key: Key, value: Value) -> "Layers[Key, Value]":
        """Return a map in which the key has the value."""
        if len(self._top) < TOP_MAX:
            return Layers(self._base, {**self._top, key: value})
        return Layers({**self._base, **self._top, key: value})

    def whole(self) -> dict[Key, Value]:
        """Return everything as one dictionary."""
        return {**self._base, **self._top}

    def get(self, key: Key, default: Any = None) -> Any:
        """Return the key's value, or another."""
        top = self._top
        return top[key] if key in top else self._base.get(key, default)

    def __getitem__(self, key: Key) -> Value:
        top = self._top
        return top[key] if key in top else self._base[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self.whole())

    def __len__(self) -> int:
        return len(self.whole())

    def __repr__(self) -> str:
        return f"Layers({self.whole()!r})"
