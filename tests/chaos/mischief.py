"""A client of the broker that means ill, and a tap that hears what other programs are told."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any

import aio_pika
import orjson
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, DeliveryError

from event_store import topology
from tests.chaos.plan import MISCHIEF_PAUSE_SECONDS, Mischief, mischief_of
from tests.queues import GROUPS

STOLEN_MAX = 200
STEAL_SECONDS = 2.0
DRAIN_SECONDS_MAX = 60.0
EMPTY_LOOKS = 3


class Villain:
    """Does what the plan says to feed queues, and remembers the forgeries."""

    def __init__(self, url: str, namespace: str, partitions: Sequence[int], seed: int) -> None:
        self._url, self._namespace, self._seed = url, namespace, seed
        self._queues = [
            topology.queue_name(namespace, group, part) for group in GROUPS for part in partitions
        ]
        self._stolen: list[tuple[str, bytes]] = []
        self._chance = random.Random(f"{seed}/villain")
        self._forged = 0
        self.injected: list[str] = []
        self.injected_last: list[str] = []
        self.done: Counter[str] = Counter()

    async def run(self) -> None:
        """Do mischief until cancelled."""
        number = 0
        async with await aio_pika.connect(self._url) as connection:
            while True:
                await asyncio.sleep(MISCHIEF_PAUSE_SECONDS)
                number += 1
                what, which = mischief_of(self._seed, number, len(self._queues))
                with suppress(AMQPError, OSError):  # a queue that is not there at this moment
                    async with connection.channel() as channel:
                        await self._do(channel, what, self._queues[which])
                        self.done[what] += 1

    async def forge_last(self) -> None:
        """Put one more forgery into every queue, when nothing can take it away any more; each is made again first."""
        async with (
            asyncio.timeout(DRAIN_SECONDS_MAX),
            await aio_pika.connect(self._url) as connection,
            connection.channel(on_return_raises=True) as channel,
        ):
            for queue in self._queues:
                body = self._forgery()
                while not await self._is_taken(channel, queue, body):
                    await asyncio.sleep(MISCHIEF_PAUSE_SECONDS)
                self.injected_last.append(sha256(body).hexdigest())

    async def drained(self) -> None:
        """
        Give consumers their time to empty the queues; what is left after it is told by `left_over`.

        A queue also counts for empty while a consumer has its last messages in hand, so they must stay empty a while.
        """
        empty = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS_MAX):
                while empty < EMPTY_LOOKS:
                    await asyncio.sleep(MISCHIEF_PAUSE_SECONDS)
                    empty = 0 if any((await self._counts()).values()) else empty + 1

    async def _counts(self) -> dict[str, int]:
        async with await aio_pika.connect(self._url) as connection, connection.channel() as channel:
            queued = {}
            for name in self._queues:
                queue = await channel.declare_queue(name, passive=True)
                queued[name] = queue.declaration_result.message_count or 0
        return queued

    async def left_over(self) -> tuple[dict[str, int], list[str]]:
        """Return how many messages each queue holds, and digests of the dead letters."""
        dead: list[str] = []
        queued = await self._counts()
        async with await aio_pika.connect(self._url) as connection, connection.channel() as channel:
            letters = await channel.get_queue(topology.dead_name(self._namespace))
            async with asyncio.timeout(DRAIN_SECONDS_MAX):
                while (message := await letters.get(fail=False, no_ack=True)) is not None:
                    dead.append(sha256(message.body).hexdigest())
        return queued, dead

    async def _do(self, channel: Any, what: Mischief, name: str) -> None:
        match what:
            case Mischief.PURGE:
                await (await channel.get_queue(name)).purge()
            case Mischief.DELETE:
                await channel.queue_delete(name)
            case Mischief.FORGE:
                await self._put(channel, name, self._forgery())
            case Mischief.STEAL:
                await self._steal(channel, name)
            case Mischief.REPEAT:
                for queue, body in self._chance.sample(self._stolen, min(5, len(self._stolen))):
                    await self._put(channel, queue, body)

    async def _steal(self, channel: Any, name: str) -> None:
        """Stand in line as a consumer; who is next when a process dies is given its messages."""
        got: list[AbstractIncomingMessage] = []
        await channel.set_qos(prefetch_count=STOLEN_MAX)
        queue = await channel.get_queue(name)
        await queue.consume(lambda message: _keep(got, message))
        await asyncio.sleep(STEAL_SECONDS)
        for message in got:
            await message.ack()
        bodies = [message.body for message in got]
        forged = [body for body in bodies if sha256(body).hexdigest() in self.injected]
        bodies = [body for body in bodies if body not in forged]
        self._stolen = [*self._stolen, *((name, body) for body in bodies)][-STOLEN_MAX:]
        back = forged  # each once: every forgery is to be one dead letter
        back += [body for body in bodies for _ in range(self._chance.choice((0, 1, 2)))]
        self._chance.shuffle(back)
        for body in back:
            await self._put(channel, name, body)

    def _forgery(self) -> bytes:
        self._forged += 1
        body = f"EF1 forgery {self._seed}/{self._forged}".encode()
        self.injected.append(sha256(body).hexdigest())
        return body

    @staticmethod
    async def _is_taken(channel: Any, queue: str, body: bytes) -> bool:
        """Say whether the broker has put a message into a queue: it may be full, or not be there."""
        try:
            await channel.default_exchange.publish(aio_pika.Message(body), routing_key=queue, mandatory=True)
        except DeliveryError:
            return False
        return True

    @staticmethod
    async def _put(channel: Any, queue: str, body: bytes) -> None:
        with suppress(DeliveryError):  # the queue is full: one more that is lost
            await channel.default_exchange.publish(aio_pika.Message(body), routing_key=queue, mandatory=False)


async def _keep(got: list[AbstractIncomingMessage], message: AbstractIncomingMessage) -> None:
    got.append(message)


class Tap:
    """Hears every event that other programs are told, from the beginning."""

    def __init__(self, url: str, namespace: str) -> None:
        self._url, self._namespace = url, namespace
        self.heard: set[str] = set()

    async def __aenter__(self) -> "Tap":
        self._connection = await aio_pika.connect(self._url)
        channel = await self._connection.channel()
        exchange = await topology.declare_events_exchange(channel, self._namespace)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, routing_key="#")
        await queue.consume(self._hear, no_ack=True)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._connection.close()

    async def _hear(self, message: AbstractIncomingMessage) -> None:
        self.heard.add(orjson.loads(message.body)["id"])
