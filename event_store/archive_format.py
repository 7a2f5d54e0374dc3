"""
How archived events are written: chunks, compressed each by itself, and a manifest that says where each one is.

A chunk of events holds a run of positions; a chunk of places says for a run of streams, in order, which positions
their events have. Chunks lie one after the other in objects of some megabytes, so that a part of an object is enough
to read one. The manifest of a range of positions names its objects, chunks and hashes; its own hash stands in the
database. All of it is zlib and JSON, and the bytes of events as they were stored. A change of any of it is a new
`FORMAT`, and the old one stays readable.
"""

import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from event_store.integrity import micros
from event_store.object_errors import ArchiveDamaged
from schemas.envelope import RecordedEvent

FORMAT = 1
CHUNK_EVENTS_MAX = 1_000
CHUNK_OCTETS_MAX = 1024 * 1024
"""Before compression; an event that is larger has a chunk of its own."""
CHUNK_PLACES_MAX = 4_000
OBJECT_OCTETS_MAX = 16 * 1024 * 1024
LEVEL = 6
HEAD_OCTETS = 4
VERSION_MAX = 2**63 - 1
_COLUMNS = ("tenant", "stream", "version", "id", "type", "schema_version")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Place(NamedTuple):
    """Where a stream's event is. In the order of streams' names, then of versions."""

    stream: str
    tenant: str
    version: int
    position: int


class Chunk(NamedTuple):
    """Where a chunk is, and what it is to be."""

    object: int
    """Its number among the manifest's objects."""
    offset: int
    octets: int
    sha256: str
    first: Any
    """A chunk of events: its first position. A chunk of places: the stream, tenant and version of its first."""


class StoredObject(NamedTuple):
    """An object of a manifest."""

    name: str
    octets: int
    sha256: str


@dataclass
class Manifest:
    """What was archived of one range of positions, and where it is."""

    partition: int
    range: int
    first_position: int
    last_position: int
    first_commit: tuple[int, int, str, str]
    """The commit that holds the first position: first and last position, hash, and hash of the one before."""
    last_commit: tuple[int, int, str, str]
    layout: str
    """The revision of the database that the events were read from."""
    octets: int = 0
    objects: list[StoredObject] = field(default_factory=list)
    events: list[Chunk] = field(default_factory=list)
    places: list[Chunk] = field(default_factory=list)

    def encode(self) -> bytes:
        """Return the manifest as it is stored."""
        members = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return zlib.compress(orjson.dumps({"format": FORMAT, **members}, default=list), LEVEL)

    @classmethod
    def decode(cls, name: str, content: bytes, expected_sha256: str) -> "Manifest":
        """
        Return the manifest that `encode` wrote.

        Raises:
            ArchiveDamaged: It is another one, or none.
        """
        if sha256(content).hexdigest() != expected_sha256:
            raise ArchiveDamaged(name, "its sha256 is not the one that the database has")
        members = orjson.loads(zlib.decompress(content))
        if (found := members.pop("format")) != FORMAT:
            raise ArchiveDamaged(name, f"its format is {found}, and this program reads {FORMAT}")
        for listed, kind in (("objects", StoredObject), ("events", Chunk), ("places", Chunk)):
            members[listed] = [kind(*row) for row in members[listed]]
        return cls(**members)

    def chunk_of(self, position: int) -> int:
        """Return the number of the chunk that a position's event is in."""
        return bisect_right(self.events, position, key=lambda chunk: chunk.first) - 1

    def places_of(self, stream: str, tenant: str, version: int) -> Sequence[Chunk]:
        """Return the chunks that may hold places of a stream from a version on."""
        first = bisect_right(self.places, _in_bytes(stream, tenant, version), key=_first_place)
        end = bisect_right(self.places, _in_bytes(stream, tenant, VERSION_MAX), key=_first_place)
        return self.places[max(first - 1, 0) : end]


def encode_events(events: Sequence[RecordedEvent]) -> bytes:
    """Return a run of events as a chunk."""
    head: dict[str, Any] = {name: [getattr(event, name) for event in events] for name in _COLUMNS}
    head["partition"], head["first"] = events[0].partition, events[0].position
    head["recorded_at"] = [micros(event.recorded_at) for event in events]
    head["data"] = [len(event.data) for event in events]
    head["metadata"] = [len(event.metadata) for event in events]
    encoded = orjson.dumps(head)
    bodies = [octets for event in events for octets in (event.data, event.metadata)]
    return zlib.compress(b"".join((len(encoded).to_bytes(HEAD_OCTETS, "big"), encoded, *bodies)), LEVEL)


def decode_events(chunk: bytes) -> list[RecordedEvent]:
    """Return the events of a chunk."""
    raw = zlib.decompress(chunk)
    at = HEAD_OCTETS + int.from_bytes(raw[:HEAD_OCTETS], "big")
    head = orjson.loads(raw[HEAD_OCTETS:at])
    partition, first = head["partition"], head["first"]
    columns = zip(*(head[name] for name in _COLUMNS), strict=True)
    sizes = zip(head["data"], head["metadata"], head["recorded_at"], strict=True)
    events = []
    for number, (
        (tenant, stream, version, id_, type_, schema_version),
        (data, metadata, at_micros),
    ) in enumerate(zip(columns, sizes, strict=True)):
        middle, end = at + data, at + data + metadata
        events.append(
            RecordedEvent(
                partition, first + number, tenant, stream, version, id_, type_, schema_version,
                raw[at:middle], raw[middle:end], _EPOCH + timedelta(microseconds=at_micros),
            )
        )  # fmt: skip
        at = end
    return events


def encode_places(places: Sequence[Place]) -> bytes:
    """Return a run of places as a chunk: each stream once, with its first version and all of its positions."""
    rows: list[tuple[str, str, int, list[int]]] = []
    for stream, tenant, version, position in places:
        if rows and rows[-1][:2] == (stream, tenant):
            rows[-1][3].append(position)
        else:
            rows.append((stream, tenant, version, [position]))
    return zlib.compress(orjson.dumps(rows), LEVEL)


def decode_places(chunk: bytes) -> Iterator[Place]:
    """Return the places of a chunk."""
    for stream, tenant, version, positions in orjson.loads(zlib.decompress(chunk)):
        for number, position in enumerate(positions):
            yield Place(stream, tenant, version + number, position)


def in_order(place: Place) -> tuple[bytes, bytes, int]:
    """Return what places are sorted by: names by their bytes, as the database has them."""
    return _in_bytes(place.stream, place.tenant, place.version)


def chunks_of_events(events: Iterable[RecordedEvent]) -> Iterator[list[RecordedEvent]]:
    """Cut a run of events into chunks."""
    chunk: list[RecordedEvent] = []
    octets = 0
    for event in events:
        size = len(event.data) + len(event.metadata)
        if chunk and (len(chunk) >= CHUNK_EVENTS_MAX or octets + size > CHUNK_OCTETS_MAX):
            yield chunk
            chunk, octets = [], 0
        chunk.append(event)
        octets += size
    if chunk:
        yield chunk


def _first_place(chunk: Chunk) -> tuple[bytes, bytes, int]:
    return _in_bytes(*chunk.first)


def _in_bytes(stream: str, tenant: str, version: int) -> tuple[bytes, bytes, int]:
    return stream.encode(), tenant.encode(), version
