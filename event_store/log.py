"""
The log's interface: streams that only grow, and one order over each partition.

A tenant lives in one partition at a time, and in each partition once (docs/decisions/0020). Positions in a partition
start at 1, have no gaps, and appear in commit order, so "everything after N" never misses anything. A stream's version
is the number of events in it: 0 means that it does not exist. `postgres.py` and `memory.py` keep this interface, and
tests/contract/ holds both to it.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import NamedTuple, Protocol

from event_store.residences import Residences
from schemas.envelope import CommitMark, RecordedEvent
from schemas.errors import BadDefinition, TooLarge
from schemas.moves import Arrival, arrival_of

BATCH_APPENDS_MAX = 1_000
BATCH_BYTES_MAX = 16 * 1024 * 1024
APPEND_EVENTS_MAX = 5_000
EVENT_BYTES_MAX = 4 * 1024 * 1024
EVENT_TAGS_MAX = 32
TAG_CHARACTERS_MAX = 200
FILTER_TYPES_MAX = 256
CONDITION_ITEMS_MAX = 100
"""Items of all conditions of an append."""

CONDITION = "condition"
"""What an outcome names in place of a stream where a condition does not hold."""


@dataclass(eq=False)
class BatchTooLarge(TooLarge, slug="too-large"):
    """An append, or a batch of them, is over a bound of the log."""

    bound: str = ""


class Expect(IntEnum):
    """What may be expected of a stream besides an exact version."""

    ANY = -1
    EXISTS = -2


class QueryItem(NamedTuple):
    """Matches events of one tenant that carry all of these tags and are of any of these types (none: of any type)."""

    tags: Sequence[str]
    types: Sequence[str] = ()


class Condition(NamedTuple):
    """
    What may not have happened: no event after a position matches any of the items.

    That is a *dynamic consistency boundary*: a decision that rests on the events which match, wherever they are,
    and not on whole streams. `after` is the position at which they were read; 0 asks the tenant's earlier partitions
    too. Source: dcb.events, specification.
    """

    items: Sequence[QueryItem]
    after: int


class Check(NamedTuple):
    """What an append requires of one stream, written or only read: an exact version (0: absent), or an `Expect`."""

    stream: str
    expected: int


class NewEvent(NamedTuple):
    """An event to be appended. Versions are given out by the log, in the order of the events."""

    stream: str
    id: str
    """UUIDv7 in its canonical form, made by the caller."""
    type: str
    schema_version: int
    data: bytes
    tags: Sequence[str] = ()
    """By what conditions and readers find it besides its stream: 1 to 200 characters each, none of them control."""


class IdempotencyKey(NamedTuple):
    """A caller's name for a request: the same key means the same request, and binds on acceptance."""

    subject: str
    key: str
    fingerprint: bytes
    """sha256 over the parsed request; another fingerprint under the same key is `Answer.REUSED`."""


@dataclass(frozen=True, slots=True)
class Append:
    """
    One command's worth: all of it is appended, or nothing.

    `events` may be empty: then it only checks, and binds its key if it has one and `binds`. Every stream of
    `events` needs a check. An append builds on earlier ones of the same batch: where a check's stream was written
    by an earlier append of the batch, the version expected is the one *after* that, and if the earlier one is not
    appended, this one is a conflict, whatever the version then happens to be.
    """

    tenant: str
    stream: str
    """The main stream, whose version the answer states."""
    checks: Sequence[Check]
    events: Sequence[NewEvent] = ()
    metadata: bytes = b"{}"
    key: IdempotencyKey | None = None
    binds: bool = True
    """False for a refusal: its versions, conditions and key are checked, but nothing is written."""
    conditions: Sequence[Condition] = ()
    """Events of earlier appends of the batch count as being after any position."""


class Answer(StrEnum):
    """What became of one append."""

    APPENDED = "appended"
    CONFLICT = "conflict"
    """A check does not hold, or an append of the batch that this one builds on was not appended."""
    DUPLICATE = "duplicate"
    """The key is bound, by the same request: `Outcome` is the first answer."""
    REUSED = "reused"
    """The key is bound, by another request."""


class Outcome(NamedTuple):
    """The log's answer to one append."""

    answer: Answer
    position: int
    """The position of its last event; the partition's head at the decision when it has none."""
    events: int
    """How many events it has: the last `events` positions up to `position`."""
    commit: CommitMark
    """The commit that `position` belongs to."""
    stream: str
    version: int
    """The main stream's version after it; for a conflict the version that was found."""
    conflict: str | None = None
    """The stream whose check failed; `CONDITION` where it was one of the conditions."""
    partition: int | None = None
    """Where its events are, if that is a partition which the tenant has left since; None: in the one that was asked."""


class Commit(NamedTuple):
    """One commit's record."""

    partition: int
    first_position: int
    last_position: int
    recorded_at: datetime
    hash: bytes
    previous_hash: bytes

    @property
    def mark(self) -> CommitMark:
        """The place in history where the commit ends."""
        return CommitMark(self.last_position, self.hash)


@dataclass(frozen=True, slots=True)
class Page:
    """
    A contiguous run of one partition's events, ending on a commit's end, and before the next arrival of a tenant.

    So an arrival is the first event of its page, or in none; what comes before it waits for nobody.
    """

    partition: int
    after: CommitMark
    """Where it begins: everything up to here is not in it."""
    events: Sequence[RecordedEvent]
    end: CommitMark
    """Where it ends; equals `after` when there is nothing new."""
    commits: Sequence[Commit] = field(default=())

    @property
    def arrival(self) -> Arrival | None:
        """What of another partition must have been taken before this page; mostly None."""
        return arrival_of(self.events[0]) if self.events else None


class TagTail(NamedTuple):
    """Which events to read by a tag."""

    tenant: str
    tag: str
    after: int = 0
    """The position after which they begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """
    Which events of a partition to read. What is not said does not matter; what is said must all hold.

    The types are those that are stored: of an event that has been renamed, name its old types too.
    """

    types: frozenset[str] = frozenset()
    """Any of these."""
    tags: frozenset[str] = frozenset()
    """All of these. A tag is the tenant's, so the tenant must be said too."""
    tenant: str | None = None

    def __post_init__(self) -> None:
        if len(self.types) > FILTER_TYPES_MAX:
            raise BadDefinition("filter", f"has {len(self.types)} types; {FILTER_TYPES_MAX} is the most")
        if len(self.tags) > EVENT_TAGS_MAX:
            raise BadDefinition(
                "filter", f"has {len(self.tags)} tags; no event has more than {EVENT_TAGS_MAX}"
            )
        if self.tags and self.tenant is None:
            raise BadDefinition("filter", "has tags and no tenant; say whose they are")

    def __bool__(self) -> bool:
        """Whether it leaves anything out."""
        return bool(self.types or self.tags) or self.tenant is not None

    def takes(self, event: RecordedEvent, tags: Collection[str] = ()) -> bool:
        """Say whether an event that carries some tags is one of those."""
        return (
            (not self.types or event.type in self.types)
            and self.tenant in (None, event.tenant)
            and self.tags <= set(tags)
        )


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class Matches:
    """The events that a filter takes out of a run of one partition, which ends on a commit's end."""

    partition: int
    after: CommitMark
    """Where the run begins."""
    events: Sequence[RecordedEvent]
    end: CommitMark
    """Up to where everything was looked at; equals `after` when there is nothing new."""


class StreamTail(NamedTuple):
    """Which part of a stream to read."""

    tenant: str
    stream: str
    after_version: int = 0


class StateTail(NamedTuple):
    """What is needed to bring one stream's state up to date."""

    tenant: str
    stream: str
    after_version: int = 0
    """The version that is known of it."""
    shape: bytes | None = None
    """The shape of saved states that can be read; None: none."""


class Snapshot(NamedTuple):
    """
    A stream's state as it was at a version, saved.

    It can be made again from the log, so it may be lost at any time. What its bytes mean only those know who know its
    shape: another state, or another version of the decider that made it, has another shape.
    """

    tenant: str
    stream: str
    shape: bytes
    decider_version: int
    version: int
    commit: CommitMark
    """A commit at which the stream had that version."""
    state: bytes


class SavedState(NamedTuple):
    """A saved state as it is read."""

    tenant: str
    stream: str
    version: int
    state: bytes


class StreamStates(NamedTuple):
    """What brings many streams' states up to date."""

    saved: Sequence[SavedState]
    """One at most for a stream; those that are newer than what is known."""
    events: Sequence[RecordedEvent]
    """What comes after the saved state, or after what is known, in order of position."""
    head: CommitMark
    """The head that all of it was read at."""


class EventLog(Protocol):
    """Streams that only grow, and one order over each partition."""

    partitions: Sequence[int]
    """The partitions that the log has."""

    async def partition_of(self, tenant: str) -> int:
        """
        Return where a tenant lives, by the word that counts: to append by. A stable hash, unless a row says otherwise.

        Raises:
            TenantMoving: It is on its way to another partition.
            StoreUnavailable: The server with the word on it does not answer.
        """
        ...

    async def residences_of(self, tenant: str) -> Residences:
        """
        Return where a tenant lives and has lived, as it was two seconds ago at the most.

        As far as any server that answers knows, as in `likely_partition_of`.

        Raises:
            StoreUnavailable: None answers.
        """
        ...

    async def moved_tenants(self, partition: int) -> Collection[str]:
        """Return the tenants that have left a partition or come to it; for who reads whole partitions."""
        ...

    async def likely_partition_of(self, tenant: str) -> int:
        """
        Return where a tenant lives as far as any server that answers knows: to read by, never to append by.

        Where it came from while it is on its way to another partition.

        Raises:
            StoreUnavailable: None answers.
        """
        ...

    async def append_batch(
        self, partition: int, appends: Sequence[Append], *, known: CommitMark | None = None
    ) -> Sequence[Outcome]:
        """
        Carry out independent appends in order, in one commit, and answer each by itself.

        The answers equal those of a serial run. `known` is the last commit that the caller's states rest on.

        Raises:
            EpochChanged: The log does not have the known commit: nothing is written; drop all states.
            OutcomeUnknown: The connection was lost while committing.
            StoreUnavailable: Nothing was written.
            TenantMoving: One of the tenants does not live in the partition any more; nothing was written.
            TooLarge: A bound is exceeded; nothing was written.
        """
        ...

    async def settle(self, partition: int, append: Append) -> Outcome | None:
        """
        Say what became of an append whose outcome is unknown, under the partition's lock.

        Looks for its key, or for its own event ids at its main stream's end; None: it was not appended, and
        never will be by the lost call.
        """
        ...

    async def read_tails(
        self, partition: int, tails: Sequence[StreamTail]
    ) -> tuple[Sequence[RecordedEvent], CommitMark]:
        """
        Return many streams' events in order of position, and the head that they were read at, in one query.

        Of a tenant that moved everything up to and with this partition, in the order of its history.
        """
        ...

    async def read_tagged(
        self, partition: int, tails: Sequence[TagTail]
    ) -> tuple[Sequence[Sequence[RecordedEvent]], CommitMark]:
        """
        Return the events that carry each of some tags, in order, and the head they were read at, in one query.

        Of a tenant that moved those of earlier partitions come first where `after` is 0; any other is a position of
        this partition, after all of the past.
        """
        ...

    async def read_states(self, partition: int, tails: Sequence[StateTail]) -> StreamStates:
        """
        Return many streams' saved states and the events that follow, in one query.

        A saved state that rests on a commit that the log does not have any more is left out.
        """
        ...

    async def save_states(self, partition: int, snapshots: Sequence[Snapshot]) -> int:
        """
        Keep states of streams, each in place of an older one of the same shape; return how many were kept.

        Left out are those of a history that the log does not have, and those of streams that were forgotten.
        """
        ...

    async def forget_states(self, tenant: str, streams: Sequence[str]) -> int:
        """Delete the saved states of streams, and never keep one of them again; return how many there were."""
        ...

    def read_stream(
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
        """
        Return one stream's events, oldest first or `backwards`, in bounded memory.

        All bounds that are given hold, and all but `after_version` are included. Of a tenant that moved,
        `until_partition` is the last that counts (None: where it lives), and `until_position` a position of it.
        """
        ...

    async def read_page(
        self, partition: int, after: CommitMark, *, events_max: int, bytes_max: int = 8 * 1024 * 1024
    ) -> Page:
        """
        Return what follows a place in the partition's history, whole commits only.

        At least one commit comes back when there is one, however large it is.

        Raises:
            EpochChanged: The log does not have the commit `after`.
        """
        ...

    async def read_filtered(
        self,
        partition: int,
        after: CommitMark,
        filter: Filter,
        *,
        events_max: int,
        bytes_max: int = 8 * 1024 * 1024,
    ) -> Matches:
        """
        Return what follows a place in the partition's history and matches, out of whole commits only.

        A call looks at a bounded stretch, so there may be no match in it and still be more: go on from `end`. The
        matches of one commit come back together, however many they are.

        Raises:
            EpochChanged: The log does not have the commit `after`.
        """
        ...

    async def read_range(
        self, partition: int, first: int, last: int, *, tenants: Collection[str] | None = None
    ) -> Sequence[RecordedEvent]:
        """
        Return the events of a range of positions, both included, in order: all, or those of some tenants.

        Who does not read whole partitions must name the tenants: the database shows it no others.
        """
        ...

    async def head(self, partition: int) -> Commit | None:
        """Return the partition's last commit; None when nothing was ever appended."""
        ...

    async def heads(self) -> Mapping[int, CommitMark]:
        """
        Return every partition's head.

        Raises:
            StoreUnavailable: A server of the log does not answer.
        """
        ...

    async def reachable_heads(self) -> Mapping[int, CommitMark]:
        """
        Return the heads of the partitions whose server answers.

        Raises:
            StoreUnavailable: None does.
        """
        ...

    async def commit_of(self, partition: int, position: int) -> Commit | None:
        """Return the commit that a position belongs to; None when it is still to come."""
        ...
