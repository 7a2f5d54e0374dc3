"""The log loses its end under a running relay: it goes on from the log's end, and its consumers notice."""

import asyncio

from event_store.connections import connect
from tests.integration.event_store.tampering import cut_tail
from tests.integration.feed.feeding import feeding


async def test_the_relay_starts_again_and_the_consumer_of_what_was_lost_stands_still(  # F18
    database: str, broker_url: str
) -> None:
    async with feeding(database, broker_url) as feed, feed.relaying() as relay, feed.consuming() as taken:
        await feed.append(5)
        await feed.reached(await feed.append(3))
        admin = await connect(database)
        await cut_tail(admin, feed.partition, 5, namespace=feed.namespace)
        await feed.append(4)
        position = await feed.append(2)

        async def waiting_for() -> str:
            return str(
                await feed.pool.fetchval(
                    f"SELECT waiting_for FROM {feed.namespace}.checkpoints WHERE kind = 'workflow' "
                    "AND consumer = 'taken' AND partition = $1",
                    feed.partition,
                )
            )

        async with asyncio.timeout(50):
            while relay.checkpoint.mark.position < position or "no longer has" not in await waiting_for():
                await asyncio.sleep(0.05)
        head = await feed.log.head(feed.partition)
        assert head is not None
        assert relay.checkpoint.mark == head.mark
        assert "taken 0 in partition" in await waiting_for()
        assert "the commit at 8" in await waiting_for()
        position = await feed.append(1)
        async with asyncio.timeout(50):
            while relay.checkpoint.mark.position < position:
                await asyncio.sleep(0.05)
        assert taken.positions(feed.partition) == list(range(1, 9)), "nothing of another history was taken"
        await admin.close()
