"""
The log in memory, for tests: the same answers as on PostgreSQL, computed the plain way, one append after another.

Nothing here awaits, so every call is atomic by itself. `placements` are the tenants that do not live where the hash
of their name says; `clock` gives the time of commits.
"""

from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain

from event_store.boundaries import canonical_tags
from event_store.codec import Batch
from event_store.feed import before_arrival
from event_store.integrity import StoredCommit, StoredTag, commit_hash, leaf_hash, marks_of, micros
from event_store.log import (
    CONDITION,
    Answer,
    Append,
    Check,
    Commit,
    Expect,
    Filter,
    Matches,
    NewEvent,
    Outcome,
    Page,
    QueryItem,
    SavedState,
    Snapshot,
    StateTail,
    StreamStates,
    StreamTail,
    TagTail,
)
from event_store.move_events import arriving, leaving
from event_store.placement import home_of
from event_store.residences import Move, Residences
from schemas.envelope import BEGINNING, CommitMark, RecordedEvent
from schemas.errors import EpochChanged, TenantMoving
from schemas.moves import stream_of

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
    bases: dict[_Stream, int] = field(default_factory=dict)
    """Of tenants that came here, the versions that their streams had."""
    keys: dict[_Key, tuple[bytes, Outcome]] = field(default_factory=dict)
    tags: dict[int, Sequence[str]] = field(default_factory=dict)
    snapshots: dict[tuple[str, str, bytes], Snapshot] = field(default_factory=dict)
    forgotten: set[_Stream] = field(default_factory=set)

    @property
    def head(self) -> CommitMark:
        return self.commits[-1].commit.mark if self.commits else BEGINNING

    def version(self, stream: _Stream) -> int:
        """Return a stream's version, wherever its events are."""
        return self.bases.get(stream, 0) + len(self.streams.get(stream, ()))

    def part_of(self, stream: _Stream, after_version: int) -> Sequence[RecordedEvent]:
        """Return what a stream has here after a version."""
        return self.streams.get(stream, [])[max(after_version - self.bases.get(stream, 0), 0) :]

    def carrying(self, tenant: str, tag: str, after: int) -> Iterator[RecordedEvent]:
        """Return the tenant's events here that carry a tag, after a position."""
        for event in self.events[max(after, 0) :]:
            if event.tenant == tenant and tag in self.tags.get(event.position, ()):
                yield event

    def following(self, position: int) -> Sequence[StoredCommit]:
        """Return the commits that end at a position or after it."""
        return self.commits[
            bisect_left(self.commits, position, key=lambda stored: stored.commit.last_position) :
        ]

    def require(self, mark: CommitMark) -> None:
        """Refuse a place that is not in this history."""
        if mark.position and not self.has(mark):
            raise EpochChanged(self.number, mark.position)

    def has(self, mark: CommitMark) -> bool:
        """Say whether a commit is in this history."""
        return next((s.commit.mark for s in self.following(mark.position)), None) == mark

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
            if event.tags:
                self.tags[position] = canonical_tags(event.tags)
        leaves = [leaf_hash(e, micros(recorded_at), self.tags.get(e.position, ())) for e in events]
        first, last = events[0].position, events[-1].position
        hash_ = commit_hash(before.hash, self.number, first, last, micros(recorded_at), leaves)
        octets = sum(len(event.data) + len(event.metadata) for event in events)
        commit = Commit(self.number, first, last, recorded_at, hash_, before.hash)
        self.commits.append(StoredCommit(commit, octets, marks_of(leaves)))
        self.events.extend(events)


class _Run:
    """One batch on its way through a partition; nothing shows until it is committed."""

    def __init__(self, partition: _Partition, past_of: Callable[[str], Sequence[_Partition]]) -> None:
        self.partition, self.past_of = partition, past_of
        self.waiting: list[_Waiting] = []
        self.grown: dict[_Stream, int] = {}
        self.writer: dict[_Stream, int] = {}
        self.keys: dict[_Key, tuple[bytes, Outcome]] = {}
        self.answers: list[Answer] = []

    def version(self, stream: _Stream) -> int:
        return self.partition.version(stream) + self.grown.get(stream, 0)

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
        happened = any(
            self._happened(append.tenant, item, condition.after)
            for condition in append.conditions
            for item in condition.items
        )
        return CONDITION if happened else None

    def _happened(self, tenant: str, item: QueryItem, after: int) -> bool:
        """Say whether an event matches an item, after a position or before in this batch."""
        parts = [self.partition] if after else [*self.past_of(tenant), self.partition]
        stored = (
            (event.tenant, event.type, part.tags.get(event.position, ()))
            for part in parts
            for event in part.events[max(after, 0) :]
        )
        before = ((append.tenant, event.type, event.tags) for append, event, _ in self.waiting)
        return any(
            own == tenant and set(item.tags) <= set(tags) and (not item.types or type_ in item.types)
            for own, type_, tags in chain(stored, before)
        )

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
        self._moves: dict[str, list[Move]] = {}

    async def partition_of(self, tenant: str) -> int:
        """Return where a tenant lives, to append by; see `EventLog.partition_of`."""
        found = self._residences(tenant)
        if found.is_moving:
            raise TenantMoving
        return found.present.partition

    async def likely_partition_of(self, tenant: str) -> int:
        """Return where a tenant lives, or came from while it is on its way."""
        return self._residences(tenant).present.partition

    async def residences_of(self, tenant: str) -> Residences:
        """Return where a tenant lives and has lived."""
        return self._residences(tenant)

    async def moved_tenants(self, partition: int) -> Collection[str]:
        """Return the tenants that have left a partition or come to it."""
        return {
            tenant
            for tenant, moves in self._moves.items()
            if any(partition in (move.from_partition, move.to_partition) for move in moves)
        }

    def _residences(self, tenant: str) -> Residences:
        placed = self._placements.get(tenant, home_of(tenant, self.partitions))
        return Residences(tenant, placed, self._moves.get(tenant, ()))

    def _past_of(self, partition: int) -> Callable[[str], Sequence[_Partition]]:
        """Return what says where a tenant lived before it came to a partition."""
        return lambda tenant: [
            self._parts[one.partition] for one in self._residences(tenant).before(partition)
        ]

    async def move_tenant(self, tenant: str, to: int) -> None:
        """Move a tenant to another partition."""
        await self.leave(tenant, to)
        await self.arrive(tenant)

    async def leave(self, tenant: str, to: int) -> None:
        """Take the first half of a move: the fence. The tenant takes no events until it has arrived."""
        moves = self._moves.setdefault(tenant, [])
        at = await self.partition_of(tenant)
        version = self._parts[at].version((tenant, stream_of(tenant)))
        (outcome,) = await self.append_batch(at, [leaving(tenant, version, len(moves) + 1, to)])
        left_at = self._parts[at].commits[-1].commit.recorded_at
        moves.append(Move(tenant, len(moves) + 1, at, outcome.commit, left_at, to))

    async def arrive(self, tenant: str) -> None:
        """Take the second half of a move: whatever is appended from here on is in the new partition."""
        move = self._moves[tenant][-1]
        here, there = self._parts[move.from_partition], self._parts[move.to_partition]
        for stream in {*here.streams, *here.bases}:
            if stream[0] == tenant:
                there.bases[stream] = here.version(stream)
        for key, (fingerprint, first) in here.keys.items():
            if key[0] == tenant:
                partition = here.number if first.partition is None else first.partition
                there.keys[key] = fingerprint, first._replace(partition=partition)
        self._moves[tenant][-1] = move._replace(
            arrived_position=there.head.position + 1, arrived_at=self._clock()
        )
        await self.append_batch(there.number, [arriving(move, there.version((tenant, stream_of(tenant))))])
        arrived_at = there.commits[-1].commit.recorded_at
        self._moves[tenant][-1] = self._moves[tenant][-1]._replace(arrived_at=arrived_at)

    async def append_batch(
        self, partition: int, appends: Sequence[Append], *, known: CommitMark | None = None
    ) -> Sequence[Outcome]:
        """Carry out independent appends in order, in one commit; see `EventLog.append_batch`."""
        if not appends:
            return ()
        Batch(appends).arguments()  # it knows the bounds
        part = self._parts[partition]
        for tenant in {append.tenant for append in appends} & self._moves.keys():
            if await self.partition_of(tenant) != partition:
                raise TenantMoving
        part.require(known or BEGINNING)
        before, run = part.head, _Run(part, self._past_of(partition))
        outcomes = [run.answer(append) for append in appends]
        if run.waiting:
            recorded_at = self._clock()
            if part.commits:
                recorded_at = max(recorded_at, part.commits[-1].commit.recorded_at)
            part.commit(run.waiting, recorded_at)

        def committed(outcome: Outcome) -> Outcome:
            is_new = outcome.position > before.position and outcome.partition is None
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
        main = append.tenant, append.stream
        version = part.bases.get(main, 0) + sum(
            event.position <= last for event in part.streams.get(main, [])
        )
        commit = part.following(last)[0].commit.mark
        return Outcome(Answer.APPENDED, last, len(ids), commit, append.stream, version)

    async def read_tails(
        self, partition: int, tails: Sequence[StreamTail]
    ) -> tuple[Sequence[RecordedEvent], CommitMark]:
        """Return many streams' events in order of position, and the head that they were read at."""
        past_of, part = self._past_of(partition), self._parts[partition]
        events = [
            (number, event)
            for tail in tails
            for number, at in enumerate([*past_of(tail.tenant), part], -len(past_of(tail.tenant)))
            for event in at.part_of((tail.tenant, tail.stream), tail.after_version)
        ]
        return [event for _, event in sorted(events)], part.head

    async def read_tagged(
        self, partition: int, tails: Sequence[TagTail]
    ) -> tuple[Sequence[Sequence[RecordedEvent]], CommitMark]:
        """Return the events that carry each of some tags, in order, and the head that they were read at."""
        past_of, part = self._past_of(partition), self._parts[partition]
        return [
            [
                event
                for at in ([part] if tail.after else [*past_of(tail.tenant), part])
                for event in at.carrying(tail.tenant, tail.tag, tail.after)
            ]
            for tail in tails
        ], part.head

    async def read_tags(self, partition: int, first: int, last: int) -> Sequence[StoredTag]:
        """Return the tags of the events of a range of positions, in order."""
        part = self._parts[partition]
        return [
            StoredTag(event.position, tag, event.tenant, event.type)
            for event in part.events[max(first, 1) - 1 : max(last, 0)]
            for tag in part.tags.get(event.position, ())
        ]

    async def read_states(self, partition: int, tails: Sequence[StateTail]) -> StreamStates:
        """Return many streams' saved states and the events that follow; see `EventLog.read_states`."""
        part = self._parts[partition]
        saved: list[SavedState] = []
        rest: list[StreamTail] = []
        for tenant, stream, after, shape in tails:
            for at in reversed([*self._past_of(partition)(tenant), part]):
                known = at.snapshots.get((tenant, stream, shape or b""))
                if known is not None and known.version > after and at.has(known.commit):
                    saved.append(SavedState(tenant, stream, known.version, known.state))
                    after = known.version
            rest.append(StreamTail(tenant, stream, after))
        events, head = await self.read_tails(partition, rest)
        return StreamStates(saved, events, head)

    async def save_states(self, partition: int, snapshots: Sequence[Snapshot]) -> int:
        """Keep states of streams, each in place of an older one of the same shape; see `EventLog.save_states`."""
        part, kept = self._parts[partition], 0
        for snapshot in snapshots:
            key = (snapshot.tenant, snapshot.stream, snapshot.shape)
            before = part.snapshots.get(key)
            is_newer = before is None or before.version < snapshot.version or not part.has(before.commit)
            if is_newer and part.has(snapshot.commit) and key[:2] not in part.forgotten:
                part.snapshots[key] = snapshot
                kept += 1
        return kept

    async def forget_states(self, tenant: str, streams: Sequence[str]) -> int:
        """Delete the saved states of streams, and never keep one of them again."""
        forgotten = 0
        for residence in self._residences(tenant):
            part = self._parts[residence.partition]
            part.forgotten.update((tenant, stream) for stream in streams)
            gone = [key for key in part.snapshots if key[:2] in part.forgotten]
            for key in gone:
                del part.snapshots[key]
            forgotten += len(gone)
        return forgotten

    async def read_stream(
        self,
        tenant: str,
        stream: str,
        *,
        after_version: int = 0,
        until_version: int | None = None,
        until_position: int | None = None,
        until_partition: int | None = None,
        since_time: datetime | None = None,
        until_time: datetime | None = None,
        backwards: bool = False,
        events_max: int | None = None,
    ) -> AsyncIterator[RecordedEvent]:
        """Return one stream's events, oldest first or `backwards`."""
        residences = self._residences(tenant)
        last = residences.present.partition if until_partition is None else until_partition
        found = [
            event
            for one in residences.up_to(last)
            for event in self._parts[one.partition].part_of((tenant, stream), after_version)
            if (until_version is None or event.version <= until_version)
            and (until_position is None or one.partition != last or event.position <= until_position)
            and (since_time is None or event.recorded_at >= since_time)
            and (until_time is None or event.recorded_at <= until_time)
        ]
        for event in (found[::-1] if backwards else found)[:events_max]:
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
        return before_arrival(
            Page(partition, after, part.events[after.position : end.position], end, commits)
        )

    async def read_filtered(
        self,
        partition: int,
        after: CommitMark,
        filter: Filter,
        *,
        events_max: int,
        bytes_max: int = 8 * 1024 * 1024,
    ) -> Matches:
        """Return what follows a place in the partition's history and matches; see `EventLog.read_filtered`."""
        part = self._parts[partition]
        part.require(after)
        found: list[RecordedEvent] = []
        octets, end = 0, after
        for stored in part.following(after.position + 1):
            commit = stored.commit
            events = part.events[commit.first_position - 1 : commit.last_position]
            own = [event for event in events if filter.takes(event, part.tags.get(event.position, ()))]
            octets += sum(len(event.data) + len(event.metadata) for event in own)
            if found and own and (len(found) + len(own) > events_max or octets > bytes_max):
                break
            found += own
            end = commit.mark
        return Matches(partition, after, found, end)

    async def read_range(
        self, partition: int, first: int, last: int, *, tenants: Collection[str] | None = None
    ) -> Sequence[RecordedEvent]:
        """Return the events of a range of positions, both included, in order: all, or those of some tenants."""
        events = self._parts[partition].events[max(first, 1) - 1 : max(last, 0)]
        return events if tenants is None else [event for event in events if event.tenant in tenants]

    async def head(self, partition: int) -> Commit | None:
        """Return the partition's last commit; None when nothing was ever appended."""
        commits = self._parts[partition].commits
        return commits[-1].commit if commits else None

    async def heads(self) -> Mapping[int, CommitMark]:
        """Return every partition's head."""
        return {number: part.head for number, part in self._parts.items()}

    async def reachable_heads(self) -> Mapping[int, CommitMark]:
        """Return every partition's head: they are all here."""
        return await self.heads()

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
