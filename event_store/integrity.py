"""
The chain of hashes that makes tampering visible, and its check.

Each event has a leaf: sha256 over a header that spells out its place, its kind, and the length of everything of
variable length, then its data and metadata; where it has tags, sha256 over that and them. Each commit has a hash:
sha256 over the one before it, its own place and time, and the leaves in order. `append_batch_v2` computes them in SQL;
this is the same in Python, and a change of one is a change of both, under a new version.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple, Protocol, runtime_checkable

from event_store.boundaries import TAG_SEPARATOR
from event_store.log import Commit
from event_store.object_errors import ArchiveDamaged
from schemas.envelope import BEGINNING, CommitMark, RecordedEvent

MARK_OCTETS = 4
"""How much of each leaf a commit keeps by itself, so that a check can name the event and not only the commit."""

COMMITS_READ_MAX = 500
EVENTS_READ_MAX = 2_000
OCTETS_READ_MAX = 16 * 1024 * 1024

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Progress = Callable[[int, int], None]
"""Told a partition and a position that has been checked, and all since the one told before."""


class StoredCommit(NamedTuple):
    """A commit's record as it is stored."""

    commit: Commit
    octets: int
    marks: bytes


class StoredTag(NamedTuple):
    """A tag of an event as it is stored; the event's tenant and type stand beside it once more."""

    position: int
    tag: str
    tenant: str
    type: str


Tags = Mapping[int, Sequence[StoredTag]]
"""Of some events, by position."""


@runtime_checkable
class VerifiableLog(Protocol):
    """What the check needs of a log: its records as they are stored, right or wrong."""

    async def read_commits(self, partition: int, after: int, commits_max: int) -> Sequence[StoredCommit]:
        """Return the commits that end after a position, in order."""
        ...

    async def read_range(self, partition: int, first: int, last: int) -> Sequence[RecordedEvent]:
        """Return the events of a range of positions, both included, in order."""
        ...

    async def read_tags(self, partition: int, first: int, last: int) -> Sequence[StoredTag]:
        """Return the tags of a range's events, in order of position and tag."""
        ...

    async def last_position(self, partition: int) -> int:
        """Return the highest position for which there is an event."""
        ...


class Slice(NamedTuple):
    """A part of one partition's history that can be checked by itself: the parts on both sides share its ends."""

    partition: int
    after: CommitMark
    until: CommitMark | None
    """A commit of the records, as they were when the slice was cut; None: the end, and what lies beyond it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing in a partition that is not as it was written."""

    partition: int
    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class LogReport:
    """What a check of the log found."""

    ok: bool
    events: int
    first_bad: Fault | None = None
    marks: Mapping[int, CommitMark] = field(default_factory=dict)
    """By partition the commit up to which everything is as written."""

    def document(self) -> dict[str, Any]:
        """Return the report as `verify --json` prints it."""
        return {"ok": self.ok, "first_bad": asdict(self.first_bad) if self.first_bad else None}


class SliceReport(NamedTuple):
    """What a check of a slice found."""

    events: int
    end: CommitMark
    """Up to where everything is as written."""
    fault: Fault | None = None


def micros(instant: datetime) -> int:
    """Return a time as whole microseconds since 1970."""
    return (instant - _EPOCH) // _MICROSECOND


def leaf_hash(event: RecordedEvent, recorded_micros: int, tags: Sequence[str] = ()) -> bytes:
    """Return an event's leaf; `tags` in the order of `canonical_tags`."""
    partition, position, tenant, stream, version, id_, type_, schema_version, data, metadata, _ = event
    names = tenant + stream + type_
    lengths = f"{len(tenant)}:{len(stream)}:{len(type_)}"
    if not names.isascii():  # lengths are of octets
        lengths = f"{len(tenant.encode())}:{len(stream.encode())}:{len(type_.encode())}"
    header = (
        f"{partition}:{position}:{version}:{schema_version}:{recorded_micros}"
        f":{lengths}:{len(data)}:{len(metadata)}:{id_}:{names}"
    )
    leaf = sha256(b"".join((header.encode(), data, metadata))).digest()
    return sha256(leaf + TAG_SEPARATOR.join(tags).encode()).digest() if tags else leaf


def commit_hash(
    previous: bytes, partition: int, first: int, last: int, recorded_micros: int, leaves: Sequence[bytes]
) -> bytes:
    """Return the hash of a commit."""
    header = f"{partition}:{first}:{last}:{recorded_micros}:".encode()
    return sha256(b"".join((previous, header, *leaves))).digest()


def marks_of(leaves: Sequence[bytes]) -> bytes:
    """Return what a commit keeps of its leaves."""
    return b"".join(leaf[:MARK_OCTETS] for leaf in leaves)


async def verify_log(
    log: VerifiableLog, partitions: Sequence[int], progress: Progress | None = None
) -> LogReport:
    """Recompute the chain of every partition, in bounded memory, and name the first thing that is not as written."""
    slices = [Slice(partition, BEGINNING, None) for partition in partitions]
    return summed(slices, [await verify_slice(log, one, progress) for one in slices])


def summed(slices: Sequence[Slice], reports: Sequence[SliceReport | None]) -> LogReport:
    """Return what checks of slices, in order, say of the log; None: not checked, as one before it is not as written."""
    events, marks, first_bad = 0, dict[int, CommitMark](), dict[int, Fault]()
    for one, report in zip(slices, reports, strict=True):
        if one.partition in first_bad:
            continue
        assert report is not None
        events += report.events
        marks[one.partition] = report.end
        if report.fault:
            first_bad[one.partition] = report.fault
    return LogReport(not first_bad, events, next(iter(first_bad.values()), None), marks)


async def verify_slice(log: VerifiableLog, one: Slice, progress: Progress | None = None) -> SliceReport:
    """Recompute the chain from one commit to another, and name the first thing that is not as written."""
    partition, end = one.partition, one.after
    reading = _groups_of(log, one)
    # The next group is fetched while this one is hashed; the server works beside us.
    ahead = asyncio.ensure_future(anext(reading, None))
    try:
        while (group := await ahead) is not None:
            ahead = asyncio.ensure_future(anext(reading, None))
            await asyncio.sleep(0)
            commits, events, tags = group
            for stored in commits:
                fault = _check_commit(end, stored, events, tags)
                if fault:
                    return _report(one, end, fault)
                end = stored.commit.mark
            if progress:
                progress(partition, end.position)
    except _Stray:
        return _report(one, end, Fault(partition, end.position + 1, "belongs to no commit"))
    except _Damaged as damaged:
        return _report(one, end, damaged.fault)
    finally:
        ahead.cancel()
        await asyncio.gather(ahead, return_exceptions=True)
        await reading.aclose()
    if one.until is not None and end != one.until:
        # It was there when the slice was cut: somebody is at work this very moment.
        return _report(one, end, Fault(partition, end.position + 1, "the commit is missing"))
    return _report(one, end, None)


def _report(one: Slice, end: CommitMark, fault: Fault | None) -> SliceReport:
    return SliceReport(end.position - one.after.position, end, fault)


class _Stray(Exception):
    """There are events beyond the last commit."""


class _Damaged(Exception):
    """What the archive holds is not what was put there."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


async def _groups_of(
    log: VerifiableLog, one: Slice
) -> AsyncGenerator[tuple[Sequence[StoredCommit], Sequence[RecordedEvent], Tags]]:
    """Read a slice: runs of commits, each with its events and their tags."""
    partition, end = one.partition, one.after.position
    while one.until is None or end < one.until.position:
        # Read before the commits: an append that comes in between adds to both, and is not taken for a stray.
        last = await log.last_position(partition) if one.until is None else end
        commits = await log.read_commits(partition, end, COMMITS_READ_MAX)
        if not commits:
            if last > end:
                raise _Stray
            return
        if one.until is not None:
            commits = [stored for stored in commits if stored.commit.last_position <= one.until.position]
        for group in _groups(commits, end):
            first, last = group[0].commit.first_position, group[-1].commit.last_position
            if first != end + 1:
                yield group, (), {}
                return
            tags: dict[int, list[StoredTag]] = defaultdict(list)
            for tag in await log.read_tags(partition, first, last):
                tags[tag.position].append(tag)
            try:
                events = await log.read_range(partition, first, last)
            except ArchiveDamaged as error:
                raise _Damaged(
                    Fault(partition, first, f"in the archive {error.object}: {error.problem}")
                ) from error
            yield group, events, tags
            end = last
        if not commits:
            return


def _groups(commits: Sequence[StoredCommit], end: int) -> Sequence[Sequence[StoredCommit]]:
    """Cut commits into runs whose events may be read at once; one that does not follow begins a run."""
    groups: list[list[StoredCommit]] = []
    events = octets = 0
    for stored in commits:
        size = stored.commit.last_position - stored.commit.first_position + 1
        follows = stored.commit.first_position == end + 1
        is_full = events + size > EVENTS_READ_MAX or octets + stored.octets > OCTETS_READ_MAX
        if not groups or not follows or is_full:
            groups.append([])
            events = octets = 0
        groups[-1].append(stored)
        events, octets, end = events + size, octets + stored.octets, stored.commit.last_position
    return groups


def _check_commit(
    before: CommitMark, stored: StoredCommit, events: Sequence[RecordedEvent], tags: Tags
) -> Fault | None:
    commit = stored.commit
    partition, first, last = commit.partition, commit.first_position, commit.last_position
    if first != before.position + 1:
        return Fault(partition, min(first, before.position + 1), "the commit is missing")
    if commit.previous_hash != before.hash:
        return Fault(partition, first, "the commit does not follow the one before it")
    offset = first - events[0].position if events else 0
    own = events[offset : offset + last - first + 1] if offset >= 0 else ()
    recorded_micros = micros(commit.recorded_at)
    if tags:
        leaves = [
            leaf_hash(event, recorded_micros, [tag.tag for tag in tags.get(event.position, ())])
            for event in own
        ]
    else:
        leaves = [leaf_hash(event, recorded_micros) for event in own]
    if (
        len(own) == last - first + 1
        and all(event.recorded_at == commit.recorded_at for event in own)
        and stored.marks == marks_of(leaves)
        and stored.octets == sum(len(event.data) + len(event.metadata) for event in own)
        and commit.hash == commit_hash(before.hash, partition, first, last, recorded_micros, leaves)
        and not (tags and any(_has_odd_tag(event, tags) for event in own))
    ):
        return None
    return _name_fault(stored, own, tags)


def _has_odd_tag(event: RecordedEvent, tags: Tags) -> bool:
    """Say whether what stands beside a tag once more is not the event's own."""
    return any((tag.tenant, tag.type) != (event.tenant, event.type) for tag in tags.get(event.position, ()))


def _name_fault(stored: StoredCommit, own: Sequence[RecordedEvent], tags: Tags) -> Fault:
    """Return the first of a commit's events that is not as it was written; where all are, it is the record."""
    commit = stored.commit
    for number, position in enumerate(range(commit.first_position, commit.last_position + 1)):
        event = own[number] if number < len(own) else None
        if event is None or event.position != position:
            return Fault(commit.partition, position, "the event is missing")
        if _has_odd_tag(event, tags):
            return Fault(commit.partition, position, "a tag is not as it was written")
        leaf = leaf_hash(event, micros(event.recorded_at), [tag.tag for tag in tags.get(position, ())])
        mark = stored.marks[number * MARK_OCTETS : (number + 1) * MARK_OCTETS]
        if mark != leaf[:MARK_OCTETS] or event.recorded_at != commit.recorded_at:
            return Fault(commit.partition, position, "the event is not as it was written")
    return Fault(commit.partition, commit.first_position, "the commit's record is not as it was written")
