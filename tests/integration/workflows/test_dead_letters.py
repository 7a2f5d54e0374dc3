"""What an operator does about events that a workflow set aside: `everfold dead-letters`."""

from collections.abc import AsyncIterator

import pytest

from projectors.dead_letters import document_of, read_parked, retry, skip
from projectors.read_side import ReadSide, open_read_side
from tests.integration.workflows.world import TENANT, World, open_world
from tests.toy import CloseAccount, Deposited, OpenAccount, Withdrawn


@pytest.fixture
async def world(store_url: str) -> AsyncIterator[World]:
    async with open_world(store_url, domains="toy") as opened:
        await opened.send(OpenAccount(account_id="A", owner="odd"))
        await opened.send_as_system(CloseAccount(account_id="A"))
        await opened.send(OpenAccount(account_id="A", owner="gift"))
        async with opened.workflows():
            await opened.until_caught_up("concierge")
        yield opened


@pytest.fixture
async def side(world: World) -> AsyncIterator[ReadSide]:
    async with open_read_side(world.settings, name="test") as opened:
        yield opened


async def test_they_are_listed_in_order_with_what_went_wrong(side: ReadSide) -> None:
    documents = [document_of(one) for one in await read_parked(side, TENANT)]
    assert [(one["workflow"], one["key"], one["type"], one["error"]) for one in documents] == [
        ("concierge", ["accounts/A"], "AccountOpened", "ValueError: odd owner"),
        ("concierge", ["accounts/A"], "AccountClosed", None),
        ("concierge", ["accounts/A"], "AccountOpened", None),
    ]
    assert await read_parked(side, "another") == []


async def test_one_that_is_left_out_lets_the_others_go_on(world: World, side: ReadSide) -> None:
    first, *_ = await read_parked(side, TENANT)
    async with world.workflows():
        assert await skip(side, first, "cannot be") == {"concierge accounts/A": "left out"}
        await world.until(lambda: _none(side))
        await world.until_caught_up("concierge")
    assert await world.count(Withdrawn) == 1
    actor, reason = await world.pool.fetchrow("SELECT actor, reason FROM everfold.skipped_events")
    assert (bool(actor), reason) == (True, "cannot be")


async def test_one_that_is_tried_again_in_vain_is_back_with_its_error(world: World, side: ReadSide) -> None:
    await retry(side, await read_parked(side, TENANT))
    assert [one["error"] for one in await read_parked(side, TENANT)] == [None, None, None]
    async with world.workflows():
        await world.until(lambda: _failed_again(side))
    assert await world.count(Withdrawn) == 0
    assert [event.cents for event in await world.events(Deposited)] == [1]


async def _none(side: ReadSide) -> bool:
    return not await read_parked(side, TENANT)


async def _failed_again(side: ReadSide) -> bool:
    return [one["error"] for one in await read_parked(side, TENANT)] == ["ValueError: odd owner", None, None]
