"""A generation is built beside the live one, compared with it, and swapped in without readers noticing."""

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from infra.failpoints import FailpointReached, arm
from projectors.app import ReadSide
from projectors.build import BeingBuilt, Build, Workshop
from projectors.generations import Generation
from projectors.upkeep import Upkeep
from projectors.verify import verify_projections
from tests.integration.projectors.accounts import (
    TENANT,
    append,
    append_all,
    balances,
    caught_up,
    eventually,
    read_side,
    running_projector,
)
from tests.toy import AccountClosed, AccountOpened, Deposited


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm("")


def _build(side: ReadSide) -> Build:
    return Build(
        Workshop(side.log, side.registry, side.generations, side.checkpoints), side.kinds["account-balances"]
    )


async def _some_accounts(side: ReadSide) -> int:
    await append_all(side.log, [(f"a{number % 50}", Deposited(cents=number)) for number in range(500)])
    return await append(side.log, "z", AccountOpened(owner="Zo"), AccountClosed())


async def test_a_replay_makes_equal_rows_and_goes_live(store_url: str) -> None:
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await _some_accounts(side))
        built = await _build(side).run(verify=True)
        assert built.swapped
        assert built.rows == 50
        assert built.events == 502
        assert (await side.generations.live())["account-balances"].generation == 2
        assert await balances(side, 1) == await balances(side, 2)
        await caught_up(side, await append(side.log, "a1", Deposited(cents=1)), generation=2)


async def test_a_row_that_differs_is_named_and_nothing_is_swapped(store_url: str) -> None:
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await _some_accounts(side))
        await side.pool.execute(
            "UPDATE everfold_account_balances_1.rows SET balance_cents = 7 WHERE account_id = 'a3'"
        )
        built = await _build(side).run(verify=True)
        assert not built.swapped
        assert built.difference is not None
        assert built.difference.key == ("a3",)
        assert (await side.generations.live())["account-balances"].generation == 1


async def test_replays_while_writes_go_on_never_let_a_reader_go_back(store_url: str) -> None:  # F41
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await _some_accounts(side))
        partition = await side.log.partition_of(TENANT)
        stop, seen = asyncio.Event(), [0]

        async def write() -> None:
            while not stop.is_set():
                await append(side.log, "w", Deposited(cents=1))

        async def read() -> None:
            while not stop.is_set():
                live = (await side.generations.live())["account-balances"].generation
                found = (await balances(side, live)).get("w", 0)
                again = (await side.generations.live())["account-balances"].generation
                if again == live:
                    assert found >= seen[-1], "a reader went back"
                    seen.append(found)
                await asyncio.sleep(0.002)

        tasks = [asyncio.create_task(write()), asyncio.create_task(read())]
        try:
            for _ in range(3):
                assert (await _build(side).run(verify=True)).swapped
        finally:
            stop.set()
            await asyncio.gather(*tasks)
        head = await side.log.head(partition)
        assert head is not None
        await caught_up(side, head.last_position, generation=4)
        reports = await verify_projections(side)
        assert [report.equal for report in reports] == [True]


async def test_a_build_that_was_killed_goes_on_where_it_was(store_url: str) -> None:  # F41
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await _some_accounts(side))
        arm("build.before_swap=raise")
        with pytest.raises(FailpointReached):
            await _build(side).run()
        arm("")
        built = await _build(side).run()
        assert built.swapped
        assert built.generation == 2
        assert built.events == 0, "nothing was folded again"


async def test_only_one_process_builds_a_projection(store_url: str) -> None:
    async with read_side(store_url) as side:
        await side.generations.open_first(side.kinds["account-balances"])
        await _some_accounts(side)
        first = _build(side)
        async with first._alone():
            with pytest.raises(BeingBuilt):
                await _build(side).run()


async def test_the_generation_before_can_be_brought_back(store_url: str) -> None:
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await _some_accounts(side))
        await _build(side).run()
        position = await append(side.log, "a1", Deposited(cents=1_000))
        await caught_up(side, position, generation=2)
        schema = side.generations.schema_of("account-balances", 1)
        await _build(side).bring_back(Generation("account-balances", 1, 1, schema), 2)
        assert (await side.generations.live())["account-balances"].generation == 1
        assert await balances(side, 1) == await balances(side, 2)


async def test_a_newer_version_is_built_by_itself(store_url: str) -> None:
    async with read_side(store_url) as side:
        async with running_projector(side):
            await caught_up(side, await _some_accounts(side))
        await side.pool.execute("UPDATE everfold.projections SET version = 0")
        upkeep = Upkeep(side.kinds, side.registry, side.log, side.generations, side.checkpoints)
        stop = asyncio.Event()
        task = asyncio.create_task(upkeep.run(stop))

        async def swapped() -> bool:
            live = (await side.generations.live())["account-balances"]
            return (live.generation, live.version) == (2, 1)

        with contextlib.suppress(asyncio.CancelledError):
            await eventually(swapped)
        stop.set()
        await task
