"""
Takes the log to its consumers: leases, feed, checkpoint, and one transaction for each page.

What a consumer writes and its checkpoint are committed together, so each page takes effect once, whatever dies
when. A *group* shares a feed; each of its members has a checkpoint of its own, and one that is slow, held or failing
goes on by itself from the log until it has caught up, so it holds nobody else (see group.py).

To write a consumer, derive from `Consumer` and give `ConsumerRole` to your process:

    class Totals(Consumer):
        kind, name = "workflow", "totals"

        async def prepare(self, page): ...                        # outside the transaction; may take long
        async def apply(self, page, connection, prepared): ...    # inside it, together with the checkpoint

Raise `Held` where the page cannot be taken by this program (an event that it does not know): the consumer stands
still at the commit before, says why in its status, and tries again.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from event_store.arrivals import pieces
from event_store.checkpoints import Checkpoint, Checkpoints, Connection
from event_store.feed import beyond
from event_store.log import Page
from infra.failpoints import failpoint
from schemas.envelope import CommitMark
from schemas.errors import ServiceError
from schemas.moves import Arrival

FENCE_SECONDS_MAX = 5.0
"""How long a consumer waits at an arrival before it says that it stands still there."""
FENCE_POLL_SECONDS = 0.05


@dataclass(eq=False)
class Held(ServiceError):
    """A consumer stands still before an event that this program cannot handle."""

    consumer: str
    partition: int
    position: int
    """The first position that was not taken."""
    waiting_for: str


@dataclass(eq=False)
class AtFence(Held):
    """A consumer stands still at a tenant's arrival: it has not yet taken what the tenant did before, elsewhere."""


class Member(ABC):
    """One consumer in one partition, with its checkpoint. A group gives it pages in order, one at a time."""

    checkpoint: Checkpoint
    checkpoints: Checkpoints
    life: str = ""
    """Which life of the database the checkpoint was opened in; in another one a new member takes its place."""

    @property
    def label(self) -> str:
        """Return a name for logs."""
        return f"{self.checkpoint.consumer} {self.checkpoint.generation} in partition {self.checkpoint.partition}"

    def idle(self, page: Page) -> bool:
        """
        Say whether a page means nothing to it: then its checkpoint is moved together with others'.

        It is not asked of a page in which tenants arrive or leave.
        """
        return False

    async def step(self, page: Page, *, fence_seconds: float = FENCE_SECONDS_MAX) -> None:
        """
        Take what of a page lies beyond the checkpoint; at a tenant's arrival, once its fence has been passed.

        Raises:
            EpochChanged: The page belongs to another history.
            Fenced: Somebody else has moved the checkpoint.
            Held: An event is in it that this program cannot handle, or a fence has not been passed for long.
        """
        rest = beyond(page, self.checkpoint.mark)
        if rest.end.position <= self.checkpoint.mark.position:
            return
        for piece in pieces(rest):
            if (arrival := piece.arrival) is not None:
                await self._pass_fence(arrival, fence_seconds)
            await self.take(piece)

    async def _pass_fence(self, arrival: Arrival, seconds_max: float) -> None:
        """Wait until this consumer has taken the partition that a tenant left up to where it left."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds_max
        while True:
            fence = await self.checkpoints.fence_of(arrival)
            if await self.checkpoints.has_passed(self.checkpoint, arrival.from_partition, fence):
                return
            if clock() >= until:
                raise AtFence(
                    self.checkpoint.consumer, self.checkpoint.partition, arrival.position,
                    f"partition {arrival.from_partition} to be taken up to {fence}, "
                    f"where tenant {arrival.tenant} left it",
                )  # fmt: skip
            await asyncio.sleep(FENCE_POLL_SECONDS)

    def opened(self) -> None:  # noqa: B027 (a hook that not every member needs)
        """Take note that the checkpoint has been read for the first time."""

    def passed(self, page: Page) -> None:  # noqa: B027 (a hook that not every member needs)
        """Take note that the checkpoint was moved over a page that meant nothing to it."""

    @abstractmethod
    async def take(self, page: Page) -> None:
        """Apply a page that begins at the checkpoint, and move the checkpoint to its end."""

    def forget(self) -> None:  # noqa: B027 (a hook that not every member needs)
        """Drop everything remembered: the tables may not be as they were left."""

    async def close(self) -> None:  # noqa: B027 (a hook that not every member needs)
        """Let go of what this member holds."""


class Consumer(ABC):
    """Something that follows the log. One object serves all partitions of a process."""

    kind: ClassVar[str] = "workflow"
    name: str

    async def prepare(self, page: Page) -> Any:
        """Do what must come before the transaction; it may happen again after a crash, so it must be idempotent."""
        return None

    @abstractmethod
    async def apply(self, page: Page, connection: Connection, prepared: Any) -> None:
        """Write what a page means, in the transaction that moves the checkpoint."""

    async def applied(self, page: Page) -> None:  # noqa: B027 (a hook that not every consumer needs)
        """Take note that a page is committed."""


class TransactionalMember(Member):
    """A `Consumer` in one partition."""

    def __init__(self, consumer: Consumer, checkpoints: Checkpoints, partition: int) -> None:
        self.consumer = consumer
        self.checkpoint = Checkpoint(consumer.kind, consumer.name, partition)
        self.checkpoints = checkpoints

    async def take(self, page: Page) -> None:
        """Prepare, then write and move the checkpoint in one transaction."""
        prepared = await self.consumer.prepare(page)
        failpoint("consumer.before_commit")
        async with self.checkpoints.pool.acquire() as connection, connection.transaction():
            await self.consumer.apply(page, connection, prepared)
            await self.checkpoints.advance(connection, self.checkpoint, page.end, recorded_at_of(page))
        failpoint("consumer.after_commit")
        self.checkpoint.mark = page.end
        await self.consumer.applied(page)


async def pass_over(checkpoints: Checkpoints, idle: Sequence[Member], page: Page) -> Collection[Checkpoint]:
    """Move the checkpoints of members that a page means nothing to in one statement; return those that did not move."""
    return await checkpoints.advance_idle(
        [member.checkpoint for member in idle], page.end, recorded_at_of(page)
    )


def recorded_at_of(page: Page) -> Any:
    """Return the time of the commit that a page ends with."""
    if page.commits:
        return page.commits[-1].recorded_at
    return page.events[-1].recorded_at if page.events else None


def mark_within(page: Page, position: int) -> CommitMark:
    """Return the end of the last commit of a page that lies wholly before a position."""
    mark = page.after
    for commit in page.commits:
        if commit.last_position >= position:
            break
        mark = commit.mark
    return mark
