"""A process that stood still longer than its lease, and wakes up in the middle of what another has done. # F37"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.workflows.world import SECONDS_MAX, World, environment_of, open_world
from tests.toy import AccountClosed, CloseAccount, Deposited, OpenAccount, Withdrawn

ACCOUNTS = 20
TIMERS = "SELECT count(*) FROM everfold.scheduled_commands"


@pytest.fixture
async def world(store_url: str) -> AsyncIterator[World]:
    async with open_world(store_url, domains="toy") as opened:
        yield opened


@asynccontextmanager
async def standing_still_at(world: World, failpoint: str, gate: Path) -> AsyncIterator[None]:
    """Run the role as a process that stops in the middle of its work; it goes on when the block ends, and is ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.cli", "workflow",
        env=environment_of(world, EVERFOLD_FAILPOINTS=f"{failpoint}=barrier:{gate}"),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await world.until(lambda: _leases_ran_out(world, process.pid))
        yield
        gate.touch()
        await asyncio.sleep(1.0)  # time to do harm, were it to
        process.terminate()
        assert await asyncio.wait_for(process.wait(), SECONDS_MAX) == 0
    finally:
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()


async def _leases_ran_out(world: World, pid: int) -> bool:
    """Say whether the process held partitions and, standing still, has lost them."""
    return bool(
        await world.fetch(
            "SELECT bool_or(true) AND max(expires_at) < clock_timestamp() FROM everfold.leases"
            f" WHERE holder LIKE '%/{pid}/%'"
        )
    )


@pytest.mark.parametrize("failpoint", ["workflow.after_send", "workflow.before_commit"])
async def test_what_it_had_in_hand_has_its_effects_once(world: World, failpoint: str, tmp_path: Path) -> None:
    await world.send(*[OpenAccount(account_id=f"A{number}", owner="gift") for number in range(ACCOUNTS)])
    async with standing_still_at(world, failpoint, tmp_path / "gate"):
        async with world.workflows():
            await world.until_caught_up("concierge")
        assert await world.count(Withdrawn) == ACCOUNTS
    assert [await world.count(kind) for kind in (Deposited, Withdrawn)] == [ACCOUNTS, ACCOUNTS]


async def test_a_timer_that_it_was_about_to_fire_fires_once(world: World, tmp_path: Path) -> None:
    await world.send(*[OpenAccount(account_id=f"A{number}", owner="soon") for number in range(ACCOUNTS)])
    async with standing_still_at(world, "scheduled.before_send", tmp_path / "gate"), world.workflows():
        await world.until(lambda: _no_timers(world))
        await world.until_caught_up("concierge")
    assert await world.count(AccountClosed) == ACCOUNTS


async def test_a_timer_that_was_forgotten_meanwhile_does_not_fire(world: World, tmp_path: Path) -> None:
    """The other process has taken up the event that forgets it; the command would be accepted now, and is not sent."""
    await world.send(OpenAccount(account_id="A", owner="soon"))
    async with standing_still_at(world, "scheduled.before_send", tmp_path / "gate"):
        await world.send_as_system(CloseAccount(account_id="A"))
        await world.send(OpenAccount(account_id="A", owner="again"))
        async with world.workflows():
            await world.until_caught_up("concierge")
            await world.until(lambda: _no_timers(world))
    assert await world.count(AccountClosed) == 1


async def test_what_an_operator_left_out_meanwhile_is_not_set_aside_again(
    world: World, tmp_path: Path
) -> None:
    await world.send(OpenAccount(account_id="A", owner="odd"))
    async with world.workflows():
        await world.until_caught_up("concierge")
    await world.pool.execute("UPDATE everfold.parked_events SET error = NULL")  # let it go on
    async with standing_still_at(world, "released.before_commit", tmp_path / "gate"):
        await world.pool.execute("DELETE FROM everfold.parked_events")  # as leaving it out does
        await world.send(OpenAccount(account_id="B", owner="gift"))
        async with world.workflows():
            await world.until_caught_up("concierge")
    assert await world.fetch("SELECT count(*) FROM everfold.parked_events") == 0


async def _no_timers(world: World) -> bool:
    return bool(await world.fetch(TIMERS) == 0)
