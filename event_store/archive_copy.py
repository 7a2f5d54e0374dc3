"""
Copies a range of a partition into the archive, and checks what is there against what the database has of it.

A range is read by its commits, some thousands of events at a time. The check reads everything back and recomputes the
commits' hashes from it, so that what is right is right as far as `everfold verify` can tell.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from secrets import token_hex
from typing import Any

from event_store.archive_format import (
    CHUNK_PLACES_MAX,
    OBJECT_OCTETS_MAX,
    Chunk,
    Manifest,
    Place,
    StoredObject,
    chunks_of_events,
    encode_events,
    encode_places,
    in_order,
)
from event_store.archive_reading import ArchivedRange, ArchiveReading
from event_store.connections import StoreConnection
from event_store.integrity import (
    COMMITS_READ_MAX,
    EVENTS_READ_MAX,
    OCTETS_READ_MAX,
    StoredCommit,
    commit_hash,
    leaf_hash,
    micros,
)
from event_store.log import Commit
from event_store.object_errors import ArchiveDamaged
from event_store.object_store import ObjectStore
from event_store.postgres import PostgresLog
from infra.failpoints import failpoint
from infra.sql import load_sql
from schemas.envelope import RecordedEvent

FOLDER_OCTETS = 6
PLACES_READ_MAX = 20_000

Progress = Callable[[int, int, int], None]
"""Told a partition, a range, and the position up to which it is copied."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A range that may be archived."""

    partition: int
    range: int
    first_position: int
    last_position: int
    recorded_at: datetime
    """When its last event was."""
    octets: int
    positions_after: int


def table_of(partition: int, number: int) -> str:
    """Return the name of a range's table."""
    return f"events_p{partition}_r{number}"


async def copy_range(
    log: PostgresLog,
    store: ObjectStore,
    connection: StoreConnection,
    namespace: str,
    candidate: Candidate,
    progress: Progress,
) -> tuple[Manifest, ArchivedRange]:
    """Put a range's events, the places of its streams, and a manifest into a new folder of the archive."""
    partition, first, last = candidate.partition, candidate.first_position, candidate.last_position
    begins, ends = await _commit_at(log, partition, first), await _commit_at(log, partition, last)
    layout = await connection.fetchval(
        load_sql("event_store", "sql/queries/revision.sql", namespace=namespace)
    )
    manifest = Manifest(partition, candidate.range, first, last, _named(begins), _named(ends), layout)
    folder = f"{namespace}/p{partition}/r{candidate.range}-{token_hex(FOLDER_OCTETS)}"
    writer = _ObjectWriter(store, manifest, folder)
    async for events in _events(log, partition, first, last):
        for chunk in chunks_of_events(events):
            manifest.octets += sum(len(event.data) + len(event.metadata) for event in chunk)
            encoded = await asyncio.to_thread(encode_events, chunk)
            manifest.events.append(await writer.add(encoded, chunk[0].position))
        progress(partition, candidate.range, events[-1].position)
    async for places in _places(connection, namespace, manifest):
        encoded = await asyncio.to_thread(encode_places, places)
        manifest.places.append(await writer.add(encoded, list(places[0][:3])))
    await writer.finish()
    content = manifest.encode()
    part = ArchivedRange(
        candidate.range, first, last, f"{writer.folder}/manifest", sha256(content).hexdigest()
    )
    await store.put(part.manifest, content)
    return manifest, part


async def check_range(log: PostgresLog, store: ObjectStore, partition: int, part: ArchivedRange) -> Manifest:
    """
    Read a range back, and compare it with what the database has of it: its commits.

    Raises:
        ArchiveDamaged: It is not what was written.
    """

    async def only(_partition: int) -> Sequence[ArchivedRange]:
        return [part]

    reading = ArchiveReading(store, only)
    manifest = await reading.manifest(part)
    for stored in manifest.objects:
        content = await store.get(stored.name)
        if (len(content), sha256(content).hexdigest()) != (stored.octets, stored.sha256):
            raise ArchiveDamaged(stored.name, "it is not what was written")
    places = _Sum()
    async for group in _commits(log, partition, part.first_position, part.last_position):
        first, last = group[0].commit.first_position, group[-1].commit.last_position
        own_first, own_last = max(first, part.first_position), min(last, part.last_position)
        own = await reading.read_range(partition, own_first, own_last)
        for event in own:
            places.add(Place(event.stream, event.tenant, event.version, event.position))
        before = await log.read_range(partition, first, own_first - 1) if first < own_first else []
        after = await log.read_range(partition, own_last + 1, last) if own_last < last else []
        tags: dict[int, list[str]] = defaultdict(list)
        for tag in await log.read_tags(partition, first, last):
            tags[tag.position].append(tag.tag)
        _check_chain(part.manifest, group, [*before, *own, *after], tags)
    await _check_places(reading, manifest, part, places)
    return manifest


async def _check_places(
    reading: ArchiveReading, manifest: Manifest, part: ArchivedRange, expected: "_Sum"
) -> None:
    found = _Sum()
    before: Any = None
    for chunk in manifest.places:
        for place in await reading.places_of(manifest, chunk):
            if before is not None and in_order(place) <= before:
                raise ArchiveDamaged(part.manifest, f"{place.stream} is not in its order")
            before = in_order(place)
            found.add(place)
    if found != expected:
        raise ArchiveDamaged(part.manifest, "its streams do not have the events that it holds")


def _check_chain(
    name: str,
    group: Sequence[StoredCommit],
    events: Sequence[RecordedEvent],
    tags: Mapping[int, Sequence[str]],
) -> None:
    """Recompute the hashes of commits from events that were read back, and the tags that stay in the database."""
    at = 0
    for stored in group:
        commit = stored.commit
        own = events[at : at + commit.last_position - commit.first_position + 1]
        at += len(own)
        leaves = [leaf_hash(event, micros(event.recorded_at), tags.get(event.position, ())) for event in own]
        recomputed = commit_hash(
            commit.previous_hash, commit.partition, commit.first_position, commit.last_position,
            micros(commit.recorded_at), leaves,
        )  # fmt: skip
        if recomputed != commit.hash:
            raise ArchiveDamaged(
                name,
                f"positions {commit.first_position} to {commit.last_position} do not have their commit's hash",
            )


async def _commit_at(log: PostgresLog, partition: int, position: int) -> Commit:
    commit = await log.commit_of(partition, position)
    assert commit is not None  # candidates lie before the head
    return commit


async def _events(
    log: PostgresLog, partition: int, first: int, last: int
) -> AsyncIterator[Sequence[RecordedEvent]]:
    """Return a range's events, some thousands and some megabytes at a time."""
    async for group in _commits(log, partition, first, last):
        start, end = (
            max(first, group[0].commit.first_position),
            min(last, group[-1].commit.last_position),
        )
        events = await log.read_range(partition, start, end)
        if len(events) != end - start + 1:
            raise ArchiveDamaged(f"partition {partition}", f"positions {start} to {end} are not all there")
        yield events


async def _commits(
    log: PostgresLog, partition: int, first: int, last: int
) -> AsyncIterator[Sequence[StoredCommit]]:
    """Return the commits that a range of positions touches, in groups whose events may be read at once."""
    group: list[StoredCommit] = []
    octets = 0
    after = first - 1
    while after < last:
        commits = await log.read_commits(partition, after, COMMITS_READ_MAX)
        if not commits:
            raise ArchiveDamaged(f"partition {partition}", f"there is no commit after position {after}")
        for stored in commits:
            after = stored.commit.last_position
            events = after - group[0].commit.first_position + 1 if group else 0
            if group and (events > EVENTS_READ_MAX or octets + stored.octets > OCTETS_READ_MAX):
                yield group
                group, octets = [], 0
            group.append(stored)
            octets += stored.octets
            if after >= last:
                break
    if group:
        yield group


async def _places(
    connection: StoreConnection, namespace: str, manifest: Manifest
) -> AsyncIterator[list[Place]]:
    """Return where a range's streams have their events, by stream, tenant and version."""
    sql = load_sql(
        "event_store", "sql/queries/archive_places.sql", namespace=namespace,
        events=table_of(manifest.partition, manifest.range),
    )  # fmt: skip
    chunk: list[Place] = []
    after: tuple[str, str, int] = ("", "", 0)
    while rows := await connection.fetch(sql, *after, PLACES_READ_MAX):
        for row in rows:
            chunk.append(Place(*row))
            if len(chunk) == CHUNK_PLACES_MAX:
                yield chunk
                chunk = []
        after = rows[-1]["stream"], rows[-1]["tenant"], rows[-1]["version"]
    if chunk:
        yield chunk


def _named(commit: Commit) -> tuple[int, int, str, str]:
    return commit.first_position, commit.last_position, commit.hash.hex(), commit.previous_hash.hex()


class _ObjectWriter:
    """Gathers chunks into objects, and puts each into the archive when it is large enough."""

    def __init__(self, store: ObjectStore, manifest: Manifest, folder: str) -> None:
        self.folder = folder
        self._store = store
        self._manifest = manifest
        self._chunks: list[bytes] = []
        self._octets = 0

    async def add(self, chunk: bytes, first: Any) -> Chunk:
        """Take in a chunk, and return where it is."""
        if self._chunks and self._octets + len(chunk) > OBJECT_OCTETS_MAX:
            await self.finish()
        place = Chunk(len(self._manifest.objects), self._octets, len(chunk), sha256(chunk).hexdigest(), first)
        self._chunks.append(chunk)
        self._octets += len(chunk)
        return place

    async def finish(self) -> None:
        """Put what has been gathered into the archive."""
        if not self._chunks:
            return
        content = b"".join(self._chunks)
        name = f"{self.folder}/{len(self._manifest.objects):06}"
        await self._store.put(name, content)
        failpoint("archive.copying")
        self._manifest.objects.append(StoredObject(name, len(content), sha256(content).hexdigest()))
        self._chunks, self._octets = [], 0


class _Sum:
    """A sum over places that does not depend on their order."""

    def __init__(self) -> None:
        self.places = 0
        self.total = 0

    def add(self, place: Place) -> None:
        """Add a place."""
        named = f"{len(place.stream)}:{len(place.tenant)}:{place.version}:{place.position}:{place.stream}{place.tenant}"
        self.places += 1
        self.total = (self.total + int.from_bytes(sha256(named.encode()).digest(), "big")) % (1 << 256)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Sum) and (self.places, self.total) == (other.places, other.total)

    __hash__ = None  # type: ignore[assignment]  # it changes
