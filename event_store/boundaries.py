"""
The tags of a batch's events and the conditions of its appends, as the flat arrays that `append_batch_v2` takes.

A condition is checked against what is stored by the function, and against what earlier appends of the same batch
add by what is worked out here: which items match which earlier events. Only tagged events and appends with
conditions cost anything.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from event_store.log import (
    CONDITION_ITEMS_MAX,
    EVENT_TAGS_MAX,
    TAG_CHARACTERS_MAX,
    Append,
    BatchTooLarge,
    QueryItem,
)
from schemas.errors import BadDefinition

TAG_SEPARATOR = "\x1e"

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class _Item(NamedTuple):
    """A query item of a tenant; equal ones are one."""

    tenant: str
    tags: tuple[str, ...]
    types: tuple[str, ...]


class _Tagged(NamedTuple):
    """A tagged event of the batch."""

    append: int
    type: str
    tags: tuple[str, ...]


def canonical_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """
    Return tags in the one order in which they are hashed and stored, each once.

    Raises:
        BatchTooLarge: There are too many, or one is too long.
        BadDefinition: One is empty or has control characters.
    """
    return _canonical(tuple(tags))


@lru_cache(maxsize=1_000)
def _canonical(tags: tuple[str, ...]) -> tuple[str, ...]:
    """Do so once for an event's tags and for the condition that names the same."""
    if len(tags) > EVENT_TAGS_MAX:
        raise BatchTooLarge(EVENT_TAGS_MAX, "tags of an event")
    for tag in tags:
        if len(tag) > TAG_CHARACTERS_MAX:
            raise BatchTooLarge(TAG_CHARACTERS_MAX, "characters of a tag")
        if not tag or _CONTROL.search(tag):
            raise BadDefinition(f"tag {tag!r}", "is empty or holds control characters")
    return tuple(sorted(set(tags)))


class Boundaries:
    """What a batch's events are tagged with, and what may not have happened before its appends."""

    def __init__(self) -> None:
        self._tags: dict[int, tuple[str, ...]] = {}
        self._by_tag: dict[tuple[str, str], list[_Tagged]] = defaultdict(list)
        self._conditions: list[tuple[int, int, int, _Item]] = []

    def add_tags(self, append: int, tenant: str, event: int, type_: str, tags: Sequence[str]) -> None:
        """Note that the batch's `event`-th event, of its `append`-th append, carries tags."""
        self._tags[event] = own = canonical_tags(tags)
        tagged = _Tagged(append, type_, own)
        for tag in own:
            self._by_tag[tenant, tag].append(tagged)

    def add_conditions(self, number: int, stream: int, append: Append) -> None:
        """
        Note the conditions of the batch's `number`-th append, whose main stream is the batch's `stream`-th.

        Raises:
            BatchTooLarge: They have too many items.
            BadDefinition: An item has no tag: it could be checked only by reading everything.
        """
        if sum(len(condition.items) for condition in append.conditions) > CONDITION_ITEMS_MAX:
            raise BatchTooLarge(CONDITION_ITEMS_MAX, "items of an append's conditions")
        for items, after in append.conditions:
            self._conditions += [(number, stream, after, _checked(append, item)) for item in items]

    def arguments(self, events: int) -> Sequence[Sequence[Any]]:
        """Return the function's arguments from `_event_tags` on, for a batch of so many events."""
        tags: list[str] = []
        if self._tags:
            tags = [TAG_SEPARATOR.join(self._tags.get(number, ())) for number in range(1, events + 1)]
        barred, bars = self._within()
        return (
            tags,
            [number for number, *_ in self._conditions],
            [stream for _, stream, *_ in self._conditions],
            [after for *_, after, _ in self._conditions],
            [TAG_SEPARATOR.join(item.tags) for *_, item in self._conditions],
            [TAG_SEPARATOR.join(item.types) for *_, item in self._conditions],
            [append for append, _ in barred],
            [item for _, item in barred],
            [append for append, _ in bars],
            [item for _, item in bars],
        )

    def _within(self) -> tuple[Sequence[tuple[int, int]], Sequence[tuple[int, int]]]:
        """Return which appends are barred by which items, and which have events that match them, in order."""
        barred: list[tuple[int, int]] = []
        bars: list[tuple[int, int]] = []
        if not self._tags:
            return barred, bars
        appends: dict[_Item, list[int]] = defaultdict(list)
        for number, *_, item in self._conditions:
            appends[item].append(number)
        for item_number, (item, conditioned) in enumerate(appends.items(), 1):
            events = self._by_tag.get((item.tenant, item.tags[0]), ())
            if not events or events[0].append >= conditioned[-1]:
                continue
            matching = _matching(item, events)
            if matching and matching[0] < conditioned[-1]:
                barred += [(append, item_number) for append in conditioned]
                bars += [(append, item_number) for append in matching]
        return sorted(barred), sorted(bars)


def _matching(item: _Item, events: Sequence[_Tagged]) -> Sequence[int]:
    """Return the appends that have an event which an item matches, in order."""
    wanted = frozenset(item.tags)
    return list(
        dict.fromkeys(
            event.append
            for event in events
            if wanted.issubset(event.tags) and (not item.types or event.type in item.types)
        )
    )


@lru_cache(maxsize=1_000)
def _types(types: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return types in order, each once; None where one cannot be."""
    if any(not type_ or _CONTROL.search(type_) for type_ in types):
        return None
    return tuple(sorted(set(types)))


def _checked(append: Append, item: QueryItem) -> _Item:
    tags = canonical_tags(item.tags)
    if not tags:
        raise BadDefinition(f"condition of an append to {append.stream}", "every item needs a tag")
    if (types := _types(tuple(item.types))) is None:
        raise BadDefinition(
            f"condition of an append to {append.stream}", "a type is empty or holds control characters"
        )
    return _Item(append.tenant, tags, types)
