"""Reactions that fail, events that nobody knows: held by their key, seen, and let go on. Fault rows F38, F39."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import uuid_utils

from event_store.log import Append, Check, Expect, NewEvent
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


async def test_an_error_that_cannot_be_written_down_as_it_is_holds_its_key_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: Concierge, _trigger: Any) -> Any:
        raise ValueError("a\0b\ud800")

    monkeypatch.setattr(Concierge, "react", fail)
    await world.send(OpenAccount(account_id="A", owner="gift"))
    async with world.workflows():
        await world.until_caught_up("concierge")
    assert [row["error"] for row in await parked(world)] == [r"ValueError: a\x00b\ud800"]


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


@pytest.mark.parametrize(
    ("type_", "version", "data"),
    [
        ("AccountOpened", 9, b'{"owner":"gift"}'),
        ("AccountInherited", 1, b'{"owner":"gift"}'),
        ("AccountOpened", 1, b'{"owner":7}'),
    ],
    ids=["version", "type", "bytes"],
)
async def test_an_event_of_the_future_is_waited_for_and_what_comes_before_it_is_done(  # F39
    world: World, type_: str, version: int, data: bytes
) -> None:
    await world.send(OpenAccount(account_id="A", owner="gift"))
    await append_raw(world, "accounts/B", type_, version, data)
    async with world.workflows():
        await world.until(lambda: _is_waiting(world, type_))
    assert await world.count(Withdrawn) == 1
    assert await parked(world) == []


async def test_a_workflow_with_nothing_else_to_do_waits_for_an_event_of_the_future_all_the_same(  # F39
    world: World,
) -> None:
    await append_raw(world, "accounts/B", "AccountInherited", 1, b"{}")
    async with world.workflows():
        await world.until(lambda: _is_waiting(world, "AccountInherited"))
        position = await world.fetch(
            "SELECT max(position) FROM everfold.checkpoints WHERE consumer = 'concierge' AND partition = $1",
            await world.partition(TENANT),
        )
    assert position in (None, 0)


async def test_a_fact_under_its_old_name_is_reacted_to_as_what_it_is_today(world: World) -> None:
    await append_raw(world, "accounts/A", "AccountOpenedWith", 1, b'{"owner":"gift","cents":5}')
    async with world.workflows():
        await world.until_caught_up("concierge")
    assert [event.cents for event in await world.events(Deposited)] == [100]
    assert await world.count(Withdrawn) == 1


async def test_a_reaction_that_reads_what_nobody_knows_is_held_by_its_key(world: World) -> None:  # F39
    await world.send(OpenAccount(account_id="A", owner="curious"), OpenAccount(account_id="B", owner="gift"))
    await append_raw(world, "accounts/A", "AccountFrozen", 1, b"{}")
    async with world.workflows():
        await world.until(lambda: _is_parked(world))
        await world.until(lambda: _is_waiting(world, "AccountFrozen"))
    (row,) = await parked(world)
    assert (row["key"], row["event_type"]) == ("accounts/A", "AccountOpened")
    assert "AccountFrozen" in row["error"]
    assert await world.count(Withdrawn) == 1


async def append_raw(world: World, stream: str, type_: str, version: int, data: bytes) -> None:
    """Append what another build would have."""
    partition = await world.partition(TENANT)
    event = NewEvent(stream, str(uuid_utils.uuid7()), type_, version, data)
    metadata = Metadata("t", (), "accounts.open", datetime.now(UTC), "c").encode()
    (outcome,) = await world.log.append_batch(
        partition, [Append(TENANT, stream, [Check(stream, Expect.ANY)], [event], metadata)]
    )
    assert outcome.answer == "appended"


async def _is_waiting(world: World, for_what: str) -> bool:
    reason = await world.fetch(
        "SELECT max(waiting_for) FROM everfold.checkpoints WHERE consumer = 'concierge'"
    )
    return reason is not None and for_what in reason


async def _is_parked(world: World) -> bool:
    return bool(await parked(world))


async def _nothing_parked(world: World) -> bool:
    return not await parked(world)


async def _is_held_again(world: World) -> bool:
    return all(row["error"] == "ValueError: odd owner" for row in await parked(world))
