"""
The names and properties of everything that stands in the broker, each stated in full.

Feed queues are ours alone and hold nothing that the log does not have, so one that was declared otherwise by an
earlier program is dropped and made anew.
"""

import asyncio
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractQueue
from aio_pika.exceptions import ChannelPreconditionFailed

from infra.waiting import apart

HEARTBEAT_SECONDS = 5
"""The client takes a connection for dead after three of these, and the broker after two."""
CONNECT_SECONDS_MAX = 5.0
CALL_SECONDS_MAX = 5.0
DECLARE_SECONDS_MAX = 10.0
QUEUE_MESSAGES_MAX = 2_000
QUEUE_BYTES_MAX = 256 * 1024 * 1024
UNUSED_MILLISECONDS_MAX = 3600 * 1000
"""A queue that nobody has read for so long is dropped, as of a system that is no more; the relay makes it anew."""
DELIVERIES_MAX = 20
"""After so many a message goes to the dead letters; the feed reads from the log what was in it."""
DEAD_MESSAGES_MAX = 10_000
DEAD_LETTER_STRATEGY = "at-most-once"
"""The other one can make every such queue of a node unreadable (decision 0031), to keep what no one depends on."""


def queue_name(namespace: str, group: str, partition: int) -> str:
    """Return the name of the queue of a group's partition."""
    return f"{namespace}.{group}.{partition}"


def dead_name(namespace: str) -> str:
    """Return the name of the exchange and the queue of dead letters."""
    return f"{namespace}.dead"


def events_exchange_name(namespace: str) -> str:
    """Return the name of the exchange for other programs."""
    return f"{namespace}.events"


async def connect(url: str, name: str) -> AbstractConnection:
    """Open a connection that notices within seconds that the other end is gone."""
    separator = "&" if "?" in url else "?"
    return await aio_pika.connect(
        f"{url}{separator}heartbeat={HEARTBEAT_SECONDS}",
        timeout=CONNECT_SECONDS_MAX,
        client_properties={"connection_name": name},
    )


async def declare_queue(connection: AbstractConnection, namespace: str, group: str, partition: int) -> None:
    """
    Make the queue of a group's partition, and where its dead letters go.

    The client may lose a cancellation that comes while a channel is closed, and a relay or a consumer that was to end
    would go on; so it is kept from the client.

    Raises:
        TimeoutError: The broker does not answer: opening a channel has no bound of its own.
    """
    await apart(_declare_in_time(connection, namespace, group, partition))


async def _declare_in_time(
    connection: AbstractConnection, namespace: str, group: str, partition: int
) -> None:
    async with asyncio.timeout(DECLARE_SECONDS_MAX):
        await _declare_queue(connection, namespace, group, partition)


async def _declare_queue(connection: AbstractConnection, namespace: str, group: str, partition: int) -> None:
    name, dead = queue_name(namespace, group, partition), dead_name(namespace)
    arguments: dict[str, Any] = {
        "x-queue-type": "quorum",
        "x-single-active-consumer": True,
        "x-delivery-limit": DELIVERIES_MAX,
        "x-dead-letter-exchange": dead,
        "x-dead-letter-routing-key": name,
        "x-dead-letter-strategy": DEAD_LETTER_STRATEGY,
        "x-overflow": "reject-publish",
        "x-max-length": QUEUE_MESSAGES_MAX,
        "x-max-length-bytes": QUEUE_BYTES_MAX,
        "x-expires": UNUSED_MILLISECONDS_MAX,
    }
    async with connection.channel() as channel:
        exchange = await channel.declare_exchange(
            dead, aio_pika.ExchangeType.FANOUT, durable=True, timeout=CALL_SECONDS_MAX
        )
        dead_queue = await channel.declare_queue(
            dead,
            durable=True,
            arguments={
                "x-queue-type": "quorum",
                "x-overflow": "drop-head",
                "x-max-length": DEAD_MESSAGES_MAX,
            },
            timeout=CALL_SECONDS_MAX,
        )
        await dead_queue.bind(exchange, timeout=CALL_SECONDS_MAX)
    try:
        async with connection.channel() as channel:
            await channel.declare_queue(name, durable=True, arguments=arguments, timeout=CALL_SECONDS_MAX)
    except ChannelPreconditionFailed:
        async with connection.channel() as channel:
            await channel.queue_delete(name, timeout=CALL_SECONDS_MAX)
            await channel.declare_queue(name, durable=True, arguments=arguments, timeout=CALL_SECONDS_MAX)


async def declare_events_exchange(channel: AbstractChannel, namespace: str) -> aio_pika.abc.AbstractExchange:
    """Make the exchange that other programs bind their queues to."""
    return await channel.declare_exchange(
        events_exchange_name(namespace), aio_pika.ExchangeType.TOPIC, durable=True, timeout=CALL_SECONDS_MAX
    )


async def feed_queue(channel: AbstractChannel, namespace: str, group: str, partition: int) -> AbstractQueue:
    """Return a queue that is there already."""
    return await channel.get_queue(queue_name(namespace, group, partition), ensure=True)
