"""Workflows of a tenant that moves to another partition: each reaction and each timer once. Fault row F55."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from event_store.parking import let_go_on
from schemas import Event
from tests.integration.workflows.world import TENANT, World, open_world
from tests.toy import AccountClosed, AccountOpened, CloseAccount, Deposited, OpenAccount, Withdrawn
from tests.toy.workflows import Concierge

TIMERS = "SELECT count(*) FROM everfold.scheduled_commands"


@pytest.fixture
async def world(store_url: str) -> AsyncIterator[World]:
    async with open_world(store_url, domains="toy") as opened:
        yield opened


def opening(owner: str, *numbers: int) -> list[OpenAccount]:
    return [OpenAccount(account_id=f"{owner}-{number}", owner=owner) for number in numbers]


async def move(world: World) -> tuple[int, int]:
    """Move the tenant; return where it left and where it is."""
    left = await world.partition()
    to = next(partition for partition in world.log.partitions if partition != left)
    await world.log.move_tenant(TENANT, to)
    return left, to


async def count(world: World, kind: type[Event]) -> int:
    """Return how many events of a type the tenant has, wherever they are."""
    found: int = await world.fetch(
        "SELECT count(*) FROM everfold.events WHERE tenant = $1 AND type = $2", TENANT, kind.type
    )
    return found


async def test_reactions_go_on_and_each_happens_once(world: World) -> None:  # F55
    async with world.workflows():
        await world.send(*opening("gift", *range(20)))
        await move(world)
        await world.send(*opening("gift", *range(20, 40)), *opening("curious", 1))

        async def settled() -> bool:
            return await count(world, Withdrawn) >= 40 and await count(world, Deposited) >= 41

        await world.until(settled)
        await world.until_caught_up("concierge")
    assert await count(world, AccountOpened) == 41
    assert await count(world, Withdrawn) == 40
    assert await count(world, Deposited) == 41


async def test_timers_go_along_and_fire_once(world: World) -> None:  # F55
    async with world.workflows():
        await world.send(*opening("late", 1, 2))
        await world.until_caught_up("concierge")
        assert await world.fetch(TIMERS) == 2
        _, to = await move(world)
        await world.until_caught_up("concierge")
        assert await world.fetch(f"{TIMERS} WHERE partition = {to}") == 2
        await world.send_as_system(CloseAccount(account_id="late-1"))
        await world.until_caught_up("concierge")
        assert await world.fetch(TIMERS) == 1, "an event where the tenant is forgets a timer of where it was"
        await world.pool.execute("UPDATE everfold.scheduled_commands SET due_at = now(), try_at = now()")

        async def fired() -> bool:
            return bool(await world.fetch(TIMERS) == 0)

        await world.until(fired)
    assert await count(world, AccountClosed) == 2


async def test_nobody_fires_the_timers_of_a_tenant_that_is_on_its_way(world: World) -> None:  # F55
    async with world.workflows():
        await world.send(*opening("late", 1))
        await world.until_caught_up("concierge")
        await move(world)
        await world.until_caught_up("concierge")
    await world.pool.execute(
        "UPDATE everfold.scheduled_commands SET partition = -1 - partition, due_at = now(), try_at = now()"
    )
    async with world.workflows():
        await world.send(*opening("gift", 1))
        await world.until_caught_up("concierge")
        await asyncio.sleep(0.5)
        assert await world.fetch(TIMERS) == 1
    assert await count(world, AccountClosed) == 0


async def test_a_key_that_was_set_aside_holds_what_follows_elsewhere(  # F55
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Concierge, "key", lambda _self, _trigger: "one", raising=False)
    async with world.workflows():
        await world.send(*opening("odd", 1))
        await world.until_caught_up("concierge")
        await move(world)
        await world.send(*opening("gift", 1))
        await world.until_caught_up("concierge")
        parked = await world.pool.fetch(
            "SELECT id, error IS NULL AS waits FROM everfold.parked_events WHERE kind = 'workflow' ORDER BY id"
        )
        assert [row["waits"] for row in parked] == [False, True]
        assert await count(world, Withdrawn) == 0
        await world.pool.execute("DELETE FROM everfold.parked_events WHERE id = $1", parked[0]["id"])
        await let_go_on(world.pool, "everfold", [parked[1]["id"]])

        async def gone() -> bool:
            return bool(await world.fetch("SELECT count(*) FROM everfold.parked_events") == 0)

        await world.until(gone)
    assert await count(world, Withdrawn) == 1
