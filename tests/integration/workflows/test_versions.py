"""A workflow's version, raised with a fix: what failed under a lower one is taken up again by itself. Fault row F38."""

from collections.abc import AsyncIterator
from signal import SIGKILL
from typing import Any

import pytest

from command_api.workflow import Send
from tests.integration.workflows.world import World, open_world, run_until_dead
from tests.toy import CloseAccount, Deposit, Deposited, OpenAccount, Withdrawn
from tests.toy.workflows import Concierge

PARKED = "SELECT error, consumer_version FROM everfold.parked_events ORDER BY position"


@pytest.fixture
async def world(store_url: str) -> AsyncIterator[World]:
    """A key that failed, with two events that wait behind it, under version 1."""
    async with open_world(store_url, domains="toy") as opened:
        await opened.send(OpenAccount(account_id="A", owner="odd"))
        await opened.send_as_system(CloseAccount(account_id="A"))
        await opened.send(OpenAccount(account_id="A", owner="gift"))
        async with opened.workflows():
            await opened.until_caught_up("concierge")
        yield opened


async def parked(world: World) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await world.pool.fetch(PARKED)]


async def _nothing_parked(world: World) -> bool:
    return not await parked(world)


async def test_a_mended_version_takes_up_what_failed_by_itself_in_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Concierge.opened
    monkeypatch.setattr(Concierge, "version", 2)
    monkeypatch.setattr(
        Concierge,
        "opened",
        lambda self, trigger: [] if trigger.event.owner == "odd" else opened(self, trigger),
    )
    async with world.workflows():
        await world.until(lambda: _nothing_parked(world))
        await world.until_caught_up("concierge")
    assert [event.cents for event in await world.events(Deposited)] == [1, 100]
    assert await world.count(Withdrawn) == 1


async def test_the_same_version_leaves_it_to_an_operator(world: World) -> None:
    before = await parked(world)
    async with world.workflows():
        await world.send(OpenAccount(account_id="B", owner="gift"))
        await world.until_caught_up("concierge")
    assert await parked(world) == before == [("ValueError: odd owner", 1), (None, 1), (None, 1)]


async def test_a_version_that_mends_nothing_tries_once_and_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Concierge, "version", 2)

    async def held_again() -> bool:
        return (await parked(world))[0] == ("ValueError: odd owner", 2)

    async with world.workflows():
        await world.until(held_again)
    after = await parked(world)
    async with world.workflows():
        await world.send(OpenAccount(account_id="B", owner="gift"))
        await world.until_caught_up("concierge")
    assert await parked(world) == after
    assert [event.cents for event in await world.events(Deposited)] == [1, 100]


async def test_a_half_done_reaction_that_now_means_something_else_is_set_aside_and_doubles_nothing(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first command was sent before the crash; the new build would send another one in its place."""
    async with open_world(store_url, domains="toy") as world:
        await world.send(
            OpenAccount(account_id="A", owner="gift"), OpenAccount(account_id="B", owner="quiet")
        )
        assert await run_until_dead(world, "workflow.after_send=kill") == -SIGKILL
        monkeypatch.setattr(Concierge, "version", 2)
        monkeypatch.setattr(
            Concierge, "opened", lambda self, trigger: [Send(Deposit(account_id=trigger.ids[0], cents=7))]
        )
        async with world.workflows():
            await world.until_caught_up("concierge")
        ((error, version),) = await parked(world)
        deposits = {
            event.stream: decoded.cents
            for event, decoded in zip(
                await world.recorded(Deposited), await world.events(Deposited), strict=True
            )
        }
    assert (error.split(":")[0], version) == ("IdempotencyKeyReused", 2)
    assert deposits == {"accounts/A": 100, "accounts/B": 7}
