"""Workflows that are fed through RabbitMQ: the same effects, once, whatever the broker does."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from tests.integration.feed.feeding import PARTITIONS, Feeding, feeding
from tests.integration.workflows.world import World, open_world
from tests.toy import Deposited, OpenAccount, Withdrawn

GIFTS = 40


@dataclass
class Fed:
    """A world whose workflows are fed through a broker."""

    feed: Feeding
    world: World

    async def open_accounts(self, first: int) -> None:
        """Open accounts whose owners get gifts."""
        accounts = [f"gift-{number}" for number in range(first, first + GIFTS)]
        await self.world.send(*[OpenAccount(account_id=account_id, owner="gift") for account_id in accounts])

    async def counts(self) -> tuple[int, int]:
        """Return how often each of the two commands took effect."""
        return await self.world.count(Deposited), await self.world.count(Withdrawn)


@pytest.fixture
async def fed(database: str, broker_url: str) -> AsyncIterator[Fed]:
    async with AsyncExitStack() as stack:
        feed = await stack.enter_async_context(feeding(database, broker_url))
        given = {"broker_url": broker_url, "namespace": feed.namespace, "partitions": PARTITIONS}
        world = await stack.enter_async_context(open_world(database, domains="toy", **given))
        yield Fed(feed, world)


async def test_what_the_broker_delivers_has_its_effects_once(fed: Fed) -> None:
    async with fed.feed.relaying(), fed.world.workflows():
        for first in (0, GIFTS):
            await fed.open_accounts(first)
            await fed.world.until_caught_up("concierge")
    assert await fed.counts() == (2 * GIFTS, 2 * GIFTS)


async def test_without_a_relay_the_log_itself_is_followed(fed: Fed) -> None:
    async with fed.world.workflows():
        await fed.open_accounts(0)
        await fed.world.until_caught_up("concierge")
    assert await fed.counts() == (GIFTS, GIFTS)


async def test_a_queue_emptied_behind_the_relays_back_loses_no_reaction(fed: Fed) -> None:
    """F29: nothing follows the messages that are gone, and the head of the log tells."""
    async with fed.feed.relaying():
        await fed.open_accounts(0)
        position = await fed.world.fetch(f"SELECT max(last_position) FROM {fed.world.schema}.commits")

        async def relayed() -> bool:
            relayed_to = await fed.world.fetch(
                f"SELECT max(position) FROM {fed.world.schema}.checkpoints WHERE kind = 'relay'"
            )
            return bool((relayed_to or 0) >= position)

        await fed.world.until(relayed)
        async with fed.feed.channel() as channel:
            queue = await channel.get_queue(fed.feed.queue)
            await queue.purge()
        async with fed.world.workflows():
            await fed.world.until_caught_up("concierge")
    assert await fed.counts() == (GIFTS, GIFTS)
