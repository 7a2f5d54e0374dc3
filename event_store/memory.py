"""
The log in memory, for tests: the same answers as on PostgreSQL, computed the plain way, one append after another.

Nothing here awaits, so every call is atomic by itself. `placements` are the tenants that do not live where the hash
of their name says; `clock` gives the time of commits.
"""

from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from event_store.codec import Batch
from event_store.integrity import StoredCommit, commit_hash, leaf_hash, marks_of, micros
from event_store.log import Answer, Append, Check, Commit, Expect, NewEvent, Outcome, Page, StreamTail
from event_store.placement import home_of
from schemas.envelope import BEGINNING, CommitMark, RecordedEvent
from schemas.errors import EpochChanged

_Stream = tuple[str, str]
_Key = tuple[str, str, str]
_Waiting = tuple[Append, NewEvent, int]
"""An event that is to be committed, of which append, and its version."""


@dataclass
class _Partition:
    """What the tables hold of one partition."""

    number: int
    events: list[RecordedEvent] = field(default_factory=list)
    commits: list[StoredCommit] = field(default_factory=list)
    streams: dict[_Stream, list[RecordedEvent]] = field(default_factory=dict)
    keys: dict[_Key, tuple[bytes, Outcome]] = field(default_factory=dict)

    @property
    def head(self) -> CommitMark:
        return self.commits[-1].commit.mark if self.commits else BEGINNING

    def following(self, position: int) -> Sequence[StoredCommit]:
        """Return the commits that end at a position or after it."""
        return self.commits[
            bisect_left(self.commits, position, key=lambda stored: stored.commit.last_position) :
        ]

    def require(self, mark: CommitMark) -> None:
        """Refuse a place that is not in this history."""
        if mark.position and next((s.commit.mark for s in self.following(mark.position)), None) != mark:
            raise EpochChanged(self.number, mark.position)

    def commit(self, waiting: Sequence[_Waiting], recorded_at: datetime) -> None:
        """Add events and the record of their commit."""
        before, events = self.head, []
        for position, (append, event, version) in enumerate(waiting, before.position + 1):
            recorded = RecordedEvent(
                self.number, position, append.tenant, event.stream, version, event.id, event.type,
                event.schema_version, event.data, append.metadata, recorded_at,
            )  # fmt: skip
            self.streams.setdefault((append.tenant, event.stream), []).append(recorded)
            events.append(recorded)
        leaves = [leaf_hash(event, micros(recorded_at)) for event in events]
        first, last = events[0].position, events[-1].position
        hash_ = commit_hash(before.hash, self.number, first, last, micros(recorded_at), leaves)
        octets = sum(len(event.data) + len(event.metadata) for event in events)
        commit = Commit(self.number, first, last, recorded_at, hash_, before.hash)
        self.commits.append(StoredCommit(commit, octets, marks_of(leaves)))
        self.events.extend(events)


class _Run:
    """One batch on its way through a partition; nothing shows until it is committed."""

    def __init__(self, partition: _Partition) -> None:
        self.partition = partition
        self.waiting: list[_Waiting] = []
        self.grown: dict[_Stream, int] = {}
        self.writer: dict[_Stream, int] = {}
        self.keys: dict[_Key, tuple[bytes, Outcome]] = {}
        self.answers: list[Answer] = []

    def version(self, stream: _Stream) -> int:
        return len(self.partition.streams.get(stream, ())) + self.grown.get(stream, 0)

    def answer(self, append: Append) -> Outcome:
        """Answer one append, as if it were alone and came after those before it."""
        bound = self._bound(append)
        failed = None if bound else self._failed(append)
        if bound and append.key and bound[0] == append.key.fingerprint:
            outcome = bound[1]._replace(answer=Answer.DUPLICATE)
        else:
            answer = Answer.REUSED if bound else Answer.CONFLICT if failed else Answer.APPENDED
            if answer is Answer.APPENDED:
                self._add(append)
            outcome = self._outcome(append, answer, failed)
        if outcome.answer is Answer.APPENDED and append.key and append.binds:
            self.keys[append.tenant, append.key.subject, append.key.key] = (append.key.fingerprint, outcome)
        for stream in {event.stream for event in append.events}:
            self.writer[append.tenant, stream] = len(self.answers)
        self.answers.append(outcome.answer)
        return outcome

    def _bound(self, append: Append) -> tuple[bytes, Outcome] | None:
        if append.key is None:
            return None
        key = (append.tenant, append.key.subject, append.key.key)
        return self.partition.keys.get(key) or self.keys.get(key)

    def _failed(self, append: Append) -> str | None:
        """Return the first stream of which the append requires what does not hold."""
        for check in append.checks:
            stream = (append.tenant, check.stream)
            builds_on = self.writer.get(stream)
            if builds_on is not None and self.answers[builds_on] is not Answer.APPENDED:
                return check.stream
            if not _holds(check, self.version(stream)):
                return check.stream
        return None

    def _add(self, append: Append) -> None:
        for event in append.events:
            stream = (append.tenant, event.stream)
            self.waiting.append((append, event, self.version(stream) + 1))
            self.grown[stream] = self.grown.get(stream, 0) + 1

    def _outcome(self, append: Append, answer: Answer, failed: str | None) -> Outcome:
        return Outcome(
            answer,
            self.partition.head.position + len(self.waiting),
            len(append.events) if answer is Answer.APPENDED else 0,
            self.partition.head,
            append.stream,
            self.version((append.tenant, append.stream)),
            failed,
        )


class MemoryLog:
    """The log, in memory. Keeps `event_store.log.EventLog`."""

    def __init__(
        self,
        partitions: int = 1,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        placements: Mapping[str, int] | None = None,
    ) -> None:
        self.partitions: Sequence[int] = tuple(range(partitions))
        self._clock, self._placements = clock, placements or {}
        self._parts = {number: _Partition(number) for number in self.partitions}

    async def partition_of(self, tenant: str) -> int:
        """Return where a tenant lives: a stable hash, unless an override says otherwise."""
        return self._placements.get(tenant, home_of(tenant, self.partitions))

    async def append_batch(
        self, partition: int, appends: Sequence[Append], *, known: CommitMark | None = None
    ) -> Sequence[Outcome]:
        """Carry out independent appends in order, in one commit; see `EventLog.append_batch`."""
        if not appends:
            return ()
        Batch(appends)  # it knows the bounds
        part = self._parts[partition]
        part.require(known or BEGINNING)
        before, run = part.head, _Run(part)
        outcomes = [run.answer(append) for append in appends]
        if run.waiting:
            recorded_at = self._clock()
            if part.commits:
                recorded_at = max(recorded_at, part.commits[-1].commit.recorded_at)
            part.commit(run.waiting, recorded_at)

        def committed(outcome: Outcome) -> Outcome:
            is_new = outcome.position > before.position
            return outcome._replace(commit=part.head) if is_new else outcome

        part.keys.update(
            {key: (fingerprint, committed(first)) for key, (fingerprint, first) in run.keys.items()}
        )
        return [committed(outcome) for outcome in outcomes]

    async def settle(self, partition: int, append: Append) -> Outcome | None:
        """Say what became of an append whose outcome is unknown. Here none ever is, but it may be asked."""
        part, key = self._parts[partition], append.key
        ids = [event.id for event in append.events]
        found = next((e for e in part.events if ids and e.id == ids[0]), None)
        bound = part.keys.get((append.tenant, key.subject, key.key)) if key else None
        if bound and key:
            answer = Answer.APPENDED if found else Answer.DUPLICATE
            return bound[1]._replace(answer=answer if bound[0] == key.fingerprint else Answer.REUSED)
        if found is None:
            return None
        last = found.position + len(ids) - 1
        own = part.streams.get((append.tenant, append.stream), [])
        version = sum(event.position <= last for event in own)
        commit = part.following(last)[0].commit.mark
        return Outcome(Answer.APPENDED, last, len(ids), commit, append.stream, version)

    async def read_tails(
        self, partition: int, tails: Sequence[StreamTail]
    ) -> tuple[Sequence[RecordedEvent], CommitMark]:
        """Return many streams' events in order of position, and the head that they were read at."""
        part = self._parts[partition]
        events = [
            event
            for tail in tails
            for event in part.streams.get((tail.tenant, tail.stream), [])[tail.after_version :]
        ]
        return sorted(events), part.head

    async def read_stream(
        self,
        tenant: str,
        stream: str,
        *,
        after_version: int = 0,
        until_position: int | None = None,
        until_time: datetime | None = None,
    ) -> AsyncIterator[RecordedEvent]:
        """Return one stream's events, oldest first."""
        part = self._parts[await self.partition_of(tenant)]
        for event in part.streams.get((tenant, stream), [])[after_version:]:
            if until_position is not None and event.position > until_position:
                return
            if until_time is not None and event.recorded_at > until_time:
                return
            yield event

    async def read_page(
        self, partition: int, after: CommitMark, *, events_max: int, bytes_max: int = 8 * 1024 * 1024
    ) -> Page:
        """Return what follows a place in the partition's history, whole commits only; see `EventLog.read_page`."""
        part = self._parts[partition]
        part.require(after)
        commits: list[Commit] = []
        octets = 0
        for stored in part.following(after.position + 1):
            octets += stored.octets
            is_over = stored.commit.last_position - after.position > events_max or octets > bytes_max
            if commits and is_over:
                break
            commits.append(stored.commit)
        end = commits[-1].mark if commits else after
        return Page(partition, after, part.events[after.position : end.position], end, commits)

    async def read_range(self, partition: int, first: int, last: int) -> Sequence[RecordedEvent]:
        """Return the events of a range of positions, both included, in order."""
        return self._parts[partition].events[max(first, 1) - 1 : max(last, 0)]

    async def head(self, partition: int) -> Commit | None:
        """Return the partition's last commit; None when nothing was ever appended."""
        commits = self._parts[partition].commits
        return commits[-1].commit if commits else None

    async def heads(self) -> Mapping[int, CommitMark]:
        """Return every partition's head."""
        return {number: part.head for number, part in self._parts.items()}

    async def commit_of(self, partition: int, position: int) -> Commit | None:
        """Return the commit that a position belongs to; None when it is still to come."""
        following = self._parts[partition].following(position) if position > 0 else ()
        return following[0].commit if following else None

    async def read_commits(self, partition: int, after: int, commits_max: int) -> Sequence[StoredCommit]:
        """Return the commits that end after a position."""
        return self._parts[partition].following(after + 1)[:commits_max]

    async def last_position(self, partition: int) -> int:
        """Return the highest position for which there is an event."""
        return len(self._parts[partition].events)


def _holds(check: Check, version: int) -> bool:
    match check.expected:
        case Expect.ANY:
            return True
        case Expect.EXISTS:
            return version > 0
        case expected:
            return version == expected
