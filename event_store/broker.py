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
from functools import partial

from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from event_store import topology
from event_store.feed import PAGE_EVENTS_MAX, POLL_SECONDS_MIN, LogFeed, beyond
from event_store.feed_messages import BrokenMessage, FeedMessage, check_chain, decode_message, joined
from event_store.log import EventLog, Page
from event_store.wake import HeadWatch
from infra.failpoints import failpoint
from infra.telemetry import Counter, log
from infra.waiting import first_of
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
PAGES = Counter(
    "everfold_feed_pages_total", "Pages given to consumers, by where they came from", ["group", "source"]
)


@dataclass(eq=False)
class _Delivery:
    claim: FeedMessage
    message: AbstractIncomingMessage

    @property
    def page(self) -> Page:
        return self.claim.page


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
        while self._keeper is not None and not self._keeper.done():
            self._keeper.cancel()  # again, where the client that was opening a connection has lost it
            await asyncio.wait([self._keeper], timeout=2 * topology.CALL_SECONDS_MAX)

    async def feed_of(self, partition: int) -> "BrokerFeed":
        """Return the feed of a partition that this process holds."""
        return BrokerFeed(self, partition, self._log, self._watch)

    async def discard(self, connection: AbstractConnection) -> None:
        """Close a connection on which something could not be ended; the keeper opens another."""
        log.warning("broker does not answer, connecting again", group=self.group)
        with suppress(*BROKER_ERRORS):
            async with asyncio.timeout(topology.CALL_SECONDS_MAX):
                await connection.close()

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
    if connection.connected.is_set():
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
        self._connection: AbstractConnection | None = None
        """What the subscription is on, or was."""
        self._subscribing: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._subscribed_at = 0.0
        self._has_ended = False
        """Whether the broker has ended the consumer, on a channel that is still open."""
        self._heard_at = time.monotonic()
        self._tails = False
        """Whether the log is followed itself, until the broker has caught up with it."""

    async def next(self, after: CommitMark, *, wait_seconds: float) -> Page:
        """Return what follows a mark, from the broker or from the log."""
        deadline = time.monotonic() + wait_seconds
        while True:
            self._news.clear()
            self._subscribe()
            page = await self._delivered(after)
            if page is not None:
                return page
            left = deadline - time.monotonic()
            page = await self._from_log(after, max(0.0, left))
            if page.events:
                PAGES.labels(self._feeds.group, "log").inc()
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
        self._unsubscribe()
        await self._log_feed.close()
        with suppress(TimeoutError):  # what is left ends by itself, soon
            async with asyncio.timeout(topology.CALL_SECONDS_MAX):
                while self._closing:
                    await asyncio.wait(self._closing)

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
                check_chain(delivery.claim)
            except (BrokenMessage, EpochChanged) as problem:
                self._arrived.popleft()
                await self._refuse(delivery.message, problem)
                break
            if pages and rest.arrival is not None:
                break
            taken.append(self._arrived.popleft())
            pages.append(rest)
            mark = rest.end
        if not pages:
            if self._arrived:
                return await self._gap(after)
            if self._given:
                await self.settled(after)
            return None
        commit = await self._log.commit_of(self._partition, mark.position)
        if commit is None or commit.mark != mark:
            for delivery in taken:
                await self._refuse(delivery.message, BrokenMessage("the log does not have its last commit"))
            return await self._gap(after)
        self._given.extend(taken)
        self._tails = False
        PAGES.labels(self._feeds.group, "broker").inc()
        return joined(pages)

    async def _gap(self, after: CommitMark) -> Page | None:
        """Read from the log what should have been delivered."""
        REPAIRED.labels(self._feeds.group).inc()
        beyond_it = [delivery for delivery in self._arrived if delivery.page.after.position > after.position]
        page = await self._log_feed.next(after, wait_seconds=0)
        if page.events:
            PAGES.labels(self._feeds.group, "log").inc()
            return page
        for delivery in beyond_it:  # from the future: the log does not have what comes before them
            if delivery in self._arrived:
                self._arrived.remove(delivery)
                await self._refuse(delivery.message, BrokenMessage("is not in the log"))
        return None

    async def _refuse(self, message: AbstractIncomingMessage, problem: Exception) -> None:
        DEAD.labels(self._feeds.group).inc()
        log.warning(
            "message refused", group=self._feeds.group, partition=self._partition, problem=str(problem)
        )
        with suppress(*BROKER_ERRORS):
            await message.reject(requeue=False)

    async def _on_message(self, channel: AbstractChannel, message: AbstractIncomingMessage) -> None:
        failpoint("feed.delivered")
        if self._channel is not channel:
            return  # of a subscription that was given up: the broker delivers it again
        self._heard_at = time.monotonic()
        try:
            claim = decode_message(message.body)
            if claim.page.partition != self._partition:
                raise BrokenMessage(f"is of partition {claim.page.partition}")
        except BrokenMessage as problem:
            await self._refuse(message, problem)
            return
        self._arrived.append(_Delivery(claim, message))
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
        await first_of(self._watch.wait_beyond(self._partition, after.position, seconds), self._news.wait())
        return page

    # -- the subscription ---------------------------------------------------------------------------------

    def _subscribe(self) -> None:
        """See that the queue is consumed, if the broker is there. Never waits: a broker may answer late or never."""
        now = time.monotonic()
        is_stale = self._tails and now - self._subscribed_at > 2 * SUBSCRIBE_SECONDS_MIN
        if self._channel is not None and (self._channel.is_closed or self._has_ended or is_stale):
            self._unsubscribe()
        connection = self._feeds.connection
        if self._channel is not None or self._subscribing is not None or connection is None:
            return
        if now - self._subscribed_at >= SUBSCRIBE_SECONDS_MIN:
            self._subscribed_at = now
            self._subscribing = asyncio.create_task(self._consume(connection), name="subscribe")

    async def _consume(self, connection: AbstractConnection) -> None:
        """
        Make the queue if need be, and consume it.

        It is never cancelled: the client may lose a cancellation, or end the whole connection over it. It looks for
        itself whether it is still wanted.
        """
        feeds, attempt = self._feeds, asyncio.current_task()
        opened: AbstractChannel | None = None
        try:
            await topology.declare_queue(connection, feeds.namespace, feeds.group, self._partition)
            async with asyncio.timeout(topology.CALL_SECONDS_MAX):
                opened = await connection.channel(publisher_confirms=False)
                await opened.set_qos(prefetch_count=PREFETCH_MESSAGES)
                queue = await topology.feed_queue(opened, feeds.namespace, feeds.group, self._partition)
                if self._subscribing is attempt:
                    await self._hear_of_end(opened)
                    self._channel, self._connection = opened, connection
                    await queue.consume(partial(self._on_message, opened))
        except BROKER_ERRORS as error:
            log.warning("not subscribed", group=feeds.group, partition=self._partition, error=repr(error))
            if self._subscribing is attempt:
                self._channel = None
        finally:
            if opened is not None and self._channel is not opened:
                self._close_soon(opened, connection)
            if self._subscribing is attempt:
                self._subscribing = None
                self._news.set()

    async def _hear_of_end(self, channel: AbstractChannel) -> None:
        """Have a channel given up when the broker ends its consumer, as it does when the queue is deleted."""

        def ended(_frame: object) -> None:
            if self._channel is channel:
                self._has_ended = True
                self._news.set()

        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(ended)

    def _unsubscribe(self) -> None:
        """Give up the subscription, or the attempt at one."""
        attempt, self._subscribing = self._subscribing, None
        channel, self._channel = self._channel, None
        if attempt is not None:
            self._closing.add(attempt)
            attempt.add_done_callback(self._closing.discard)
        self._arrived.clear()
        self._given.clear()
        self._has_ended = False
        if channel is not None and self._connection is not None:
            self._close_soon(channel, self._connection)

    def _close_soon(self, channel: AbstractChannel, connection: AbstractConnection) -> None:
        async def close() -> None:
            """A channel that stays open would keep the queue, and what it was sent, from everybody else."""
            try:
                async with asyncio.timeout(topology.CALL_SECONDS_MAX):
                    await channel.close()
            except TimeoutError:
                await self._feeds.discard(connection)
            except BROKER_ERRORS as error:  # it has ended already
                log.info("channel had ended", group=self._feeds.group, error=repr(error))

        task = asyncio.create_task(close(), name="close channel")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
