"""
Reads the events of a page once for all projections that fold them.

What no projection folds is not decoded. An event whose type or version this program does not know is where reading
stops: whether it should be folded cannot be known, so it is held and never skipped.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from event_store.log import Commit, Page
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
        self._ways: dict[tuple[str, int], Way] = {}
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
        """Read on in the page's order; the loop does no more for an event than it must, as a replay has millions."""
        found: list[Decoded] = []
        types: set[str] = set()
        ways, read_metadata = self._ways, orjson.loads
        metadata, occurred_at = b"", datetime.min.replace(tzinfo=UTC)
        commits = iter(page.commits)
        commit_hash, commit_end = b"", 0
        last_place, way = ("", 0), NOBODYS
        for event in page.events:
            _, position, tenant, name, version, id_, type_, schema_version, data, said, recorded_at = event
            place = type_, schema_version
            if place != last_place:
                last_place, way = place, ways.get(place) or self._way(place)
                types |= way.types
            if way.is_skipped:
                continue
            try:
                events = (way.read(data),) if way.read is not None else self._slowly(event)
            except (UnknownEvent, ValidationError) as error:
                what = self._why_held(event, error)
                return DecodedPage(found, _types_of(found), (position, what))
            if commit_end < position:
                commit_hash, commit_end = _commit_at(commits, position, page)
            if said != metadata:
                metadata = said
                occurred_at = datetime.fromisoformat(read_metadata(metadata)["occurred_at"])
            stream = _new(Stream, (tenant, name, version, position, id_, recorded_at, occurred_at))
            found.append(_new(Decoded, (stream, events, commit_hash, event)))
            if way.read is None:
                types.update(one.type for one in events)
        return DecodedPage(found, frozenset(types), None)

    def _way(self, place: tuple[str, int]) -> "Way":
        """Return how a stored type is read: what it is today may be folded by nobody, or be unknown to this program."""
        types = self._registry.today(*place)
        if types is not None and types.isdisjoint(self._folded):
            way = NOBODYS
        else:
            read = self._registry.reader(*place)
            way = Way(False, read, types if types is not None and read is not None else frozenset())
        self._ways[place] = way
        return way

    def _slowly(self, event: RecordedEvent) -> Sequence[Event]:
        """
        Return an event that is upcast.

        Raises:
            UnknownEvent: This program does not know its type or version, or cannot read it.
        """
        return self._registry.decode(event.type, event.schema_version, event.data)

    def _why_held(self, event: RecordedEvent, error: Exception) -> str:
        """Return what a program must be able to do to read on."""
        if isinstance(error, ValidationError):
            try:
                self._slowly(event)
            except UnknownEvent as known:
                error = known
        assert isinstance(error, UnknownEvent)
        what = f"a program that can read {error.type} version {error.schema_version}"
        return f"{what} ({error.reason})" if isinstance(error, UnreadableEvent) else what


class Way(NamedTuple):
    """How a stored type and version is read."""

    is_skipped: bool
    read: Callable[[bytes], Event] | None
    """Reads it in one call; None: it is upcast, or unknown."""
    types: frozenset[str]
    """What it is then, where `read` reads it."""


NOBODYS = Way(True, None, frozenset())
_new = tuple.__new__


def _types_of(found: Iterable[Decoded]) -> frozenset[str]:
    return frozenset(event.type for decoded in found for event in decoded.events)


def _commit_at(commits: Iterator[Commit], position: int, page: Page) -> tuple[bytes, int]:
    """Return the hash and the end of the commit that has a position; the page's own where it names none."""
    for commit in commits:
        if commit.last_position >= position:
            return commit.hash, commit.last_position
    return page.end.hash, page.end.position
