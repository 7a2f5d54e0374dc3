"""
Where a tenant has lived, in the order of its history: a tenant that moved has events in several partitions.

A tenant lives in each partition once. So a partition, and a position in it, name one place in the tenant's history, and
what it has left behind never changes: it may be read, looked up and kept outside of any lock.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from schemas.envelope import CommitMark, RecordedEvent


class Move(NamedTuple):
    """One move of a tenant, as far as it is; the fields are those of the table `tenant_moves`."""

    tenant: str
    number: int
    """Of the tenant's moves, from 1."""
    from_partition: int
    left: CommitMark
    """The fence: position and commit of `TenantLeft`."""
    left_at: datetime
    to_partition: int
    arrived_position: int | None = None
    """Of `TenantArrived`; None while the tenant is on its way."""
    arrived_at: datetime | None = None


class Residence(NamedTuple):
    """A time that a tenant spends in one partition."""

    partition: int
    first_position: int
    """Of its `TenantArrived`; 1 where it has lived from the beginning."""
    last_position: int | None
    """Of its `TenantLeft`; None: it lives here."""
    since: datetime | None
    """When it arrived; None: from the beginning."""
    until: datetime | None
    """When it left."""


class Residences:
    """Where one tenant has lived. There is always one residence at least; the last one is where it lives."""

    __slots__ = ("_all", "is_moving", "tenant")

    def __init__(self, tenant: str, partition: int, moves: Sequence[Move] = ()) -> None:
        """`partition` is where it lives if it never moved; moves come in order."""
        self.tenant = tenant
        self.is_moving = bool(moves) and moves[-1].arrived_position is None
        """Whether it has left and not arrived: it takes no events, and lives where it came from."""
        found: list[Residence] = []
        first, since = 1, None
        for move in moves:
            found.append(Residence(move.from_partition, first, move.left.position, since, move.left_at))
            first, since = move.arrived_position or 0, move.arrived_at
        if not self.is_moving:
            found.append(Residence(moves[-1].to_partition if moves else partition, first, None, since, None))
        self._all = tuple(found)

    def __iter__(self) -> Iterator[Residence]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def present(self) -> Residence:
        """Where it lives, or came from while it is on its way."""
        return self._all[-1]

    @property
    def has_moved(self) -> bool:
        """Whether there is more than one place to look at, or soon will be."""
        return len(self._all) > 1 or self.is_moving

    def of(self, partition: int) -> Residence | None:
        """Return its time in a partition; None: it has never lived there."""
        return next((one for one in self._all if one.partition == partition), None)

    def before(self, partition: int) -> Sequence[Residence]:
        """Return where it lived before it came to a partition, oldest first; nothing if it never lived there."""
        number = self.number_of(partition)
        return self._all[:number] if number is not None else ()

    def up_to(self, partition: int) -> Sequence[Residence]:
        """Return where it lived up to and with a partition; everything if it never lived there."""
        number = self.number_of(partition)
        return self._all[: number + 1] if number is not None else self._all

    def number_of(self, partition: int) -> int | None:
        """Return which of its residences a partition is, from 0: by that, places in its history are compared."""
        return next((number for number, one in enumerate(self._all) if one.partition == partition), None)

    def at(self, instant: datetime) -> Residence:
        """Return where it lived at an instant. Between leaving and arriving nothing happened: it is where it was."""
        return next(
            (one for one in reversed(self._all) if one.since is None or one.since <= instant), self._all[0]
        )

    def in_order(self, events: Sequence[RecordedEvent]) -> list[RecordedEvent]:
        """Return events of the tenant in the order of its history, which is not that of partitions' numbers."""
        numbers = {one.partition: number for number, one in enumerate(self._all)}
        return sorted(events, key=lambda event: (numbers[event.partition], event.position))
