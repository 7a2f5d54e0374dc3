"""What a test leaves in a broker that it shares with others, and how it is taken away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika

from event_store import topology
from infra.settings import Settings
from infra.system import RunningSystem, running_system

GROUPS = ("projections", "workflows")
SECONDS_MAX = 30.0


async def delete_queues(url: str, namespace: str, partitions: int) -> None:
    """Delete the queues and exchanges of a namespace; those that are not there are no matter."""
    async with (
        asyncio.timeout(SECONDS_MAX),
        await aio_pika.connect(url) as connection,
        connection.channel() as channel,
    ):
        for group in GROUPS:
            for partition in range(partitions):
                await channel.queue_delete(topology.queue_name(namespace, group, partition))
        await channel.queue_delete(topology.dead_name(namespace))
        await channel.exchange_delete(topology.dead_name(namespace))
        await channel.exchange_delete(topology.events_exchange_name(namespace))


@asynccontextmanager
async def tidy_system(settings: Settings) -> AsyncIterator[RunningSystem]:
    """Run a whole system for a block, and leave none of its queues in the broker."""
    try:
        async with running_system(settings) as system:
            yield system
    finally:
        if settings.uses_broker:
            url = settings.broker_url.get_secret_value()
            await delete_queues(url, settings.namespace, settings.partitions)
