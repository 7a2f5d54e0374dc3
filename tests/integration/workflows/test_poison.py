"""Reactions that fail, events that nobody knows: held by their key, seen, and let go on. Fault rows F38, F39."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from event_store.log import Append, Check, NewEvent
from schemas.envelope import Metadata
from tests.integration.workflows.world import TENANT, World, open_world
from tests.toy import CloseAccount, Deposited, OpenAccount, Withdrawn
from tests.toy.workflows import Concierge

PARKED = "SELECT key, stream, event_type, error FROM everfold.parked_events ORDER BY position"


@pytest.fixture
async def world(store_url: str) -> AsyncIterator[World]:
    async with open_world(store_url, domains="toy") as opened:
        yield opened


async def parked(world: World) -> list[Any]:
    return list(await world.pool.fetch(PARKED))


async def test_a_failing_reaction_holds_its_key_and_no_other(world: World) -> None:
    await world.send(OpenAccount(account_id="A", owner="odd"), OpenAccount(account_id="B", owner="gift"))
    await world.send_as_system(CloseAccount(account_id="A"))
    async with world.workflows():
        await world.until_caught_up("concierge")
    first, second = await parked(world)
    assert (first["key"], first["event_type"], second["event_type"]) == (
        "accounts/A",
        "AccountOpened",
        "AccountClosed",
    )
    assert first["error"] == "ValueError: odd owner"
    assert second["error"] is None
    assert await world.count(Withdrawn) == 1


async def test_later_events_of_a_held_key_wait_behind_it(world: World) -> None:
    await world.send(OpenAccount(account_id="A", owner="odd"))
    async with world.workflows():
        await world.until_caught_up("concierge")
        await world.send_as_system(CloseAccount(account_id="A"))
        await world.send(OpenAccount(account_id="A", owner="gift"))
        await world.until_caught_up("concierge")
    assert [row["event_type"] for row in await parked(world)] == [
        "AccountOpened",
        "AccountClosed",
        "AccountOpened",
    ]
    assert await world.count(Withdrawn) == 0


async def test_a_command_that_is_not_declared_is_not_sent(world: World) -> None:
    """S15: a workflow may do only what it declares."""
    await world.send(OpenAccount(account_id="A", owner="rogue"))
    async with world.workflows():
        await world.until_caught_up("concierge")
    (row,) = await parked(world)
    assert "accounts.open" in row["error"]
    assert await world.fetch("SELECT count(*) FROM everfold.streams WHERE stream = 'accounts/another'") == 0


async def test_a_held_key_goes_on_in_order_when_an_operator_lets_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mended build takes up what waited, once, and what came after it."""
    await world.send(OpenAccount(account_id="A", owner="odd"))
    async with world.workflows():
        await world.until_caught_up("concierge")
        await world.send_as_system(CloseAccount(account_id="A"))
        await world.send(OpenAccount(account_id="A", owner="gift"))
        await world.until_caught_up("concierge")
    monkeypatch.setattr(Concierge, "react", lambda self, trigger: _mended(self, trigger))
    await world.pool.execute("UPDATE everfold.parked_events SET error = NULL")
    async with world.workflows():
        await world.until(lambda: _nothing_parked(world))
        await world.until_caught_up("concierge")
    assert [event.cents for event in await world.events(Deposited)] == [1, 100]
    assert await world.count(Withdrawn) == 1


def _mended(workflow: Concierge, trigger: Any) -> Any:
    owner = getattr(trigger.event, "owner", "")
    if owner != "odd":
        return getattr(workflow, workflow.reactions[trigger.event.type])(trigger)
    return []


async def test_a_key_let_go_on_too_early_is_held_again(world: World) -> None:
    await world.send(OpenAccount(account_id="A", owner="odd"))
    async with world.workflows():
        await world.until_caught_up("concierge")
        await world.pool.execute("UPDATE everfold.parked_events SET error = NULL")
        await world.until(lambda: _is_held_again(world))
    assert [event.cents for event in await world.events(Deposited)] == [1]


async def test_an_event_of_the_future_is_waited_for_and_what_comes_before_it_is_done(world: World) -> None:
    await world.send(OpenAccount(account_id="A", owner="gift"))
    partition = await world.partition(TENANT)
    event = NewEvent(
        "accounts/B", "01890000-0000-7000-8000-000000000001", "AccountOpened", 9, b'{"owner":"gift"}'
    )
    now = (await world.log.head(partition)).recorded_at  # type: ignore[union-attr]  # something was appended
    metadata = Metadata("t", (), "accounts.open", now, "c").encode()
    await world.log.append_batch(
        partition, [Append(TENANT, "accounts/B", [Check("accounts/B", 0)], [event], metadata)]
    )
    async with world.workflows():
        await world.until(lambda: _is_waiting(world))
    assert await world.count(Withdrawn) == 1
    assert await parked(world) == []


async def _is_waiting(world: World) -> bool:
    reason = await world.fetch(
        "SELECT max(waiting_for) FROM everfold.checkpoints WHERE consumer = 'concierge'"
    )
    return reason is not None and "AccountOpened" in reason


async def _nothing_parked(world: World) -> bool:
    return not await parked(world)


async def _is_held_again(world: World) -> bool:
    return all(row["error"] == "ValueError: odd owner" for row in await parked(world))
