"""
States of streams that decisions were made on, kept for the next one; the log has the last word on each.

What is known counts in its partition only, since the version of what carries a tag is a position there.

Bounded by the bytes of the events that the states were folded from. Each partition's states rest on one commit
of the log: when the log turns out not to have it any more, all of them are void.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple

from schemas.envelope import CommitMark

WEIGHT_MAX = 64 * 1024 * 1024
ENTRY_WEIGHT = 400
"""What a state costs besides its events' bytes."""

StreamKey = tuple[str, str]
"""Tenant and stream."""


class Known(NamedTuple):
    """A stream's version, its state at it, and what the state weighs."""

    version: int
    state: Any
    weight: int = ENTRY_WEIGHT


class StateCache:
    """The states of the streams that were used last, of all partitions."""

    def __init__(self, *, weight_max: int = WEIGHT_MAX) -> None:
        self._entries: OrderedDict[StreamKey, tuple[Known, int]] = OrderedDict()
        self._marks: dict[int, CommitMark] = {}
        self._epochs: dict[int, int] = {}
        self._doubted: set[StreamKey] = set()
        self._weight = 0
        self._weight_max = weight_max

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, partition: int, key: StreamKey) -> Known | None:
        """Return what is known of a stream; None also where the log may have more of it."""
        entry = self._entries.get(key)
        if entry is None or entry[1] != partition or key in self._doubted:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def doubt(self, keys: Iterable[StreamKey]) -> None:
        """Note that the log may have more of streams than is known."""
        self._doubted.update(key for key in keys if key in self._entries)

    def start_of(self, partition: int, key: StreamKey) -> Known | None:
        """Return what is known of a stream as far as it goes: the log has the rest, in the same history."""
        entry = self._entries.get(key)
        return entry[0] if entry and entry[1] == partition else None

    def put(self, partition: int, key: StreamKey, known: Known) -> None:
        """Keep what is known of a stream, in place of what was."""
        self.drop((key,))
        self._entries[key] = (known, partition)
        self._weight += known.weight
        while self._weight > self._weight_max:
            oldest, (left, _) = self._entries.popitem(last=False)
            self._weight -= left.weight
            self._doubted.discard(oldest)

    def drop(self, keys: Iterable[StreamKey]) -> None:
        """Forget streams."""
        for key in keys:
            entry = self._entries.pop(key, None)
            if entry is not None:
                self._weight -= entry[0].weight
                self._doubted.discard(key)

    def mark(self, partition: int) -> CommitMark | None:
        """Return the last commit that the partition's states rest on."""
        return self._marks.get(partition)

    def move_mark(self, partition: int, mark: CommitMark) -> None:
        """Note a later commit of the same history."""
        known = self._marks.get(partition)
        if known is None or mark.position > known.position:
            self._marks[partition] = mark

    def epoch(self, partition: int) -> int:
        """Return a number that changes whenever all states of a partition turn out to be void."""
        return self._epochs.get(partition, 0)

    def drop_partition(self, partition: int) -> None:
        """Forget all of a partition: its history is no longer the one it was."""
        self._marks.pop(partition, None)
        self._epochs[partition] = self.epoch(partition) + 1
        self.drop([key for key, (_, where) in self._entries.items() if where == partition])
