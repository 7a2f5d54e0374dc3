"""An order over the limit: a person is told, reminded, passed over, and decides, or time does. F42, F43"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from schemas.envelope import Metadata
from schemas.supply.approvals import ApprovalEscalated, ApprovalReminded
from schemas.supply.orders import (
    ApproveOrder,
    DeclineOrder,
    OrderApprovalRequested,
    OrderCancelled,
    OrderConfirmed,
    OrderRejected,
)
from tests.integration.deliveries.receiver import SECRET, Receiver, receiving
from tests.integration.supply.shop import SITE, WORKFLOWS, item, place, receive
from tests.integration.workflows.world import SECONDS_MAX, World, environment_of, open_world, run_until_dead

LIMIT = {"EVERFOLD_APPROVAL_LIMIT": "500"}
QUICK = LIMIT | {"EVERFOLD_APPROVAL_DEADLINE_SECONDS": "0.9"}
TIMERS = "SELECT count(*) FROM everfold.scheduled_commands WHERE workflow = 'approval'"


@dataclass
class Office:
    """A shop with a limit, and who is told."""

    world: World
    receiver: Receiver
    file: Path

    def told(self, order_id: str) -> list[str]:
        """Return the types of what was told of an order, each as often as it came."""
        documents = [taken.document for taken in self.receiver.taken]
        return [
            one["type"].split(".")[1].removeprefix("Approval")
            for one in documents
            if one["data"]["order_id"] == order_id
        ]

    async def settle(self) -> None:
        await self.world.until_caught_up(*WORKFLOWS)

    async def until_told(self, order_id: str, *types: str) -> None:
        """Wait until just this was told of an order, in any order."""

        async def are() -> bool:
            return sorted(set(self.told(order_id))) == sorted(types)

        await self.world.until(are)


@pytest.fixture
async def office(store_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    file = tmp_path / "channels.toml"
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())
        file.write_text(
            "".join(
                f'[[channel]]\nname = "{name}"\nwebhook = "{receiver.url}/{name}"\nsecrets = ["{SECRET}"]\n'
                "retry_seconds = [0.1, 0.1, 0.1, 0.1]\ntimeout_seconds = 2\n"
                for name in ("order-approvals", "order-escalations")
            )
        )
        world = await stack.enter_async_context(open_world(store_url, domains="supply", channels_file=file))
        await world.send(SITE, item("I1"), receive("I1", 1_000))
        yield Office(world, receiver, file)


async def test_nobody_decides_and_the_order_is_cancelled_in_the_end(office: Office) -> None:
    world = office.world
    await world.send(place("BIG", {"I1": 9}), place("SMALL", {"I1": 1}))
    async with world.workflows(**QUICK):
        await office.until_told("BIG", "Needed", "Reminder", "Escalation", "Lapsed")
        await office.settle()
    (requested,) = await world.recorded(OrderApprovalRequested)
    (reminded,) = await world.recorded(ApprovalReminded)
    (escalated,) = await world.recorded(ApprovalEscalated)
    (cancelled,) = await world.recorded(OrderCancelled)
    due = [Metadata.decode(event.metadata).occurred_at for event in (reminded, escalated, cancelled)]
    waited = [(at - requested.recorded_at).total_seconds() for at in due]
    assert waited == sorted(waited)
    assert waited[0] >= 0.3  # late rather than early: a third, two thirds and the whole of the time
    assert waited[1] >= 0.6
    assert waited[2] >= 0.9
    assert office.told("SMALL") == []
    assert {taken.path.rpartition("/")[2] for taken in office.receiver.taken} == {
        "order-approvals",
        "order-escalations",
    }
    assert await world.fetch(TIMERS) == 0
    assert await world.count(OrderConfirmed) == 1


@pytest.mark.parametrize("decision", [ApproveOrder, DeclineOrder])
async def test_somebody_decides_and_it_is_over(office: Office, decision: Any) -> None:
    world = office.world
    await world.send(place("BIG", {"I1": 9}))
    async with world.workflows(**LIMIT):
        await office.until_told("BIG", "Needed")
        assert await world.fetch(TIMERS) == 3
        await world.send(decision(order_id="BIG"))
        await office.settle()
        assert await world.fetch(TIMERS) == 0
    assert await world.count(OrderConfirmed if decision is ApproveOrder else OrderRejected) == 1


async def test_three_days_begin_when_the_order_is_taken_up(office: Office) -> None:
    """No time of ours is taken from who decides: the process was away while the order waited to be taken up."""
    world = office.world
    async with world.workflows(**LIMIT):
        await office.settle()
    await world.send(place("BIG", {"I1": 9}))
    await asyncio.sleep(1.0)
    async with world.workflows(**LIMIT):
        await office.until_told("BIG", "Needed")
        left = await world.fetch(
            "SELECT extract(epoch FROM max(due_at) - scheduled_at) FROM everfold.scheduled_commands"
            " WHERE workflow = 'approval' GROUP BY scheduled_at ORDER BY 1 DESC LIMIT 1"
        )
    assert 3 * 86_400 - 30 < left <= 3 * 86_400


@pytest.mark.parametrize(
    "failpoint",
    ["workflow.before_commit", "workflow.after_commit", "scheduled.after_send", "delivery.after_send"],
)
async def test_killed_in_the_middle_nobody_is_told_twice_under_two_keys(
    office: Office, failpoint: str
) -> None:
    """F43: at least once, and what comes twice bears the same key."""
    world = office.world
    await world.send(place("BIG", {"I1": 9}))
    variables = QUICK | {"EVERFOLD_CHANNELS_FILE": str(office.file)}
    assert await run_until_dead(world, f"{failpoint}=kill", **variables) == -SIGKILL
    async with world.workflows(**QUICK):
        await office.until_told("BIG", "Needed", "Reminder", "Escalation", "Lapsed")
        await office.settle()
    assert len({taken.id for taken in office.receiver.taken}) == 4
    assert await world.count(ApprovalReminded, ApprovalEscalated, OrderCancelled) == 3


async def test_a_replay_of_everything_tells_nobody_again(office: Office) -> None:
    """F42: the counting sink counts nothing while every projection is built anew and writes go on."""
    world = office.world
    variables = environment_of(
        world, EVERFOLD_CHANNELS_FILE=str(office.file), EVERFOLD_REDIS_URL="redis://127.0.0.1:1/0"
    )
    await world.send(*[place(f"BIG{number}", {"I1": 9}) for number in range(20)])
    async with world.workflows(**LIMIT), role(variables, "projector"):
        for number in range(20):
            await office.until_told(f"BIG{number}", "Needed")
        before = office.receiver.ids
        assert await command(variables, "replay", "--all") == 0
        await world.send(*[place(f"S{number}", {"I1": 1}) for number in range(20)])
        assert await command(variables, "replay", "--all") == 0
        await office.settle()
        await world.send(place("LAST", {"I1": 9}))
        await office.until_told("LAST", "Needed")
    assert office.receiver.ids[:-1] == before
    assert len(set(before)) == len(before) == 20


@asynccontextmanager
async def role(variables: Mapping[str, str], name: str) -> AsyncIterator[None]:
    """Run a role as a process for a block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.cli", name,
        env=dict(variables), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        os.kill(process.pid, SIGKILL)
        await process.wait()


async def command(variables: Mapping[str, str], *arguments: str) -> int:
    """Run a command of the command line to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.cli", *arguments, env=dict(variables)
    )
    return await asyncio.wait_for(process.wait(), SECONDS_MAX)
