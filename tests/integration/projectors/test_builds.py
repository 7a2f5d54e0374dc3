"""A generation is built beside the live one, compared with it, and swapped in without readers noticing."""

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import Any

import pytest

from infra.failpoints import FailpointReached, arm
from projectors import bulk
from projectors.build import BeingBuilt, Build, Workshop
from projectors.dead_letters import read_parked
from projectors.generations import Generation
from projectors.read_side import ReadSide
from projectors.upkeep import Upkeep
from projectors.verify import verify_projections
from schemas import Event
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
from tests.toy import AccountBalances, AccountClosed, AccountOpened, Deposited


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


async def test_more_rows_than_fit_in_memory_are_built_to_the_same_tables(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHANGES_MAX", 90)
    monkeypatch.setattr(bulk, "ROWS_MIN", 20)
    monkeypatch.setattr(bulk, "DOCUMENT_BYTES_MAX", 1)
    async with read_side(store_url) as side, running_projector(side):
        chance = random.Random(11)
        events: list[tuple[str, Event]] = []
        for _ in range(3_000):
            account = f"a{chance.randrange(300)}"
            events.append(
                (account, AccountClosed() if chance.random() < 0.02 else Deposited(cents=chance.randrange(9)))
            )
        await caught_up(side, await append_all(side.log, events))
        built = await _build(side).run(verify=True)
        assert (built.swapped, built.difference, built.events) == (True, None, 3_000)
        assert [report.equal for report in await verify_projections(side)] == [True]
        forced = await side.pool.fetchval(
            "SELECT bool_and(relforcerowsecurity) FROM pg_class WHERE relkind = 'r' "
            "AND relnamespace = 'everfold_account_balances_2'::regnamespace"
        )
        assert forced, "row security holds for the owner again"


async def test_a_row_that_the_database_refuses_is_parked_by_a_build_as_it_is_live(  # F38
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = AccountBalances.moved

    def moved(self: AccountBalances, row: Any, event: Any, stream: Any) -> Any:
        after = honest(self, row, event, stream)
        return after.model_copy(update={"balance_cents": 2**70}) if stream.ids == ("huge",) else after

    monkeypatch.setattr(AccountBalances, "moved", moved)
    async with read_side(store_url) as side, running_projector(side):
        many: list[tuple[str, Event]] = [(f"a{number % 40}", Deposited(cents=1)) for number in range(2_500)]
        position = await append_all(side.log, [*many[:1_300], ("huge", Deposited(cents=1)), *many[1_300:]])
        await caught_up(side, position, seconds=60)
        assert (await _build(side).run(verify=True)).swapped
        assert [one["position"] for one in await read_parked(side, TENANT)] == [1_301]
        assert await balances(side, 1) == await balances(side, 2)


async def test_live_rebuilt_and_expected_are_told_of_the_first_row_that_differs(store_url: str) -> None:
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await _some_accounts(side))
        await side.pool.execute(
            "UPDATE everfold_account_balances_1.rows SET doc = 'changed' WHERE account_id IN ('a3', 'a4')"
        )
        difference = (await _build(side).run(verify=True)).difference
        assert difference is not None
        told = difference.document()
        assert (told["key"], told["live"]) == (["a3"], "changed")
        assert told["rebuilt"] == told["expected"]
        assert '"balance_cents"' in told["expected"]


async def test_a_kill_within_a_long_stretch_goes_on_from_what_was_written(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # F41
    monkeypatch.setattr(bulk, "EVENTS_MAX", 1_000)
    monkeypatch.setattr("projectors.build.PAGE_EVENTS_MAX", 500)
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(
            side, await append_all(side.log, [(f"a{n % 9}", Deposited(cents=1)) for n in range(4_000)])
        )
        arm("build.written=raise@2")
        with pytest.raises(FailpointReached):
            await _build(side).run()
        arm("")
        built = await _build(side).run(verify=True)
        assert (built.swapped, built.events) == (True, 2_000)
        assert await balances(side, 1) == await balances(side, 2)
