"""What the tests of the feed share: a relay, a consumer that keeps what it was given, and mischief."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

import aio_pika
from aio_pika.exceptions import DeliveryError

from event_store import topology
from event_store.broker import BrokerFeeds
from event_store.checkpoints import Checkpoints, Connection
from event_store.consumer import Consumer
from event_store.log import Append, Check, Expect, NewEvent, Page
from event_store.migrate import migrate
from event_store.postgres import PostgresLog
from event_store.relay import GroupRelay, Publisher
from event_store.role import ConsumerRole, FixedMembers
from event_store.wake import HeadWatch
from infra.pools import open_pool
from schemas import Event
from tests.integration.projectors.accounts import METADATA, event_id
from tests.queues import delete_queues
from tests.toy import Deposited

PARTITIONS = 2
STOP_SECONDS_MAX = 15.0
GROUP = "workflows"
DEPOSITED = Deposited(cents=1)
NOWHERE = "amqp://guest:guest@127.0.0.1:1/"
"""A broker that is away."""


@dataclass
class Taken(Consumer):
    """Keeps the positions that it was given."""

    name: str = "taken"
    pages: list[Page] = field(default_factory=list)

    async def apply(self, page: Page, connection: Connection, prepared: Any) -> None:
        """Write nothing; the checkpoint moves."""

    async def applied(self, page: Page) -> None:
        """Keep the page."""
        self.pages.append(page)

    def positions(self, partition: int) -> list[int]:
        """Return all positions of a partition, in the order in which they came."""
        return [event.position for page in self.pages if page.partition == partition for event in page.events]


class Feeding:
    """A log with a broker of its own namespace."""

    def __init__(
        self, store_url: str, broker_url: str, namespace: str, log: PostgresLog, pool: Any, watch: HeadWatch
    ):
        self.store_url, self.broker_url, self.namespace = store_url, broker_url, namespace
        self.log, self.pool, self.watch = log, pool, watch
        self.checkpoints = Checkpoints(pool, namespace)
        self.taken = Taken()

    async def append(
        self, count: int, event: Event = DEPOSITED, *, tenant: str = "demo", tags: Sequence[str] = ()
    ) -> int:
        """Append an event some times in one commit, and return the last position."""
        partition = await self.log.partition_of(tenant)
        appends = [
            Append(
                tenant, "accounts/a", [Check("accounts/a", Expect.ANY)],
                [NewEvent("accounts/a", event_id(), event.type, event.schema_version, event.encode(), tags=tags)],
                METADATA,
            )
            for _ in range(count)
        ]  # fmt: skip
        return (await self.log.append_batch(partition, appends))[-1].position

    @property
    def queue(self) -> str:
        """The queue of the tests' tenant."""
        return topology.queue_name(self.namespace, GROUP, self.partition)

    @property
    def partition(self) -> int:
        """Where the tests' tenant lives."""
        from event_store.placement import home_of

        return home_of("demo", range(PARTITIONS))

    @asynccontextmanager
    async def relaying(self, group: str = GROUP, broker_url: str | None = None) -> AsyncIterator[GroupRelay]:
        """Run the relay of the tests' partition, over another address of the broker if one is given."""
        publisher = Publisher(broker_url or self.broker_url, self.namespace)
        relay = GroupRelay(publisher, self.log, self.checkpoints, self.watch, group, self.partition)
        task = asyncio.create_task(relay.run())
        try:
            yield relay
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=STOP_SECONDS_MAX)
            await publisher.close()

    @asynccontextmanager
    async def consuming(self, broker_url: str | None = None) -> AsyncIterator[Taken]:
        """Run a consumer over the broker, or over another address of it if one is given."""
        stop = asyncio.Event()
        async with BrokerFeeds(
            broker_url or self.broker_url, self.namespace, GROUP, self.log, self.watch
        ) as feeds:
            role = ConsumerRole(
                log=self.log, pool=self.pool, namespace=self.namespace, group=GROUP,
                members=FixedMembers([self.taken], self.checkpoints), watch=self.watch, feed_of=feeds.feed_of,
            )  # fmt: skip
            task = asyncio.create_task(role.run(stop))
            try:
                yield self.taken
            finally:
                stop.set()
                await task

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Any]:
        """A channel for mischief."""
        connection = await aio_pika.connect(self.broker_url)
        try:
            async with connection.channel() as channel:
                yield channel
        finally:
            await connection.close()

    async def put(self, bodies: Iterable[bytes]) -> None:
        """Put messages into the queue as anybody could; one that the broker does not take is one more that is lost."""
        async with self.channel() as channel:
            for body in bodies:
                with suppress(DeliveryError):
                    message = aio_pika.Message(body)
                    await channel.default_exchange.publish(message, routing_key=self.queue, mandatory=False)

    async def relayed(self, relay: GroupRelay, position: int, seconds: float = 40.0) -> None:
        """Wait until the broker has confirmed a position."""
        async with asyncio.timeout(seconds):
            while relay.checkpoint.mark.position < position:
                await asyncio.sleep(0.01)

    async def reached(self, position: int, seconds: float = 40.0) -> None:
        """Wait until the consumer has been given a position."""
        async with asyncio.timeout(seconds):
            while (self.taken.positions(self.partition) or [0])[-1] < position:
                await asyncio.sleep(0.01)

    def exact(self, position: int) -> None:
        """Check that every position came once and in order."""
        assert self.taken.positions(self.partition) == list(range(1, position + 1))


@asynccontextmanager
async def feeding(database: str, broker_url: str, *, tidies: bool = True) -> AsyncIterator[Feeding]:
    """A new log of its own namespace, so that its queues are nobody else's; they are deleted where the broker stays."""
    namespace = f"t{token_hex(4)}"
    await asyncio.to_thread(migrate, database, namespace, range(PARTITIONS))
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(PostgresLog({range(PARTITIONS): database}, namespace))
        pool = await stack.enter_async_context(await open_pool(database, name="test", size_max=6))
        watch = await stack.enter_async_context(HeadWatch([database], namespace))
        one = Feeding(database, broker_url, namespace, log, pool, watch)
        try:
            yield one
        finally:
            if tidies and broker_url != NOWHERE:
                await delete_queues(broker_url, namespace, PARTITIONS)


@asynccontextmanager
async def role_process(
    system: Feeding, role: str, log_file: Path, more: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a role as a process of its own for a block."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EVERFOLD_")}
    environment = {
        **kept, "EVERFOLD_STORE_URL": system.store_url, "EVERFOLD_READ_URL": system.store_url,
        "EVERFOLD_DOMAINS": "toy", "EVERFOLD_BROKER_URL": system.broker_url, "EVERFOLD_NAMESPACE": system.namespace,
        "EVERFOLD_PARTITIONS": str(PARTITIONS), **more,
    }  # fmt: skip
    with log_file.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "infra.cli", role, env=environment, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 20)
