"""
Reads the events of a page once for all projections that fold them.

What no projection folds is not decoded. An event whose type or version this program does not know is where reading
stops: whether it should be folded cannot be known, so it is held and never skipped.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from event_store.log import Page
from projectors.projection import Projection, Stream
from schemas import Event
from schemas.envelope import RecordedEvent
from schemas.errors import UnknownEvent, UnreadableEvent
from schemas.registry import Registry


class Decoded(NamedTuple):
    """A stored event as today's events, with its surroundings."""

    stream: Stream
    events: Sequence[Event]
    """One, or several where an old fact was split."""
    commit_hash: bytes
    source: RecordedEvent


class DecodedPage(NamedTuple):
    """A page's events that somebody folds, in order."""

    events: Sequence[Decoded]
    types: frozenset[str]
    """The types of `events`, as they are folded."""
    held: tuple[int, str] | None
    """The first position that could not be read and what it holds; `events` ends before it."""


class Decoder:
    """Decodes pages for some projections; the last page is remembered, because its members ask one after another."""

    def __init__(self, registry: Registry, projections: Iterable[Projection[Any]]) -> None:
        self._registry = registry
        self._folded = frozenset(name for projection in projections for name in projection.whens)
        self._wanted: dict[tuple[str, int], bool | None] = {}
        self._last: tuple[Page, DecodedPage] | None = None
        self.turn = asyncio.Lock()
        """Large pages are folded one member after the other, so that one's write goes on beside the next one's fold."""

    def decode(self, page: Page) -> DecodedPage:
        """Return a page's events that somebody folds."""
        if self._last is not None and self._last[0] is page:
            return self._last[1]
        decoded = self._decode(page)
        self._last = page, decoded
        return decoded

    def _decode(self, page: Page) -> DecodedPage:
        found: list[Decoded] = []
        types: set[str] = set()
        wanted, decode = self._wanted, self._registry.decode
        metadata, occurred_at = b"", datetime.min.replace(tzinfo=UTC)
        commits = iter(page.commits)
        commit = next(commits, None)
        for event in page.events:
            place = event.type, event.schema_version
            is_wanted = wanted[place] if place in wanted else self._is_wanted(place)
            if is_wanted is False:
                continue
            try:
                if is_wanted is None:
                    raise UnknownEvent(*place)
                events = decode(event.type, event.schema_version, event.data)
            except UnknownEvent as error:
                what = f"a program that can read {error.type} version {error.schema_version}"
                if isinstance(error, UnreadableEvent):
                    what = f"{what} ({error.reason})"
                return DecodedPage(found, frozenset(types), (event.position, what))
            while commit is not None and commit.last_position < event.position:
                commit = next(commits, None)
            if event.metadata != metadata:
                metadata = event.metadata
                occurred_at = datetime.fromisoformat(orjson.loads(metadata)["occurred_at"])
            stream = Stream(
                event.tenant,
                event.stream,
                event.version,
                event.position,
                event.id,
                event.recorded_at,
                occurred_at,
            )
            found.append(Decoded(stream, events, commit.hash if commit else page.end.hash, event))
            if len(events) == 1:
                types.add(events[0].type)
            else:
                types.update(one.type for one in events)
        return DecodedPage(found, frozenset(types), None)

    def _is_wanted(self, place: tuple[str, int]) -> bool | None:
        """Say whether what a stored type is read as today is folded by anybody; None: this program does not know it."""
        types = self._registry.today(*place)
        answer = None if types is None else not types.isdisjoint(self._folded)
        self._wanted[place] = answer
        return answer
