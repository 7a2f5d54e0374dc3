"""One bad event, one unknown event, one slow member: each holds up as little as can be, and nothing is skipped."""

import asyncio
from typing import Any

import pytest

from event_store.consumer import Held
from event_store.log import Append, Check, Expect, NewEvent
from event_store.status import read_status
from projectors.build import Build, Workshop
from projectors.dead_letters import read_parked, retry, skip
from projectors.folding import Place
from projectors.mend import mender_of
from projectors.releasing import Releasing
from projectors.upkeep import Upkeep
from projectors.verify import verify_projections
from tests.integration.projectors.accounts import (
    METADATA,
    TENANT,
    append,
    balances,
    caught_up,
    event_id,
    eventually,
    read_side,
    running_projector,
)
from tests.toy import AccountBalances, AccountOpened, Deposited


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Deposits of 666 cents cannot be folded, until the fold is mended."""
    honest = AccountBalances.moved

    def moved(self: AccountBalances, row: Any, event: Any, stream: Any) -> Any:
        if isinstance(event, Deposited) and event.cents == 666:
            raise ZeroDivisionError("the beast")
        return honest(self, row, event, stream)

    monkeypatch.setattr(AccountBalances, "moved", moved)
    return monkeypatch


async def test_a_poison_event_parks_with_all_that_follow_on_its_key(  # F38
    store_url: str, poison: pytest.MonkeyPatch
) -> None:
    async with read_side(store_url) as side:
        async with running_projector(side):
            await append(side.log, "good", AccountOpened(owner="Go"), Deposited(cents=1))
            await append(side.log, "bad", AccountOpened(owner="Ba"), Deposited(cents=5), Deposited(cents=666))
            await append(side.log, "bad", Deposited(cents=7))
            position = await append(side.log, "good", Deposited(cents=2))
            await caught_up(side, position)
            assert await balances(side) == {"good": 3, "bad": 5}
        async with running_projector(side):
            await caught_up(side, await append(side.log, "bad", Deposited(cents=8)))
            assert await balances(side) == {"good": 3, "bad": 5}, "also after a restart"
        parked = await read_parked(side, TENANT)
        assert [(one["position"], bool(one["error"])) for one in parked] == [
            (5, True),
            (6, False),
            (8, False),
        ]
        assert "the beast" in parked[0]["error"]
        status = await read_status(side.log, side.pool, "everfold", uses_broker=False)
        assert status["dead_letters"] == 3


async def test_a_mended_fold_releases_what_was_parked_in_order(  # F38
    store_url: str, poison: pytest.MonkeyPatch
) -> None:
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await append(side.log, "bad", Deposited(cents=666), Deposited(cents=7)))
        assert await balances(side) == {}
        assert "still" in (await retry(side, await read_parked(side, TENANT)))["account-balances bad"]
        poison.undo()
        await retry(side, await read_parked(side, TENANT))
        assert await balances(side) == {"bad": 673}
        assert await read_parked(side, TENANT) == []
        await caught_up(side, await append(side.log, "bad", Deposited(cents=1)))

        async def right() -> bool:
            return await balances(side) == {"bad": 674}

        await eventually(right)
        assert [report.equal for report in await verify_projections(side)] == [True]


async def test_the_process_of_a_fixed_build_releases_what_was_parked_by_itself(  # F38
    store_url: str, poison: pytest.MonkeyPatch
) -> None:
    async with read_side(store_url) as side:
        async with running_projector(side):
            await append(side.log, "bad", Deposited(cents=666), Deposited(cents=7))
            await caught_up(side, await append(side.log, "good", Deposited(cents=1)))
            broken = Releasing(side, lambda: side.log.partitions)
            await broken.look()
            assert len(await read_parked(side, TENANT)) == 2, (
                "the same program does not try what it has just parked"
            )
        poison.undo()
        fixed, stop = Releasing(side, lambda: side.log.partitions), asyncio.Event()
        async with running_projector(side):
            task = asyncio.create_task(fixed.run(stop))

            async def released() -> bool:
                return not await read_parked(side, TENANT)

            await eventually(released)
            await caught_up(side, await append(side.log, "bad", Deposited(cents=1)))
            assert await balances(side) == {"bad": 674, "good": 1}
            stop.set()
            await task
        assert [report.equal for report in await verify_projections(side)] == [True]


async def test_a_generation_of_a_fixed_version_has_nothing_parked(  # F38
    store_url: str, poison: pytest.MonkeyPatch
) -> None:
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await append(side.log, "bad", Deposited(cents=666), Deposited(cents=7)))
        shop = Workshop(side.log, side.registry, side.generations, side.checkpoints)
        kind = side.kinds["account-balances"]
        same = await Build(shop, kind).run(verify=True)
        assert same.swapped, "what is parked live is parked in a rebuild, and is no difference"
        assert [one["position"] for one in await read_parked(side, TENANT)] == [1, 2]
        poison.undo()
        fixed = await Build(shop, kind).run()
        assert fixed.swapped
        assert await read_parked(side, TENANT) == []
        assert await balances(side, fixed.generation) == {"bad": 673}


async def test_a_skipped_event_is_left_out_live_and_in_every_later_fold(
    store_url: str, poison: pytest.MonkeyPatch
) -> None:
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await append(side.log, "bad", Deposited(cents=666), Deposited(cents=7)))
        parked = await read_parked(side, TENANT)
        await skip(side, parked[0], "it never was")
        assert await balances(side) == {"bad": 7}
        assert [report.equal for report in await verify_projections(side)] == [True]


async def test_a_value_that_the_database_refuses_parks_its_row_alone(  # F38
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = AccountBalances.moved

    def moved(self: AccountBalances, row: Any, event: Any, stream: Any) -> Any:
        after = honest(self, row, event, stream)
        return after.model_copy(update={"balance_cents": 2**70}) if stream.ids == ("huge",) else after

    monkeypatch.setattr(AccountBalances, "moved", moved)
    async with read_side(store_url) as side, running_projector(side):
        await append(side.log, "huge", Deposited(cents=1))
        await caught_up(side, await append(side.log, "good", Deposited(cents=2)))
        assert await balances(side) == {"good": 2}
        assert [one["position"] for one in await read_parked(side, TENANT)] == [1]


async def test_an_error_that_cannot_be_written_down_as_it_is_parks_its_row_all_the_same(  # F38
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = AccountBalances.moved

    def moved(self: AccountBalances, row: Any, event: Any, stream: Any) -> Any:
        if stream.ids == ("bad",):
            raise ValueError("a\0b\ud800")
        return honest(self, row, event, stream)

    monkeypatch.setattr(AccountBalances, "moved", moved)
    async with read_side(store_url) as side, running_projector(side):
        await append(side.log, "bad", Deposited(cents=1))
        await caught_up(side, await append(side.log, "good", Deposited(cents=2)))
        assert await balances(side) == {"good": 2}
        (parked,) = await read_parked(side, TENANT)
        assert r"ValueError: a\x00b\ud800 (test_trouble.py" in parked["error"]


@pytest.mark.parametrize(
    "owner",
    [rb'"a\u0000b"', b'"a\x00b"', rb'"\ud800"', b'"\xff"', b"9" * 5_000, b"[" * 5_000 + b"]" * 5_000],
    ids=range(6),
)
async def test_what_is_no_event_of_its_type_is_held_like_one_of_the_future_and_said(  # F38 S24
    store_url: str, owner: bytes
) -> None:
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await append(side.log, "a", Deposited(cents=1)))
        await _append_raw(side, "bad", "AccountOpened", 1, b'{"owner":%b}' % owner)
        await append(side.log, "b", Deposited(cents=2))

        async def waits() -> bool:
            status = await read_status(side.log, side.pool, "everfold", uses_broker=False)
            return "AccountOpened version 1" in (status["projections"][0]["waiting_for"] or "")

        await eventually(waits)
        assert await balances(side) == {"a": 1}


async def test_an_event_of_the_future_holds_the_projection_and_is_never_skipped(
    store_url: str,
) -> None:  # F39
    async with read_side(store_url) as side:
        async with running_projector(side):
            await caught_up(side, await append(side.log, "a", Deposited(cents=1)))
            await _append_raw(side, "a", "Deposited", 3, b'{"cents":5,"source":"cash","channel":"web"}')
            await append(side.log, "b", Deposited(cents=2))

            async def waits() -> bool:
                status = await read_status(side.log, side.pool, "everfold", uses_broker=False)
                return "Deposited version 3" in (status["projections"][0]["waiting_for"] or "")

            await eventually(waits)
            assert await balances(side) == {"a": 1}
            status = await read_status(side.log, side.pool, "everfold", uses_broker=False)
            assert status["projections"][0]["state"] == "waiting"
            assert status["projections"][0]["lag_events"] == 2

        class DepositedV3(Deposited, type="Deposited", version=3):
            channel: str

        side.registry.events["Deposited", 3] = DepositedV3
        async with running_projector(side):
            await caught_up(side, 3)
            assert await balances(side) == {"a": 6, "b": 2}, "it resumes by itself after the upgrade"


async def test_a_type_that_nobody_knows_holds_the_projection_in_replays_and_checks_too(  # F39
    store_url: str,
) -> None:
    async with read_side(store_url) as side:
        async with running_projector(side):
            await caught_up(side, await append(side.log, "a", Deposited(cents=1)))
            await _append_raw(side, "a", "AccountFrozen", 1, b"{}")
            await append(side.log, "a", Deposited(cents=2))

            async def waits() -> bool:
                status = await read_status(side.log, side.pool, "everfold", uses_broker=False)
                return "AccountFrozen version 1" in (status["projections"][0]["waiting_for"] or "")

            await eventually(waits)
            assert await balances(side) == {"a": 1}
        mender = await mender_of(side, side.kinds[AccountBalances.name])
        residences = await mender.residences(TENANT)
        with pytest.raises(Held, match="AccountFrozen version 1"):
            await mender.fold(residences, Place("rows", TENANT, ("a",)), {residences.present.partition: 3})


async def test_renamed_split_and_dropped_events_are_folded_as_they_are_read_today(store_url: str) -> None:
    async with read_side(store_url) as side, running_projector(side):
        await _append_raw(side, "a", "AccountOpenedWith", 1, b'{"owner":"Ann","cents":7}')
        await _append_raw(side, "a", "AccountPolished", 1, b"{}")
        await _append_raw(side, "b", "AccountOpenedWith", 1, b'{"owner":"Bob","cents":1}')
        await _append_raw(side, "b", "AccountShut", 1, b"{}")
        await caught_up(side, await append(side.log, "a", Deposited(cents=2)))
        assert await balances(side) == {"a": 9}
        assert [report.equal for report in await verify_projections(side)] == [True]


async def test_a_lost_tail_of_the_log_is_noticed_and_the_projection_halts(store_url: str) -> None:  # F18
    async with read_side(store_url) as side:
        async with running_projector(side):
            await caught_up(side, await append(side.log, "a", Deposited(cents=1)))
        await side.pool.execute(
            "UPDATE everfold.checkpoints SET position = 9, commit_hash = sha256('another history') "
            "WHERE kind = 'projection' AND position > 0"
        )
        async with running_projector(side):
            await append(side.log, "a", Deposited(cents=1))

            async def told() -> bool:
                status = await read_status(side.log, side.pool, "everfold", uses_broker=False)
                return "no longer has the commit" in (status["projections"][0]["waiting_for"] or "")

            await eventually(told)
            assert await balances(side) == {"a": 1}


async def test_what_rests_on_a_lost_tail_is_built_anew_by_itself(store_url: str) -> None:  # F18
    async with read_side(store_url) as side:
        async with running_projector(side):
            await caught_up(side, await append(side.log, "a", Deposited(cents=1)))
        await side.pool.execute(
            "UPDATE everfold.checkpoints SET position = 9, commit_hash = sha256('another history') "
            "WHERE kind = 'projection' AND position > 0"
        )
        await side.pool.execute("UPDATE everfold_account_balances_1.rows SET balance_cents = 1000000")
        upkeep = Upkeep(side.kinds, side.registry, side.log, side.generations, side.checkpoints)
        stop = asyncio.Event()
        task = asyncio.create_task(upkeep.run(stop))
        async with running_projector(side, epoch_changed=upkeep.rebuild):
            position = await append(side.log, "a", Deposited(cents=1))
            await caught_up(side, position, generation=2)
            assert await balances(side, 2) == {"a": 2}
            stop.set()
            await task


async def test_a_paused_projection_stands_still_and_goes_on(store_url: str) -> None:
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await append(side.log, "a", Deposited(cents=1)))
        await side.generations.set_paused("account-balances", paused=True)
        await asyncio.sleep(1.5)
        position = await append(side.log, "a", Deposited(cents=2))
        await asyncio.sleep(0.3)
        assert await balances(side) == {"a": 1}
        await side.generations.set_paused("account-balances", paused=False)
        await caught_up(side, position)
        assert await balances(side) == {"a": 3}


async def _append_raw(side: Any, account: str, type_: str, version: int, data: bytes) -> None:
    stream = f"accounts/{account}"
    event = NewEvent(stream, event_id(), type_, version, data)
    await side.log.append_batch(
        await side.log.partition_of(TENANT),
        [Append(TENANT, stream, [Check(stream, Expect.ANY)], [event], METADATA)],
    )
