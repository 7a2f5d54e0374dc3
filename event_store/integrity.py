"""
The chain of hashes that makes tampering visible, and its check.

Each event has a leaf: sha256 over a header that spells out its place, its kind, and the length of everything of
variable length, then its data and metadata. Each commit has a hash: sha256 over the one before it, its own
place and time, and the leaves in order. `append_batch_v1` computes them in SQL; this is the same in Python, and a
change of one is a change of both, under a new version.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple, Protocol, runtime_checkable

from event_store.log import Commit
from schemas.envelope import BEGINNING, CommitMark, RecordedEvent

MARK_OCTETS = 4
"""How much of each leaf a commit keeps by itself, so that a check can name the event and not only the commit."""

COMMITS_READ_MAX = 500
EVENTS_READ_MAX = 2_000
OCTETS_READ_MAX = 16 * 1024 * 1024

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Progress = Callable[[int, int], None]
"""Told a partition and how far it has been checked."""


class StoredCommit(NamedTuple):
    """A commit's record as it is stored."""

    commit: Commit
    octets: int
    marks: bytes


@runtime_checkable
class VerifiableLog(Protocol):
    """What the check needs of a log: its records as they are stored, right or wrong."""

    async def read_commits(self, partition: int, after: int, commits_max: int) -> Sequence[StoredCommit]:
        """Return the commits that end after a position, in order."""
        ...

    async def read_range(self, partition: int, first: int, last: int) -> Sequence[RecordedEvent]:
        """Return the events of a range of positions, both included, in order."""
        ...

    async def last_position(self, partition: int) -> int:
        """Return the highest position for which there is an event."""
        ...


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

    def document(self) -> dict[str, Any]:
        """Return the report as `verify --json` prints it."""
        return {"ok": self.ok, "first_bad": asdict(self.first_bad) if self.first_bad else None}


def micros(instant: datetime) -> int:
    """Return a time as whole microseconds since 1970."""
    return (instant - _EPOCH) // _MICROSECOND


def leaf_hash(event: RecordedEvent, recorded_micros: int) -> bytes:
    """Return an event's leaf."""
    tenant, stream, type_ = event.tenant.encode(), event.stream.encode(), event.type.encode()
    header = (
        f"{event.partition}:{event.position}:{event.version}:{event.schema_version}:{recorded_micros}"
        f":{len(tenant)}:{len(stream)}:{len(type_)}:{len(event.data)}:{len(event.metadata)}:{event.id}:"
    )
    return sha256(b"".join((header.encode(), tenant, stream, type_, event.data, event.metadata))).digest()


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
    events = 0
    first_bad: Fault | None = None
    for partition in partitions:
        counted, fault = await _verify_partition(log, partition, progress)
        events += counted
        first_bad = first_bad or fault
    return LogReport(first_bad is None, events, first_bad)


async def _verify_partition(
    log: VerifiableLog, partition: int, progress: Progress | None
) -> tuple[int, Fault | None]:
    end, counted = BEGINNING, 0
    while True:
        # Read before the commits: an append that comes in between adds to both, and is not taken for a stray.
        last = await log.last_position(partition)
        commits = await log.read_commits(partition, end.position, COMMITS_READ_MAX)
        if not commits:
            stray = (
                Fault(partition, end.position + 1, "belongs to no commit") if last > end.position else None
            )
            return counted, stray
        for group in _groups(commits):
            first = min(end.position + 1, group[0].commit.first_position)
            events = await log.read_range(partition, first, group[-1].commit.last_position)
            for stored in group:
                fault = _check_commit(end, stored, events)
                if fault:
                    return counted, fault
                counted += stored.commit.last_position - stored.commit.first_position + 1
                end = stored.commit.mark
            if progress:
                progress(partition, end.position)


def _groups(commits: Sequence[StoredCommit]) -> Sequence[Sequence[StoredCommit]]:
    """Cut commits into runs whose events may be read at once."""
    groups: list[list[StoredCommit]] = []
    events = octets = 0
    for stored in commits:
        size = stored.commit.last_position - stored.commit.first_position + 1
        if not groups or events + size > EVENTS_READ_MAX or octets + stored.octets > OCTETS_READ_MAX:
            groups.append([])
            events = octets = 0
        groups[-1].append(stored)
        events, octets = events + size, octets + stored.octets
    return groups


def _check_commit(before: CommitMark, stored: StoredCommit, events: Sequence[RecordedEvent]) -> Fault | None:
    commit = stored.commit
    partition, first = commit.partition, commit.first_position
    if first != before.position + 1:
        return Fault(partition, min(first, before.position + 1), "the commit is missing")
    if commit.previous_hash != before.hash:
        return Fault(partition, first, "the commit does not follow the one before it")
    offset = first - events[0].position if events else 0
    own = events[offset : offset + commit.last_position - first + 1] if offset >= 0 else ()
    leaves: list[bytes] = []
    recorded_micros = micros(commit.recorded_at)
    suspect: Fault | None = None
    for number, position in enumerate(range(first, commit.last_position + 1)):
        event = own[number] if number < len(own) else None
        if event is None or event.position != position:
            return Fault(partition, position, "the event is missing")
        same_time = event.recorded_at == commit.recorded_at
        leaf = leaf_hash(event, recorded_micros if same_time else micros(event.recorded_at))
        mark = stored.marks[number * MARK_OCTETS : (number + 1) * MARK_OCTETS]
        if suspect is None and (mark != leaf[:MARK_OCTETS] or not same_time):
            suspect = Fault(partition, position, "the event is not as it was written")
        leaves.append(leaf)
    octets = sum(len(event.data) + len(event.metadata) for event in own)
    if suspect or len(stored.marks) != len(leaves) * MARK_OCTETS or stored.octets != octets:
        return suspect or Fault(partition, first, "the commit's record is not as it was written")
    if (
        commit_hash(before.hash, partition, first, commit.last_position, recorded_micros, leaves)
        != commit.hash
    ):
        return Fault(partition, first, "the commit's record is not as it was written")
    return None
