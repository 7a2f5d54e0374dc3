"""
A feed that takes what the broker delivers, and needs to trust none of it.

What is at or below the mark asked for is dropped; what begins beyond it leaves a gap, which is read from the log; what
begins exactly there is given on once its hashes are recomputed and its end is found in the log. Nothing delivered
for a while: the head of the log is looked at, because nothing follows a lost last message. While the broker is away,
or the log runs ahead of it, the log itself is followed; so the broker saves the log work, and nothing else.
"""

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from event_store import topology
from event_store.feed import PAGE_EVENTS_MAX, POLL_SECONDS_MIN, LogFeed, beyond
from event_store.feed_messages import BrokenMessage, check_chain, decode_message, joined
from event_store.log import EventLog, Page
from event_store.wake import HeadWatch
from infra.telemetry import Counter, log
from schemas.envelope import CommitMark
from schemas.errors import EpochChanged

PREFETCH_MESSAGES = 32
HEAD_POLL_SECONDS = 1.0
RECONNECT_SECONDS_MIN, RECONNECT_SECONDS_MAX = 0.2, 5.0
SUBSCRIBE_SECONDS_MIN = 2.0
BROKER_ERRORS = (
    AMQPError,
    ChannelInvalidStateError,
    OSError,
    TimeoutError,
    asyncio.InvalidStateError,
    RuntimeError,
)
"""What the client raises when a connection or a channel ends under it."""

DEAD = Counter("everfold_feed_dead_letters_total", "Messages that were not what the log holds", ["group"])
REPAIRED = Counter("everfold_feed_repairs_total", "Pages read from the log in a message's place", ["group"])


@dataclass
class _Delivery:
    page: Page
    message: AbstractIncomingMessage


class BrokerFeeds:
    """The feeds of one process in one group: one connection, a channel for each partition."""

    def __init__(
        self,
        url: str,
        namespace: str,
        group: str,
        event_log: EventLog,
        watch: HeadWatch,
        *,
        page_events_max: int = PAGE_EVENTS_MAX,
    ) -> None:
        self.namespace, self.group = namespace, group
        self.page_events_max = page_events_max
        self.connection: AbstractConnection | None = None
        self._url = url
        self._log = event_log
        self._watch = watch
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "BrokerFeeds":
        self._keeper = asyncio.create_task(self._keep_connected(), name=f"broker {self.group}")
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def feed_of(self, partition: int) -> "BrokerFeed":
        """Return the feed of a partition that this process holds."""
        return BrokerFeed(self, partition, self._log, self._watch)

    async def _keep_connected(self) -> None:
        pause_seconds = RECONNECT_SECONDS_MIN
        while True:
            try:
                connection = await topology.connect(self._url, f"everfold {self.namespace} {self.group}")
                pause_seconds = RECONNECT_SECONDS_MIN
                self.connection = connection
                log.info("broker connected", group=self.group)
                try:
                    await _closed(connection)
                finally:
                    self.connection = None
                    with suppress(*BROKER_ERRORS):
                        async with asyncio.timeout(topology.CALL_SECONDS_MAX):
                            await connection.close()
            except BROKER_ERRORS as error:
                log.warning("broker is away, following the log", group=self.group, error=repr(error))
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, RECONNECT_SECONDS_MAX)


async def _closed(connection: AbstractConnection) -> None:
    """Wait until a connection ends."""
    ended = asyncio.Event()
    connection.close_callbacks.add(lambda *_arguments: ended.set())
    if not connection.is_closed:
        await ended.wait()


class BrokerFeed:
    """A partition's feed from the broker, with the log behind it."""

    def __init__(self, feeds: BrokerFeeds, partition: int, event_log: EventLog, watch: HeadWatch) -> None:
        self._feeds = feeds
        self._partition = partition
        self._log = event_log
        self._watch = watch
        self._log_feed = LogFeed(event_log, partition, watch, events_max=feeds.page_events_max)
        self._arrived: deque[_Delivery] = deque()
        self._given: deque[_Delivery] = deque()
        self._news = asyncio.Event()
        self._channel: AbstractChannel | None = None
        self._subscribed_at = 0.0
        self._heard_at = time.monotonic()
        self._tails = False
        """Whether the log is followed itself, until the broker has caught up with it."""

    async def next(self, after: CommitMark, *, wait_seconds: float) -> Page:
        """Return what follows a mark, from the broker or from the log."""
        deadline = time.monotonic() + wait_seconds
        while True:
            self._news.clear()
            await self._subscribe()
            page = await self._delivered(after)
            if page is not None:
                return page
            left = deadline - time.monotonic()
            page = await self._from_log(after, max(0.0, left))
            if page.events or left <= 0:
                return page

    async def settled(self, mark: CommitMark) -> None:
        """Acknowledge what is committed."""
        last: _Delivery | None = None
        while self._given and self._given[0].page.end.position <= mark.position:
            last = self._given.popleft()
        if last is not None:
            with suppress(
                *BROKER_ERRORS
            ):  # the channel is gone: the broker delivers again, and it is dropped
                await last.message.ack(multiple=True)

    async def close(self) -> None:
        """Leave the queue to others. The channel is closed: a cancelled consumer would keep what it was sent."""
        await self._log_feed.close()
        await self._unsubscribe()

    # -- from the broker ----------------------------------------------------------------------------------

    async def _delivered(self, after: CommitMark) -> Page | None:
        """Return what has been delivered and follows the mark, found to be the log's own; None: nothing such."""
        pages: list[Page] = []
        taken: list[_Delivery] = []
        mark = after
        while self._arrived and sum(len(page.events) for page in pages) < self._feeds.page_events_max:
            delivery = self._arrived[0]
            if delivery.page.end.position <= mark.position:
                self._tails = self._tails and delivery.page.end != mark
                self._given.append(self._arrived.popleft())
                continue
            if delivery.page.after.position > mark.position:
                break
            try:
                rest = beyond(delivery.page, mark)
                check_chain(delivery.page)
            except (BrokenMessage, EpochChanged) as problem:
                self._arrived.popleft()
                await self._refuse(delivery.message, problem)
                break
            taken.append(self._arrived.popleft())
            pages.append(rest)
            mark = rest.end
        if not pages:
            if self._given and not self._arrived:
                await self.settled(after)
            return await self._gap(after) if self._arrived else None
        commit = await self._log.commit_of(self._partition, mark.position)
        if commit is None or commit.mark != mark:
            for delivery in taken:
                await self._refuse(delivery.message, BrokenMessage("the log does not have its last commit"))
            return await self._gap(after)
        self._given.extend(taken)
        self._tails = False
        return joined(pages)

    async def _gap(self, after: CommitMark) -> Page | None:
        """Read from the log what should have been delivered."""
        REPAIRED.labels(self._feeds.group).inc()
        page = await self._log_feed.next(after, wait_seconds=0)
        if page.events:
            return page
        while self._arrived:  # from the future: the log does not have what comes before them
            await self._refuse(self._arrived.popleft().message, BrokenMessage("is not in the log"))
        return None

    async def _refuse(self, message: AbstractIncomingMessage, problem: Exception) -> None:
        DEAD.labels(self._feeds.group).inc()
        log.warning(
            "message refused", group=self._feeds.group, partition=self._partition, problem=str(problem)
        )
        with suppress(*BROKER_ERRORS):
            await message.reject(requeue=False)

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        self._heard_at = time.monotonic()
        try:
            page = decode_message(message.body)
            if page.partition != self._partition:
                raise BrokenMessage(f"is of partition {page.partition}")
        except BrokenMessage as problem:
            await self._refuse(message, problem)
            return
        self._arrived.append(_Delivery(page, message))
        self._news.set()

    # -- from the log -------------------------------------------------------------------------------------

    async def _from_log(self, after: CommitMark, wait_seconds: float) -> Page:
        """Wait for a delivery; look at the log at once where the broker is away or behind, else when it is silent."""
        if self._tails or self._channel is None:
            return await self._race_log(after, wait_seconds)
        silent = HEAD_POLL_SECONDS - (time.monotonic() - self._heard_at)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(wait_seconds, silent))):
                await self._news.wait()
        if self._news.is_set() or time.monotonic() - self._heard_at < HEAD_POLL_SECONDS:
            return Page(self._partition, after, (), after)
        self._heard_at = time.monotonic()
        page = await self._log_feed.next(after, wait_seconds=0)
        if page.events:
            REPAIRED.labels(self._feeds.group).inc()
            self._tails = True
            self._subscribed_at = min(self._subscribed_at, time.monotonic() - SUBSCRIBE_SECONDS_MIN)
        return page

    async def _race_log(self, after: CommitMark, wait_seconds: float) -> Page:
        """Look at the log; where it has nothing, wait until it grows or the broker delivers."""
        page = await self._log_feed.next(after, wait_seconds=0)
        if page.events or wait_seconds <= 0:
            return page
        seconds = min(wait_seconds, POLL_SECONDS_MIN)
        waits = [
            asyncio.create_task(self._watch.wait_beyond(self._partition, after.position, seconds)),
            asyncio.create_task(self._news.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        return page

    # -- the subscription ---------------------------------------------------------------------------------

    async def _subscribe(self) -> None:
        """Consume the queue, if the broker is there and we do not; again where nothing has come for too long."""
        channel, connection = self._channel, self._feeds.connection
        now = time.monotonic()
        is_stale = self._tails and now - self._subscribed_at > 2 * SUBSCRIBE_SECONDS_MIN
        if channel is not None and not channel.is_closed and not is_stale:
            return
        if channel is not None:
            await self._unsubscribe()
        if connection is None or now - self._subscribed_at < SUBSCRIBE_SECONDS_MIN:
            return
        self._subscribed_at = now
        feeds = self._feeds
        try:
            await topology.declare_queue(connection, feeds.namespace, feeds.group, self._partition)
            opened = await connection.channel(publisher_confirms=False)
            await opened.set_qos(prefetch_count=PREFETCH_MESSAGES, timeout=topology.CALL_SECONDS_MAX)
            queue = await topology.feed_queue(opened, feeds.namespace, feeds.group, self._partition)
            await queue.consume(self._on_message, timeout=topology.CALL_SECONDS_MAX)
            self._channel = opened
        except BROKER_ERRORS as error:
            log.warning("not subscribed", group=feeds.group, partition=self._partition, error=repr(error))

    async def _unsubscribe(self) -> None:
        channel, self._channel = self._channel, None
        self._arrived.clear()
        self._given.clear()
        if channel is not None:
            with suppress(*BROKER_ERRORS):
                async with asyncio.timeout(topology.CALL_SECONDS_MAX):
                    await channel.close()
