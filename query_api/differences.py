"""
What changed in a document between two instants, and which event set each field.

The document's one stream is folded event by event with the projection's own fold, so what an event has changed is what
is different after it. Fields are named by JSON pointers (RFC 6901); those of lists by their place in the list.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from event_store.log import EventLog
from infra.json_body import escape
from projectors.projection import Key, Projection
from query_api.as_of import EventReader, stream_of
from query_api.query import DocumentQuery
from schemas.envelope import RecordedEvent
from schemas.errors import NotFound
from schemas.registry import Registry

ABSENT = object()
"""What a field is that is not there: null is a value."""

Leaves = Mapping[str, Any]
"""A document's fields by their pointers: values that hold no others, and what is empty."""


class Instant(NamedTuple):
    """A moment in a stream's life: a version of it, or a time."""

    version: int | None = None
    time: datetime | None = None

    def has(self, event: RecordedEvent) -> bool:
        """Say whether an event had been recorded by then."""
        if self.version is not None:
            return event.version <= self.version
        return self.time is None or event.recorded_at <= self.time


@dataclass(frozen=True)
class Change:
    """A field that is not what it was."""

    pointer: str
    before: Any
    after: Any
    events: Sequence[int]
    """The versions of the events that changed it, oldest first; the last set it to what it is."""

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        what = "added" if self.before is ABSENT else "removed" if self.after is ABSENT else "changed"
        before, after = (None if value is ABSENT else value for value in (self.before, self.after))
        return {
            "pointer": self.pointer, "what": what, "before": before, "after": after,
            "set_by": self.events[-1], "events": list(self.events),
        }  # fmt: skip


@dataclass
class Difference:
    """What became of a document between two instants."""

    before: Any = None
    after: Any = None
    events: list[RecordedEvent] = field(default_factory=list)
    """Those between the two instants that changed anything in it."""
    others: int = 0
    """How many more there were."""
    changes: Sequence[Change] = ()


def query_of_stream(
    queries: Sequence[type[DocumentQuery]], stream: str
) -> tuple[type[DocumentQuery], dict[str, str]]:
    """
    Return the query whose documents are made from a stream, and its path's parameters.

    Raises:
        NotFound: No document is made from that stream alone.
    """
    parts = stream.split("/")
    for query in queries:
        pattern = (query.stream or "").split("/")
        if len(pattern) == len(parts) and all(
            one == given or (one.startswith("{") and given) for one, given in zip(pattern, parts, strict=True)
        ):
            path = {one.strip("{}"): given for one, given in zip(pattern, parts, strict=True) if one != given}
            if query.stream_of(path) == stream:
                return query, path
    raise NotFound(f"view that is made from {stream} alone")


async def difference(
    log: EventLog,
    registry: Registry,
    query: type[DocumentQuery],
    tenant: str,
    path: Mapping[str, str],
    before: Instant,
    after: Instant,
) -> Difference:
    """
    Return what became of a document from one instant to another.

    Raises:
        NotFound: The stream has no events by the later instant.
        StreamsUnreadable: An event of the stream is not known to this program.
    """
    stream = query.stream_of(path)
    assert stream is not None  # query_of_stream found it by its stream
    place = (query.table, tuple(path[name] for name in query.path_names))
    fold = _Fold(query.projection(), place, EventReader(registry))
    found = Difference()
    setters: dict[str, list[int]] = {}
    now: Leaves = {}
    start: Leaves = {}
    is_there = False
    events: AsyncIterator[RecordedEvent] = log.read_stream(
        tenant, stream, until_version=after.version, until_time=after.time
    )
    async for event in events:
        is_there = True
        document = fold.add(event)
        then, now = now, dict(leaves(document))
        if before.has(event):
            found.before, start = document, now
            found.after = document
            continue
        touched = [pointer for pointer, _, _ in changed(then, now)]
        for pointer in touched:
            setters.setdefault(pointer, []).append(event.version)
        found.after = document
        found.others += not touched
        found.events += [event] if touched else []
    if not is_there:
        raise NotFound(stream)
    found.changes = [Change(*change, setters[change[0]]) for change in changed(start, now)]
    return found


class _Fold:
    """One document, event by event."""

    def __init__(self, projection: Projection[Any], place: tuple[str, Key], reader: EventReader) -> None:
        self._projection = projection
        self._place = place
        self._reader = reader
        self._rows: dict[tuple[str, Key], Any] = {}

    def add(self, recorded: RecordedEvent) -> Any:
        """Fold an event in, and return the document; None where there is none."""
        for event in self._reader.read(recorded, self._projection.whens):
            self._projection.fold(self._rows, event, stream_of(recorded))
        row = self._rows.get(self._place)
        return None if row is None else orjson.loads(row.encode())


def leaves(document: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    """Go through a document's fields that hold no others; a document that is not there has none."""
    match document:
        case None if not pointer:
            return
        case dict() if document:
            for name, value in document.items():
                yield from leaves(value, f"{pointer}/{escape(name)}")
        case list() if document:
            for number, value in enumerate(document):
                yield from leaves(value, f"{pointer}/{number}")
        case _:
            yield pointer, document


def changed(before: Leaves, after: Leaves) -> list[tuple[str, Any, Any]]:
    """Return the fields that differ, with what they were and are, in the order of the later document."""
    pointers = [*after, *(pointer for pointer in before if pointer not in after)]
    pairs = ((pointer, before.get(pointer, ABSENT), after.get(pointer, ABSENT)) for pointer in pointers)
    return [(pointer, was, now) for pointer, was, now in pairs if not _same(was, now)]


def _same(one: Any, other: Any) -> bool:
    """Compare as JSON does: true is not 1."""
    return type(one) is type(other) and bool(one == other)
