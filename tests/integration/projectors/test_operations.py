"""What an operator asks for is a row; a projector carries it out, says how far it is, and can be told to stop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from event_store.operations import (
    Drop,
    Mend,
    Operation,
    OperationEnded,
    Operations,
    Pause,
    Replay,
    ReplayAsOf,
    Resume,
    RetryParked,
    SkipParked,
    SwapBack,
)
from projectors.carrier import Carrier
from projectors.dead_letters import read_parked
from projectors.read_side import ReadSide
from schemas.errors import IdempotencyKeyReused, NotFound
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
from tests.toy import AccountBalances, Deposited

NAME = "account-balances"


@asynccontextmanager
async def carrying(side: ReadSide) -> AsyncIterator[Operations]:
    stop = asyncio.Event()
    carrier = Carrier(side)
    task = asyncio.create_task(carrier.run(stop))
    try:
        yield carrier.operations
    finally:
        stop.set()
        await task


async def ended(operations: Operations, asked: Operation) -> Operation:
    async def has_ended() -> bool:
        return (await operations.find(asked.id)).has_ended

    await eventually(has_ended)
    return await operations.find(asked.id)


async def carried_out(operations: Operations, asked: Any) -> Operation:
    return await ended(operations, await operations.ask(asked, "ada"))


async def test_a_replay_is_carried_out_with_progress_and_is_recorded(store_url: str) -> None:
    async with read_side(store_url) as side, running_projector(side), carrying(side) as operations:
        many = [(f"a{number % 30}", Deposited(cents=number)) for number in range(3_000)]
        await caught_up(side, await append_all(side.log, many))
        done = await carried_out(operations, Replay(verify=True, reason="to see"))
        assert (done.state, done.actor, done.reason, done.attempts) == ("done", "ada", "to see", 1)
        (built,) = done.result["projections"]
        assert (built["swapped"], built["rows"], built["events"], built["generation"]) == (True, 30, 3_000, 2)
        said = done.progress
        assert (said["projection"], said["events"], said["of"]) == (NAME, 3_000, 3_000)
        acts = await side.pool.fetch("SELECT actor, act, reason FROM everfold.operator_acts")
        assert [tuple(act) for act in acts] == [("ada", "replay", "to see")]
        assert await balances(side, 1) == await balances(side, 2)
        assert [one.id for one in await operations.latest()] == [done.id]


async def test_what_an_operator_may_ask_of_a_projection(store_url: str) -> None:
    async with read_side(store_url) as side, running_projector(side), carrying(side) as operations:
        await caught_up(side, await append(side.log, "a", Deposited(cents=5)))
        assert (await carried_out(operations, Pause(projection=NAME))).state == "done"
        assert (await side.generations.live())[NAME].paused
        assert (await carried_out(operations, Resume(projection=NAME))).state == "done"
        await carried_out(operations, Replay(projections=(NAME,)))
        back = await carried_out(operations, SwapBack(projection=NAME))
        assert (back.state, (await side.generations.live())[NAME].generation) == ("done", 1)
        refused = await carried_out(operations, Drop(projection=NAME, generation=1))
        assert refused.state == "failed"
        assert "not-found" in str(refused.error)
        assert (await carried_out(operations, Drop(projection=NAME, generation=2))).state == "done"
        assert [row["generation"] for row in await side.generations.all()] == [1]
        await side.pool.execute("UPDATE everfold_account_balances_1.rows SET balance_cents = 7")
        mended = await carried_out(operations, Mend(projection=NAME, tenant=TENANT, key=("a",)))
        assert (mended.state, await balances(side)) == ("done", {"a": 5})
        unknown = await carried_out(operations, Replay(projections=("no-such",)))
        assert unknown.state == "failed"


async def test_parked_events_are_taken_up_or_left_out_with_who_and_why(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = AccountBalances.moved

    def moved(self: AccountBalances, row: Any, event: Any, stream: Any) -> Any:
        if isinstance(event, Deposited) and event.cents == 666:
            raise ZeroDivisionError("the beast")
        return honest(self, row, event, stream)

    monkeypatch.setattr(AccountBalances, "moved", moved)
    async with read_side(store_url) as side, running_projector(side), carrying(side) as operations:
        await caught_up(side, await append(side.log, "bad", Deposited(cents=666), Deposited(cents=7)))
        again = await carried_out(operations, RetryParked(tenant=TENANT))
        assert "still cannot be folded" in again.result["keys"][f"{NAME} bad"]
        first = (await read_parked(side, TENANT))[0]
        skipped = await carried_out(
            operations, SkipParked(tenant=TENANT, id=first["id"], reason="it never was")
        )
        assert (skipped.state, await balances(side)) == ("done", {"bad": 7})
        kept = await side.pool.fetchrow("SELECT actor, reason FROM everfold.skipped_events")
        assert kept is not None
        assert tuple(kept) == ("ada", "it never was")
        missing = await carried_out(operations, RetryParked(tenant=TENANT, id=first["id"]))
        assert missing.state == "failed"


async def test_an_earlier_time_is_built_into_a_schema_of_its_own(store_url: str) -> None:
    async with read_side(store_url) as side, running_projector(side), carrying(side) as operations:
        await caught_up(side, await append(side.log, "a", Deposited(cents=5)))
        moment = await side.pool.fetchval("SELECT clock_timestamp()")
        await caught_up(side, await append(side.log, "a", Deposited(cents=7)))
        done = await carried_out(operations, ReplayAsOf(as_of=moment, into="as_it_was"))
        assert done.state == "done", done.error
        rows = await side.pool.fetch("SELECT account_id, balance_cents FROM as_it_was.rows")
        assert [tuple(row) for row in rows] == [("a", 5)]
        assert await balances(side) == {"a": 12}
        reserved = ReplayAsOf(as_of=datetime(2026, 1, 1, tzinfo=UTC), into="everfold_account_balances_9")
        assert (await carried_out(operations, reserved)).state == "failed"


async def test_a_throttled_replay_keeps_to_its_rate_and_can_be_cancelled_and_gone_on_with(
    store_url: str,
) -> None:
    async with read_side(store_url) as side, running_projector(side), carrying(side) as operations:
        await caught_up(side, await append_all(side.log, [("a", Deposited(cents=1))] * 2_500))
        slow = await operations.ask(Replay(projections=(NAME,), throttle=50), "ada")

        async def works() -> bool:
            return "events_per_second" in (await operations.find(slow.id)).progress

        await eventually(works)
        assert (await carried_out(operations, Pause(projection=NAME))).state == "done", (
            "short work has its own lane"
        )
        await carried_out(operations, Resume(projection=NAME))
        assert (await operations.find(slow.id)).state == "running"
        await operations.cancel(slow.id)
        assert (await ended(operations, slow)).state == "cancelled"
        assert (await side.generations.live())[NAME].generation == 1
        with pytest.raises(OperationEnded):
            await operations.cancel((await carried_out(operations, Resume(projection=NAME))).id)
        done = await carried_out(operations, Replay(projections=(NAME,)))
        assert (done.state, (await side.generations.live())[NAME].generation) == ("done", 2)


async def test_what_nobody_has_begun_is_cancelled_at_once_and_a_key_asks_once(store_url: str) -> None:
    async with read_side(store_url) as side:
        operations = Operations(side.pool.fetch, "everfold")
        asked = await operations.ask(Pause(projection=NAME), "ada", request_key="k")
        again = await operations.ask(Pause(projection=NAME), "ada", request_key="k")
        assert asked.id == again.id
        with pytest.raises(IdempotencyKeyReused):
            await operations.ask(Resume(projection=NAME), "ada", request_key="k")
        assert (await operations.cancel(asked.id)).state == "cancelled"
        async with carrying(side):
            assert await operations.claim("me", ["pause"]) is None
        with pytest.raises(NotFound):
            await operations.find("nonsense")


async def test_a_projector_that_stops_hands_its_work_to_the_next(store_url: str) -> None:
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await append_all(side.log, [("a", Deposited(cents=1))] * 2_500))
        async with carrying(side) as operations:
            slow = await operations.ask(Replay(projections=(NAME,), throttle=500), "ada")

            async def works() -> bool:
                return "events_per_second" in (await operations.find(slow.id)).progress

            await eventually(works)
        left = await operations.find(slow.id)
        assert (left.state, left.attempts) == ("waiting", 0)
        async with carrying(side):
            assert (await ended(operations, slow)).state == "done"
