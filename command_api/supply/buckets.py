"""
An immutable map that is cheap to change: each change copies one small bucket, not everything.

A stream may have thousands of lots and reservations, and each event makes a new state. Buckets are chosen by a
checksum of the key, which is the same in every process (a string's hash is not).
"""

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar
from zlib import crc32

Value = TypeVar("Value")

BUCKET_ENTRIES_MIN = 8


def _slot(key: str | None, buckets: int) -> int:
    return 0 if key is None or buckets == 1 else crc32(key.encode()) & (buckets - 1)


class Buckets(Generic[Value]):
    """A map from text, or None, to values."""

    __slots__ = ("_buckets", "_count")

    def __init__(self, buckets: tuple[dict[str | None, Value], ...] = ({},), count: int = 0) -> None:
        self._buckets, self._count = buckets, count

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Buckets) and dict(self.items()) == dict(other.items())

    __hash__ = None  # type: ignore[assignment]  # it is compared by content, like a dict

    def __repr__(self) -> str:
        return f"Buckets({dict(self.items())!r})"

    def to_stored(self) -> Mapping[str | None, Value]:
        """Return what is saved of it."""
        return dict(self.items())

    @classmethod
    def from_stored(cls, stored: Mapping[str | None, Value]) -> "Buckets[Value]":
        """Return the map that was saved, in as many buckets as its size asks for."""
        whole: Buckets[Value] = cls((dict(stored),), len(stored))
        while whole._is_crowded():
            whole = whole._grown()
        return whole

    def get(self, key: str | None) -> Value | None:
        """Return the key's value, or None."""
        buckets = self._buckets
        return buckets[_slot(key, len(buckets))].get(key)

    def items(self) -> Iterator[tuple[str | None, Value]]:
        """Return keys and values, in no order that means anything."""
        for bucket in self._buckets:
            yield from bucket.items()

    def put(self, key: str | None, value: Value) -> "Buckets[Value]":
        """Return a map in which the key has the value."""
        slot = _slot(key, len(self._buckets))
        old = self._buckets[slot]
        bucket = {**old, key: value}
        changed = self._with(slot, bucket, self._count + len(bucket) - len(old))
        return changed if len(bucket) == len(old) or not changed._is_crowded() else changed._grown()

    def drop(self, key: str | None) -> "Buckets[Value]":
        """Return a map without the key."""
        slot = _slot(key, len(self._buckets))
        old = self._buckets[slot]
        if key not in old:
            return self
        return self._with(
            slot, {other: value for other, value in old.items() if other != key}, self._count - 1
        )

    def _with(self, slot: int, bucket: dict[str | None, Value], count: int) -> "Buckets[Value]":
        return Buckets((*self._buckets[:slot], bucket, *self._buckets[slot + 1 :]), count)

    def _is_crowded(self) -> bool:
        """Whether buckets are so full that copying one costs more than copying the list of them."""
        buckets = len(self._buckets)
        return self._count > buckets * max(BUCKET_ENTRIES_MIN, buckets // 4)

    def _grown(self) -> "Buckets[Value]":
        buckets: tuple[dict[str | None, Value], ...] = tuple({} for _ in range(len(self._buckets) * 4))
        for key, value in self.items():
            buckets[_slot(key, len(buckets))][key] = value
        return Buckets(buckets, self._count)
