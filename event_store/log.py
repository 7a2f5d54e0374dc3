"""
The log's interface: streams that only grow, and one order over each partition.

A tenant lives in one partition. Positions in a partition start at 1, have no gaps, and appear in commit order, so
"everything after N" never misses anything. A stream's version is the number of events in it: 0 means that it does
not exist. `postgres.py` and `memory.py` keep this interface, and tests/contract/ holds both to it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import NamedTuple, Protocol

from schemas.envelope import CommitMark, RecordedEvent

BATCH_APPENDS_MAX = 1_000
BATCH_BYTES_MAX = 16 * 1024 * 1024
APPEND_EVENTS_MAX = 5_000
EVENT_BYTES_MAX = 4 * 1024 * 1024


class Expect(IntEnum):
    """What may be expected of a stream besides an exact version."""

    ANY = -1
    EXISTS = -2


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
    """False for a refusal: its versions and key are checked, but nothing is written."""


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
    """The stream whose check failed."""


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
    """A contiguous run of one partition's events, ending on a commit's end."""

    partition: int
    after: CommitMark
    """Where it begins: everything up to here is not in it."""
    events: Sequence[RecordedEvent]
    end: CommitMark
    """Where it ends; equals `after` when there is nothing new."""
    commits: Sequence[Commit] = field(default=())


class StreamTail(NamedTuple):
    """Which part of a stream to read."""

    tenant: str
    stream: str
    after_version: int = 0


class EventLog(Protocol):
    """Streams that only grow, and one order over each partition."""

    partitions: Sequence[int]
    """The partitions that the log has."""

    async def partition_of(self, tenant: str) -> int:
        """Return where a tenant lives: a stable hash, unless an override says otherwise."""
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
        """Return many streams' events in order of position, in one query, and the head that they were read at."""
        ...

    def read_stream(
        self,
        tenant: str,
        stream: str,
        *,
        after_version: int = 0,
        until_position: int | None = None,
        until_time: datetime | None = None,
    ) -> AsyncIterator[RecordedEvent]:
        """Return one stream's events, oldest first, in bounded memory."""
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

    async def read_range(self, partition: int, first: int, last: int) -> Sequence[RecordedEvent]:
        """Return the events of a range of positions, both included, in order."""
        ...

    async def head(self, partition: int) -> Commit | None:
        """Return the partition's last commit; None when nothing was ever appended."""
        ...

    async def heads(self) -> Mapping[int, CommitMark]:
        """Return every partition's head."""
        ...

    async def commit_of(self, partition: int, position: int) -> Commit | None:
        """Return the commit that a position belongs to; None when it is still to come."""
        ...
