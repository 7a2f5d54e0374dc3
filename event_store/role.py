"""
Puts together what a consuming process runs: leases, feeds, groups. Projectors and workflows are made of it.

    async with ConsumerRole(settings=…, log=…, pool=…, group="workflows", members=…) as role:
        await role.run(stop)
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from event_store.checkpoints import Checkpoint, Checkpoints
from event_store.consumer import Consumer, Member, TransactionalMember, pass_over
from event_store.feed import PAGE_EVENTS_MAX, Feed, LogFeed
from event_store.group import Members, PartitionGroup
from event_store.lag import MEASURE_SECONDS, LagMeter
from event_store.leases import LeasedWork, Leases, process_identity
from event_store.log import EventLog, Page
from event_store.wake import HeadWatch, Notifier
from infra.telemetry import Counter, Histogram

EVENTS_APPLIED = Counter("everfold_events_applied_total", "Events taken by a consumer", ["consumer"])
LAG_SECONDS = Histogram(
    "everfold_apply_lag_seconds",
    "Time from an event's commit to its effect's",
    ["consumer"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)


STANDS_STILL = "it stands still until `everfold recover` sets it back to what the log has"

FeedOf = Callable[[int], Awaitable[Feed]]


class FixedMembers:
    """The same consumers for as long as the process lives."""

    def __init__(self, consumers: Sequence[Consumer], checkpoints: Checkpoints) -> None:
        self._consumers = consumers
        self._checkpoints = checkpoints

    def generation(self) -> int:
        """Return the same number always."""
        return 0

    def of(self, partition: int) -> Sequence[Member]:
        """Return a member for each consumer."""
        return [TransactionalMember(consumer, self._checkpoints, partition) for consumer in self._consumers]

    async def pass_over(self, idle: Sequence[Member], page: Page) -> Collection[Checkpoint]:
        """Move checkpoints in one statement."""
        return await pass_over(self._checkpoints, idle, page)

    async def epoch_changed(self, member: Member) -> str:
        """Say what people must do: nothing is done again by itself, the member stands still."""
        return STANDS_STILL


class ConsumerRole:
    """One process's part in a group of consumers."""

    def __init__(
        self,
        *,
        log: EventLog,
        pool: "asyncpg.Pool[Any]",
        namespace: str,
        group: str,
        members: Members,
        watch: HeadWatch | None,
        feed_of: FeedOf | None = None,
        prepare: Callable[[int], Awaitable[None]] | None = None,
        applied: Callable[[Member, Page], None] | None = None,
        page_events_max: int = PAGE_EVENTS_MAX,
        shared_by: Callable[[int], None] = lambda _members: None,
    ) -> None:
        self.checkpoints = Checkpoints(pool, namespace)
        self.groups: dict[int, PartitionGroup] = {}
        self._log = log
        self._watch = watch
        self._page_events_max = page_events_max
        self._members = members
        self._feed_of = feed_of or self._follow_log
        self._prepare = prepare
        self._applied = applied
        self._notifier = Notifier(pool, f"{namespace}_applied")
        self.lag = LagMeter(log)
        self._leases = Leases(pool, namespace, group, log.partitions, holder=process_identity())
        self._leased = LeasedWork(self._leases, self._work, shared_by)

    async def run(self, stop: asyncio.Event) -> None:
        """Work on the partitions that this process holds, until `stop`."""
        measuring = asyncio.create_task(self._measure(), name="measure lag")
        try:
            async with self._notifier:
                await self._leased.run(stop)
        finally:
            measuring.cancel()
            await asyncio.gather(measuring, return_exceptions=True)

    async def _measure(self) -> None:
        """Keep measuring how far this process's partitions are behind."""
        while True:
            members = [
                (member.checkpoint.consumer, partition, member.checkpoint.mark.position)
                for partition, group in list(self.groups.items())
                for member in group.members
            ]
            await self.lag.measure(members)
            await asyncio.sleep(MEASURE_SECONDS)

    async def ready(self) -> Mapping[str, str]:
        """Return what is missing for this role to do its work."""
        if not self._leased.ready:
            return {"leases": "could not be renewed: the database does not answer"}
        return self.lag.missing()

    def facts(self) -> Mapping[str, Any]:
        """Return what `/readyz` says besides: the lag, in the figures of `/metrics`."""
        return {"lag": self.lag.document()}

    @property
    def partitions(self) -> Sequence[int]:
        """The partitions held at this moment."""
        return sorted(self._leased.running)

    async def _work(self, partition: int) -> None:
        if self._prepare is not None:
            await self._prepare(partition)
        group = PartitionGroup(
            partition,
            self._members,
            self.checkpoints,
            await self._feed_of(partition),
            lambda: self._log_feed(partition),
            self._member_applied,
        )
        self.groups[partition] = group
        try:
            await group.run()
        finally:
            self.groups.pop(partition, None)

    async def _follow_log(self, partition: int) -> Feed:
        return self._log_feed(partition)

    def _log_feed(self, partition: int) -> LogFeed:
        return LogFeed(self._log, partition, self._watch, events_max=self._page_events_max)

    def _member_applied(self, member: Member, page: Page) -> None:
        self._notifier.tell(str(page.partition))
        consumer = member.checkpoint.consumer
        EVENTS_APPLIED.labels(consumer).inc(len(page.events))
        if page.events:
            LAG_SECONDS.labels(consumer).observe(seconds_since(page.events[-1].recorded_at))
        if self._applied is not None:
            self._applied(member, page)


def seconds_since(moment: datetime) -> float:
    """Return how long ago a moment was; never less than nothing, since clocks may differ."""
    return max(0.0, time.time() - moment.timestamp())
