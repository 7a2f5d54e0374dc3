"""
Reads archived events, with bounded memory and a small cache.

What is archived of a partition is a prefix of it: everything up to one position, in ranges that follow each other.
Which ranges, and the hash of each one's manifest, stands in the database beside the partition; so nothing that an
object store answers is believed without having been checked.
"""

import asyncio
import zlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Any, Generic, NamedTuple, TypeVar

from event_store.archive_format import Chunk, Manifest, Place, decode_events, decode_places
from event_store.object_errors import ArchiveDamaged
from event_store.object_store import ObjectStore
from schemas.envelope import RecordedEvent

MANIFESTS_CACHED_MAX = 8
CHUNKS_CACHED_MAX = 16

Value = TypeVar("Value")


class ArchivedRange(NamedTuple):
    """A range of a partition that is read from the archive."""

    range: int
    first_position: int
    last_position: int
    manifest: str
    manifest_sha256: str


RangesOf = Callable[[int], Awaitable[Sequence[ArchivedRange]]]
"""Tells which ranges of a partition are archived, in order, as of now."""


class ArchiveReading:
    """The archived part of a log."""

    def __init__(self, store: ObjectStore, ranges_of: RangesOf) -> None:
        self._store = store
        self._ranges_of = ranges_of
        self._ranges: dict[int, Sequence[ArchivedRange]] = {}
        self._manifests: _Cache[Manifest] = _Cache(MANIFESTS_CACHED_MAX)
        self._chunks: _Cache[Any] = _Cache(CHUNKS_CACHED_MAX)

    async def close(self) -> None:
        """Let go of the object store."""
        await self._store.close()

    def known_end(self, partition: int) -> int:
        """Return the last position that was archived when it was last looked up; 0: none, as far as is known."""
        ranges = self._ranges.get(partition)
        return ranges[-1].last_position if ranges else 0

    def forget(self, partition: int) -> None:
        """Drop what is known of a partition: its history is not the one that it was learnt from."""
        self._ranges.pop(partition, None)

    async def end(self, partition: int) -> int:
        """Return the last position that is archived; 0: none is."""
        self._ranges[partition] = await self._ranges_of(partition)
        return self.known_end(partition)

    async def read_range(self, partition: int, first: int, last: int) -> list[RecordedEvent]:
        """
        Return the archived events of a range of positions, both included, in order.

        Raises:
            ArchiveUnavailable: The archive cannot be reached.
            ArchiveDamaged: It does not hold what was put there.
        """
        events: list[RecordedEvent] = []
        for part in await self._overlapping(partition, first, last):
            manifest = await self.manifest(part)
            start, end = max(first, part.first_position), min(last, part.last_position)
            for number in range(manifest.chunk_of(start), manifest.chunk_of(end) + 1):
                chunk = await self.events_of(manifest, manifest.events[number])
                events += chunk[max(start - chunk[0].position, 0) : end - chunk[0].position + 1]
        return events

    async def read_stream(
        self,
        partition: int,
        tenant: str,
        stream: str,
        *,
        after_version: int,
        first_position: int,
        until_version: int | None = None,
        backwards: bool = False,
    ) -> AsyncIterator[RecordedEvent]:
        """Return a stream's archived events, oldest first or `backwards`; it begins at `first_position`."""
        ranges = await self._overlapping(partition, first_position, await self.end(partition))
        for part in reversed(ranges) if backwards else ranges:
            manifest = await self.manifest(part)
            async for place in self._places(manifest, tenant, stream, after_version + 1, backwards=backwards):
                if until_version is not None and place.version > until_version:
                    if backwards:
                        continue
                    return
                chunk = await self.events_of(manifest, manifest.events[manifest.chunk_of(place.position)])
                event = chunk[place.position - chunk[0].position]
                if (event.stream, event.tenant, event.version) != place[:3]:
                    raise ArchiveDamaged(part.manifest, f"it leads to another event at {place.position}")
                yield event

    async def manifest(self, part: ArchivedRange) -> Manifest:
        """Return a range's manifest."""

        async def read() -> Manifest:
            content = await self._store.get(part.manifest)
            return Manifest.decode(part.manifest, content, part.manifest_sha256)

        return await self._manifests.get(part.manifest_sha256, read)

    async def events_of(self, manifest: Manifest, chunk: Chunk) -> list[RecordedEvent]:
        """Return the events of a chunk."""

        async def read() -> list[RecordedEvent]:
            return await self._decoded(manifest, chunk, decode_events)

        found: list[RecordedEvent] = await self._chunks.get(chunk.sha256, read)
        return found

    async def places_of(self, manifest: Manifest, chunk: Chunk) -> list[Place]:
        """Return the places of a chunk."""

        async def read() -> list[Place]:
            return await self._decoded(manifest, chunk, lambda content: list(decode_places(content)))

        found: list[Place] = await self._chunks.get(chunk.sha256, read)
        return found

    async def _decoded(self, manifest: Manifest, chunk: Chunk, decode: Callable[[bytes], Value]) -> Value:
        name = manifest.objects[chunk.object].name
        content = await self._store.get(name, chunk.offset, chunk.octets)
        if sha256(content).hexdigest() != chunk.sha256:
            raise ArchiveDamaged(name, f"the bytes from {chunk.offset} on are not those that were written")
        try:
            return await asyncio.to_thread(decode, content)
        except (zlib.error, ValueError, KeyError) as error:
            raise ArchiveDamaged(name, f"the bytes from {chunk.offset} on cannot be read") from error

    async def _places(
        self, manifest: Manifest, tenant: str, stream: str, version: int, *, backwards: bool
    ) -> AsyncIterator[Place]:
        """Return where a range has a stream's events, from a version on."""
        chunks = manifest.places_of(stream, tenant, version)
        for chunk in reversed(chunks) if backwards else chunks:
            places = await self.places_of(manifest, chunk)
            for place in reversed(places) if backwards else places:
                if place[:2] == (stream, tenant) and place.version >= version:
                    yield place

    async def _overlapping(self, partition: int, first: int, last: int) -> list[ArchivedRange]:
        if self.known_end(partition) < last:
            await self.end(partition)
        ranges = self._ranges[partition]
        return [part for part in ranges if part.first_position <= last and part.last_position >= first]


class _Cache(Generic[Value]):
    """The values that were used last."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._values: OrderedDict[str, Value] = OrderedDict()

    async def get(self, name: str, read: Callable[[], Awaitable[Value]]) -> Value:
        """Return a value, read if it is not at hand."""
        if name not in self._values:
            value = await read()
            self._values[name] = value
        self._values.move_to_end(name)
        value = self._values[name]
        while len(self._values) > self._size_max:
            self._values.popitem(last=False)
        return value
