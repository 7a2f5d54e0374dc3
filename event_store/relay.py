"""
Brings the log to the broker, in order, and remembers how far it has come: the log is the outbox.

Each group's queue of each partition has a checkpoint of its own, which moves only once the broker has confirmed what
lies before it. A crash in between publishes again what was published; consumers drop it. A queue that is full holds
up its own group alone, one that was deleted is made again, and a message that was returned was not published.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.exceptions import DeliveryError
from pamqp.commands import Basic
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from event_store import topology
from event_store.broker import BROKER_ERRORS
from event_store.checkpoints import Checkpoint, Checkpoints, Fenced
from event_store.cloud_events import CloudEvents
from event_store.consumer import mark_within, recorded_at_of
from event_store.feed import PAGE_EVENTS_MAX, LogFeed, until
from event_store.log import Page
from event_store.pace import PAGE_SECONDS
from event_store.relayed_pages import RelayedLog, RelayedPages
from event_store.wake import HeadWatch
from infra.failpoints import failpoint
from infra.telemetry import Counter, log, span
from infra.waiting import apart
from schemas.envelope import BEGINNING
from schemas.errors import EpochChanged, ServiceError, UnknownEvent

GROUPS = ("projections", "workflows")
CLOUD_EVENTS = "cloudevents"
TURN_SECONDS = 1.0
PUBLISH_SECONDS_MAX = 10.0
RECONNECT_ATTEMPTS_MAX = 8
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.1, 5.0
CLOUD_EVENTS_OUTSTANDING_MAX = 200
CLOUD_EVENTS_PER_SECOND_MAX = 1_000
"""Of one partition: other programs must not take the processor from our own read side."""
CLOUD_EVENTS_PAGE_MAX = 500
"""So that what is sent slowly is also noted as sent: one that is killed again and again would never come further."""
CLOUD_EVENTS_PAGE_SECONDS = 0.05
"""How long other programs' events are gathered while there are many; a lone one is sent at once."""

RELAYED = Counter("everfold_relayed_events_total", "Events confirmed by the broker", ["group"])
RETURNED = Counter("everfold_relay_returned_total", "Messages that found no queue", ["group"])


class Publisher:
    """One connection to publish on; made again when it ends."""

    def __init__(self, url: str, namespace: str) -> None:
        self.namespace = namespace
        self._url = url
        self._connection: AbstractConnection | None = None
        self._opening = asyncio.Lock()

    async def connection(self) -> AbstractConnection:
        """
        Return the connection, opened if need be.

        Raises:
            OSError: The broker is away, also after some attempts.
        """
        async with self._opening:
            if self._connection is None or not self._connection.connected.is_set():
                await self.close()
                async for attempt in AsyncRetrying(
                    stop=stop_after_attempt(RECONNECT_ATTEMPTS_MAX),
                    wait=wait_random_exponential(multiplier=PAUSE_SECONDS_MIN, max=PAUSE_SECONDS_MAX),
                    retry=retry_if_exception_type(BROKER_ERRORS),
                    reraise=True,
                ):
                    with attempt:
                        self._connection = await topology.connect(
                            self._url, f"everfold {self.namespace} relay"
                        )
            assert self._connection is not None
            return self._connection

    async def discard(self, connection: AbstractConnection) -> None:
        """Have the next caller open another connection, where nobody has done so yet: this one does not answer."""
        async with self._opening:
            if self._connection is connection:
                await self.close()

    async def close(self) -> None:
        """Close the connection: the client takes one that the other end has closed for open until then."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*BROKER_ERRORS):
                async with asyncio.timeout(topology.CALL_SECONDS_MAX):
                    await connection.close()


class GroupRelay:
    """Publishes one partition to one group's queue."""

    def __init__(
        self,
        publisher: Publisher,
        event_log: RelayedLog,
        checkpoints: Checkpoints,
        watch: HeadWatch,
        group: str,
        partition: int,
        *,
        pages: RelayedPages | None = None,
        page_events_max: int = PAGE_EVENTS_MAX,
        page_seconds: float = PAGE_SECONDS,
    ) -> None:
        """Make a relay; `pages` is what it shares with those of other groups of the same partition."""
        self.group, self.partition = group, partition
        self.checkpoint = Checkpoint("relay", group, partition)
        self._publisher = publisher
        self._log = event_log
        self._checkpoints = checkpoints
        self._pages = pages or RelayedPages(event_log)
        self._feed = LogFeed(
            self._pages, partition, watch, events_max=page_events_max, page_seconds=page_seconds
        )
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._silent = 0
        """How often in a row the broker took what was published and did not confirm it."""
        self._opening = asyncio.Lock()

    async def run(self) -> None:
        """Publish until cancelled, through whatever goes wrong."""
        pause_seconds = PAUSE_SECONDS_MIN
        opened = False
        try:
            while True:
                try:
                    if not opened:
                        await self._checkpoints.open([self.checkpoint])
                        opened = True
                    await self._turn()
                    pause_seconds, self._silent = PAUSE_SECONDS_MIN, 0
                except Fenced:
                    opened = False
                except EpochChanged:
                    await self.epoch_changed()
                    opened = False
                except (*BROKER_ERRORS, ServiceError) as error:
                    self._silent = self._silent + 1 if isinstance(error, TimeoutError) else 0
                    log.warning("not relayed", group=self.group, partition=self.partition, error=repr(error))
                    await self._note(error)
                    if isinstance(error, TimeoutError) and self._connection is not None:
                        await self._publisher.discard(self._connection)
                    await asyncio.sleep(pause_seconds)
                    pause_seconds = min(2 * pause_seconds, PAUSE_SECONDS_MAX)
        finally:
            await self._feed.close()
            await self._close_channel()

    async def _turn(self) -> None:
        page = await self._feed.next(self.checkpoint.mark, wait_seconds=TURN_SECONDS)
        page, unknown = self.known_part(page)
        if page.events:
            await self._relay(page)
        if unknown is not None:
            raise unknown

    def known_part(self, page: Page) -> tuple[Page, UnknownEvent | None]:
        """Return as much of a page as can be published, and what stands against the rest: bytes go as they are."""
        return page, None

    async def _relay(self, page: Page) -> None:
        with span("relay.publish", group=self.group, partition=self.partition, events=len(page.events)):
            failpoint("relay.before_publish")
            await self.publish(page)
            failpoint("relay.after_confirm")
        await self._checkpoints.advance(
            self._checkpoints.pool, self.checkpoint, page.end, recorded_at_of(page)
        )
        self.checkpoint.mark = page.end
        RELAYED.labels(self.group).inc(len(page.events))

    async def publish(self, page: Page) -> None:
        """
        Publish a page and wait until the broker has confirmed all of it.

        Raises:
            DeliveryError: The queue is full, or is gone and cannot be made.
        """
        bodies = await self._pages.messages(page)
        await self.channel()
        # They go out one after the other, since the channel has one lock, and are confirmed side by side.
        outcomes = await asyncio.gather(*(self._publish(body) for body in bodies), return_exceptions=True)
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for error in failed:
            if not _is_returned(error):
                raise error
        if failed:
            RETURNED.labels(self.group).inc(len(failed))
            await self._declare()
            for body in bodies:
                await self._publish(body)
        failpoint("relay.after_publish")

    async def epoch_changed(self) -> None:
        """Go on from the log's present end: consumers read from the log what they lack, and notice for themselves."""
        head = await self._log.head(self.partition)
        log.warning("the log has lost commits", group=self.group, partition=self.partition)
        to = head.mark if head else BEGINNING
        await self._checkpoints.advance(
            self._checkpoints.pool, self.checkpoint, to, head.recorded_at if head else None
        )

    async def _publish(self, body: bytes) -> None:
        channel = await self.channel()
        await channel.default_exchange.publish(
            Message(body, content_type="application/octet-stream", delivery_mode=DeliveryMode.PERSISTENT),
            routing_key=topology.queue_name(self._publisher.namespace, self.group, self.partition),
            mandatory=True,
            timeout=PUBLISH_SECONDS_MAX,
        )

    async def channel(self) -> AbstractChannel:
        """Return the channel to publish on, opened if need be."""
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                connection = self._connection = await self._publisher.connection()
                await self.prepare(connection)
                async with asyncio.timeout(topology.CALL_SECONDS_MAX):
                    self._channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            return self._channel

    async def prepare(self, connection: AbstractConnection) -> None:
        """Make what is published to."""
        await topology.declare_queue(connection, self._publisher.namespace, self.group, self.partition)

    async def _declare(self) -> None:
        await self.prepare(await self._publisher.connection())

    async def _close_channel(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await apart(_close(channel))  # cut short, it would end the connection, which others use

    async def _note(self, error: Exception) -> None:
        await self._close_channel()
        with suppress(Exception):  # it is for people who look; the log line says the same
            said = str(error)
            if self._silent:
                said = f"nothing was confirmed or answered in time, {self._silent} times in a row; the log is followed"
            await self._checkpoints.note_waiting(self.checkpoint, f"{type(error).__name__}: {said}"[:300])


async def _close(channel: AbstractChannel) -> None:
    with suppress(*BROKER_ERRORS):
        async with asyncio.timeout(topology.CALL_SECONDS_MAX):
            await channel.close()


def _is_returned(error: BaseException) -> bool:
    """Say whether the broker gave a message back because there is no such queue."""
    return isinstance(error, DeliveryError) and isinstance(error.frame, Basic.Return)


class CloudEventsRelay(GroupRelay):
    """Publishes one partition to other programs: one message an event, to whoever has bound a queue."""

    def __init__(
        self,
        publisher: Publisher,
        event_log: RelayedLog,
        checkpoints: Checkpoints,
        watch: HeadWatch,
        partition: int,
        messages: CloudEvents,
    ) -> None:
        super().__init__(
            publisher,
            event_log,
            checkpoints,
            watch,
            CLOUD_EVENTS,
            partition,
            page_events_max=CLOUD_EVENTS_PAGE_MAX,
            page_seconds=CLOUD_EVENTS_PAGE_SECONDS,
        )
        self._messages = messages
        self._exchange: tuple[AbstractChannel, AbstractExchange] | None = None

    async def prepare(self, connection: AbstractConnection) -> None:
        """Make the exchange."""
        async with connection.channel() as channel:
            await topology.declare_events_exchange(channel, self._publisher.namespace)

    def known_part(self, page: Page) -> tuple[Page, UnknownEvent | None]:
        """Return a page up to the first event that this program does not know; what follows waits for one that does."""
        unknown = self._messages.first_unknown(page.events)
        if unknown is None:
            return page, None
        known = until(page, mark_within(page, unknown.position).position)
        return known, UnknownEvent(unknown.type, unknown.schema_version)

    async def publish(self, page: Page) -> None:
        """Publish each event in order, some hundreds under way at once; nobody need have bound a queue."""
        channel = await self.channel()
        if self._exchange is None or self._exchange[0] is not channel:
            name = topology.events_exchange_name(self._publisher.namespace)
            self._exchange = channel, await channel.get_exchange(name, ensure=False)
        exchange = self._exchange[1]
        for start in range(0, len(page.events), CLOUD_EVENTS_OUTSTANDING_MAX):
            part = page.events[start : start + CLOUD_EVENTS_OUTSTANDING_MAX]
            publishing = [
                exchange.publish(message, routing_key=key, mandatory=False, timeout=PUBLISH_SECONDS_MAX)
                for key, message in map(self._messages.message_of, part)
            ]
            await asyncio.gather(*publishing)
            await asyncio.sleep(
                len(part) / CLOUD_EVENTS_PER_SECOND_MAX if len(page.events) > len(part) else 0
            )

    async def epoch_changed(self) -> None:
        """Stand still: other programs may have been told of events that are no more, and must be told so by people."""
        await self._note(EpochChanged(self.partition, self.checkpoint.mark.position))
        await asyncio.sleep(PAUSE_SECONDS_MAX)


async def relay_partition(relays: Sequence[GroupRelay]) -> None:
    """Relay one partition to all groups, each at its own pace, until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        for relay in relays:
            tasks.create_task(relay.run(), name=f"relay {relay.group} {relay.partition}")
