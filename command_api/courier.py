"""
Delivers messages to the outside world: takes them up, sends them, and tries again later what was not taken.

Each route, a channel or a tenant's own, has places of its own, so a receiver that is slow or away holds up nobody
else's messages. One that was away several times in a row is asked with one message at a time, ever more seldom, until
it answers; one that asks to be left alone is. A receiver that refuses a message is there: the others go on.
Every process of the role delivers; a message's row says who has it in hand. It leaves at least once, always with
the same id; in no order, as a later message does not wait for an earlier one that is tried again.
"""

import asyncio
import random
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from command_api.channels import Channel, Channels
from command_api.mail import ALLOWED_AFTER_SECONDS, Mail
from command_api.outgoing import Free, Outgoing, OutgoingMessages
from command_api.webhooks import NotDelivered, Webhooks
from event_store.standing import Standing
from infra.failpoints import failpoint
from infra.telemetry import Counter, Gauge, log

LOOK_SECONDS = 2.0
"""How late a message may be that was tried before, or that another process has written."""
CLAIM_MARGIN_SECONDS = 2.0
"""How much longer than an attempt may take a message is kept from other processes."""
PROBE_AFTER = 5
"""How often in a row a receiver was away when it is asked with one message at a time."""
PAUSE_SECONDS_MAX = 60.0
"""How long such a route is left alone at most."""
ASKED_SECONDS_MAX = 3_600.0
"""How long a route is left alone at most because its receiver asks for it; a message waits as long as it was told."""
UNROUTED_AT_ONCE = 100
SPREAD = 0.2
"""Waiting times are up to a fifth longer, so that what failed together does not come again together."""
STOP_SECONDS_MAX = 5.0
COUNT_SECONDS, FORGET_SECONDS = 15.0, 3_600.0

DELIVERIES = Counter(
    "everfold_deliveries_total", "Attempts to deliver messages to the outside world", ["channel", "outcome"]
)
UNDELIVERED = Gauge(
    "everfold_undelivered_messages",
    "Messages to the outside world that are not delivered",
    ["channel", "state"],
)


@dataclass(slots=True)
class Route:
    """Where messages of a channel go: those of one tenant, or of all that have no route of their own."""

    name: str
    tenant: str | None
    channel: Channel | None
    """None: nobody has said where."""
    busy: int = 0
    failures: int = 0
    """How often in a row its receiver was away."""
    paused_until: float = 0.0
    asked_until: float = 0.0
    """Until when its receiver wants to be left alone."""

    def free(self, now: float) -> Free:
        """Return how much it can take up at a time of the monotonic clock."""
        if self.channel is None:
            return Free(self.name, self.tenant, UNROUTED_AT_ONCE - self.busy, CLAIM_MARGIN_SECONDS)
        places = 1 if self.failures >= PROBE_AFTER else self.channel.at_once
        if now < max(self.paused_until, self.asked_until):
            places = 0
        seconds = self.channel.timeout_seconds + CLAIM_MARGIN_SECONDS
        if self.channel.mail_to is not None:
            seconds += ALLOWED_AFTER_SECONDS
        return Free(self.name, self.tenant, max(0, places - self.busy), seconds)

    def answered(self) -> None:
        """Take note that the receiver is there: it has taken a message, or refused one."""
        self.failures, self.paused_until = 0, 0.0

    def was_away(self, now: float, asked_seconds: float) -> None:
        """Take note that the receiver takes nothing now, and how long it asks to be left alone."""
        self.failures += 1
        self.asked_until = max(self.asked_until, now + min(asked_seconds, ASKED_SECONDS_MAX))
        if self.failures >= PROBE_AFTER:
            self.paused_until = now + min(2.0 ** (self.failures - PROBE_AFTER), PAUSE_SECONDS_MAX)


class Courier:
    """Delivers messages, as one of any number of processes."""

    def __init__(
        self, messages: OutgoingMessages, channels: Channels, told: Collection[str], standing: Standing
    ) -> None:
        self._messages, self._standing = messages, standing
        self._routes = [
            Route(name, tenant, channel) for (name, tenant), channel in channels.routes(told).items()
        ]
        self._mail = Mail()
        self._wake = asyncio.Event()
        self._work: set[asyncio.Task[None]] = set()
        self._counted: dict[tuple[str, str], int] = {}

    def told(self) -> None:
        """Look now: something was written."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop`, then end what is under way."""
        if not self._routes:
            return
        waking = asyncio.create_task(self._wake_at(stop), name="stop courier")
        keeping = asyncio.create_task(self._keep_house(), name="keep house of messages")
        try:
            async with Webhooks() as webhooks:
                try:
                    while not stop.is_set():
                        await self._turn(webhooks)
                finally:
                    await self._end()
        finally:
            for task in (waking, keeping):
                task.cancel()
            await asyncio.gather(waking, keeping, return_exceptions=True)

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _end(self) -> None:
        """Let attempts under way end; one that is cut off is made again by another process, with the same id."""
        if self._work:
            await asyncio.wait(self._work, timeout=STOP_SECONDS_MAX)
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    async def _turn(self, webhooks: Webhooks) -> None:
        """Take up what there is to be taken up; where that is nothing, wait."""
        self._wake.clear()
        taken = 0
        try:
            taken = await self._take_up(webhooks)
        except Exception as error:
            log.warning("messages not looked at", error=repr(error))
        if taken == 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()

    async def _take_up(self, webhooks: Webhooks) -> int:
        now = time.monotonic()
        free = [route.free(now) for route in self._routes]
        if self._standing.missing() or not any(one.places for one in free):
            return 0
        claimed = await self._messages.claim(free)
        failpoint("delivery.after_claim")
        for number, message in claimed:
            route = self._routes[number]
            route.busy += 1
            task = asyncio.create_task(self._deliver(webhooks, route, message), name=f"deliver {message.id}")
            self._work.add(task)
            task.add_done_callback(self._work.discard)
        return len(claimed)

    # -- one message --------------------------------------------------------------------------------------

    async def _deliver(self, webhooks: Webhooks, route: Route, message: Outgoing) -> None:
        """Make one attempt, and note what became of it."""
        try:
            outcome = await self._attempt(webhooks, route, message)
            DELIVERIES.labels(message.channel, outcome).inc()
        except Exception as error:  # it is not noted what became of it: it is sent again, with the same id
            log.error("a delivery could not be noted", message=message.id, exc_info=error)
        finally:
            route.busy -= 1
            self._wake.set()

    async def _attempt(self, webhooks: Webhooks, route: Route, message: Outgoing) -> str:
        channel = route.channel
        if channel is None:
            await self._messages.end(message, "unrouted", f"no channel {message.channel} is configured")
            return "unrouted"
        if message.attempts > channel.attempts_max:
            return await self._give_up(message, "no attempt has ended")
        failpoint("delivery.before_send")
        try:
            await (webhooks if channel.webhook else self._mail).send(channel, message)
        except NotDelivered as failure:
            return await self._failed(route, channel, message, failure)
        except Exception as error:
            log.error("a message could not be sent", message=message.id, exc_info=error)
            return await self._failed(route, channel, message, NotDelivered(repr(error), is_away=False))
        failpoint("delivery.after_send")
        route.answered()
        await self._messages.end(message, "delivered")
        failpoint("delivery.after_note")
        return "delivered"

    async def _failed(self, route: Route, channel: Channel, message: Outgoing, failure: NotDelivered) -> str:
        if failure.is_away:
            route.was_away(time.monotonic(), failure.wait_seconds)
        else:
            route.answered()
        if failure.is_final or message.attempts >= channel.attempts_max:
            return await self._give_up(message, failure.reason)
        seconds = channel.retry_seconds[message.attempts - 1] * (1 + SPREAD * random.random())
        seconds = max(seconds, failure.wait_seconds)
        await self._messages.postpone(message, failure.reason, seconds)
        if seconds < LOOK_SECONDS:
            asyncio.get_running_loop().call_later(seconds, self._wake.set)
        return "failed"

    async def _give_up(self, message: Outgoing, reason: str) -> str:
        log.error(
            "a message to the outside world is given up",
            message=message.id, channel=message.channel, tenant=message.tenant, error=reason,
        )  # fmt: skip
        await self._messages.end(message, "dead", reason)
        return "dead"

    # -- the whole ----------------------------------------------------------------------------------------

    async def _keep_house(self) -> None:
        """Count what is not delivered, and take away what ended long ago."""
        forget_at = time.monotonic()
        while True:
            try:
                self._show(await self._messages.counts())
                if time.monotonic() >= forget_at and not await self._messages.forget_old():
                    forget_at = time.monotonic() + FORGET_SECONDS
            except Exception as error:
                log.warning("messages not counted", error=repr(error))
            await asyncio.sleep(COUNT_SECONDS)

    def _show(self, counts: Mapping[tuple[str, str], int]) -> None:
        for place in self._counted.keys() - counts.keys():
            UNDELIVERED.labels(*place).set(0)
        for place, messages in counts.items():
            UNDELIVERED.labels(*place).set(messages)
        self._counted = dict(counts)
