"""Rows of a tenant that moves to another partition: none misses an event, none has one twice. Fault row F55."""

import asyncio
from typing import Any

import pytest

from event_store.connections import connect
from event_store.consumer import AtFence
from event_store.feed import LogFeed
from event_store.lost_moves import LostMoves
from event_store.object_store import object_store_of
from event_store.postgres import PostgresLog
from projectors import build
from projectors.build import Build, Workshop
from projectors.dead_letters import read_parked, retry
from projectors.decoding import Decoder
from projectors.drift import DriftDetector, Slice, Unit
from projectors.live import LiveMember
from projectors.read_side import ReadSide
from projectors.tables import read_tables
from projectors.verify import verify_projections
from projectors.writing import Writer
from schemas.envelope import BEGINNING
from tests.integration.event_store.lost_tail import lose_tail
from tests.integration.projectors.accounts import (
    TENANT,
    append,
    append_all,
    balances,
    caught_up,
    read_side,
    running_projector,
)
from tests.toy import AccountBalances, Deposited

TABLE = "everfold_account_balances_1.rows"


async def move(side: ReadSide, tenant: str = TENANT) -> tuple[int, int]:
    """Move a tenant to where it has never lived; return where it left and where it is."""
    residences = await side.log.residences_of(tenant)
    lived = {stay.partition for stay in residences}
    to = next(partition for partition in side.log.partitions if partition not in lived)
    left = residences.present.partition
    store = object_store_of(side.settings)
    async with PostgresLog(side.settings.store_urls, side.settings.namespace, archive=store) as mover:
        await mover.move_tenant(tenant, to)
    while (await side.log.residences_of(tenant)).present.partition != to:
        await asyncio.sleep(0.05)
    return left, to


async def all_equal(side: ReadSide) -> bool:
    """Say whether every row is what the log says."""
    return [report.equal for report in await verify_projections(side)] == [True]


async def a_neighbour(side: ReadSide, partition: int) -> str:
    """Return a tenant that lives in a partition."""
    for number in range(1_000):
        if await side.log.partition_of(f"n{number}") == partition:
            return f"n{number}"
    raise AssertionError("no name leads there")


def new_build(side: ReadSide) -> Build:
    shop = Workshop(side.log, side.registry, side.generations, side.checkpoints)
    return Build(shop, side.kinds["account-balances"])


async def test_rows_go_on_where_the_tenant_has_gone(store_url: str) -> None:  # F55
    async with read_side(store_url) as side, running_projector(side):
        await append_all(side.log, [(f"a{n % 7}", Deposited(cents=n)) for n in range(100)])
        for turn in range(2):
            _, to = await move(side)
            await append(side.log, "a1", Deposited(cents=1_000))
            position = await append(side.log, f"new{turn}", Deposited(cents=turn + 1))
            await caught_up(side, position)
            assert await all_equal(side)
        expected = {f"a{k}": sum(n for n in range(100) if n % 7 == k) for k in range(7)}
        expected |= {"a1": expected["a1"] + 2_000, "new0": 1, "new1": 2}
        assert await balances(side) == expected
        neighbour = await a_neighbour(side, to)
        await caught_up(
            side, await append(side.log, "a1", Deposited(cents=5), tenant=neighbour), tenant=neighbour
        )
        assert await balances(side) == expected
        assert await all_equal(side)


@pytest.mark.parametrize("bulk_min", [1, 10_000])
async def test_a_replay_makes_the_same_rows(
    store_url: str, bulk_min: int, monkeypatch: pytest.MonkeyPatch
) -> None:  # F55
    """In bulk and page by page; the tenant comes to an empty partition first, and to one with others' events then."""
    monkeypatch.setattr(build, "BULK_EVENTS_MIN", bulk_min)
    async with read_side(store_url) as side, running_projector(side):
        await append_all(side.log, [(f"a{n % 7}", Deposited(cents=n)) for n in range(300)])
        await move(side)
        await append_all(side.log, [(f"a{n % 9}", Deposited(cents=n)) for n in range(300)])
        await move(side)
        await caught_up(
            side, await append_all(side.log, [(f"a{n % 9}", Deposited(cents=n)) for n in range(50)])
        )
        built = await new_build(side).run(verify=True)
        assert built.swapped
        assert await balances(side, 1) == await balances(side, 2)
        assert await all_equal(side)


async def test_a_partition_waits_at_an_arrival_for_the_one_that_was_left(store_url: str) -> None:  # F55
    async with read_side(store_url) as side:
        async with running_projector(side):
            await append(side.log, "a", Deposited(cents=1))
            left, to = await move(side)
            await caught_up(side, await append(side.log, "a", Deposited(cents=2)))
        kind = side.kinds[AccountBalances.name]
        generation = await side.generations.begin(kind)
        tables = await read_tables(side.pool, kind, generation.schema)
        writer = Writer(kind.name, generation.number, tables, side.checkpoints)
        members = {
            part: LiveMember(
                kind(), generation.number, part, Decoder(side.registry, [kind()]), side.checkpoints, writer
            )
            for part in (left, to)
        }
        for member in members.values():
            await side.checkpoints.open([member.checkpoint])
        page = await LogFeed(side.log, to).next(BEGINNING, wait_seconds=0)
        with pytest.raises(AtFence):
            await members[to].step(page, fence_seconds=0.0)
        assert await balances(side, generation.number) == {}
        waiting = asyncio.create_task(members[to].step(page))
        await members[left].step(await LogFeed(side.log, left).next(BEGINNING, wait_seconds=0))
        await waiting
        assert await balances(side, generation.number) == {"a": 3}


async def test_a_changed_row_is_found_and_folded_over_both_partitions(store_url: str) -> None:  # F55
    async with read_side(store_url) as side, running_projector(side):
        await append_all(side.log, [(f"a{n % 7}", Deposited(cents=n)) for n in range(50)])
        left, _ = await move(side)
        await caught_up(side, await append(side.log, "a1", Deposited(cents=9)))
        before = await balances(side)
        await side.pool.execute(f"UPDATE {TABLE} SET balance_cents = -1 WHERE account_id IN ('a1', 'a2')")
        assert not await all_equal(side)
        detector = DriftDetector(side, lambda: side.log.partitions, sweep_seconds=1.0)
        drift = await detector.look(Unit("account-balances", 1, left, Slice(0, 1)))
        assert drift is not None
        assert (len(drift.differences), drift.mended) == (2, 2)
        assert await balances(side) == before
        assert await all_equal(side)
        position = await append(side.log, "a1", Deposited(cents=1))
        await caught_up(side, position)
        assert (await balances(side))["a1"] == before["a1"] + 1


async def test_what_is_parked_stays_parked_and_is_released_as_a_whole(  # F55
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = AccountBalances.moved

    def moved(self: AccountBalances, row: Any, event: Any, stream: Any) -> Any:
        if isinstance(event, Deposited) and event.cents == 666:
            raise ZeroDivisionError("the beast")
        return honest(self, row, event, stream)

    monkeypatch.setattr(AccountBalances, "moved", moved)
    async with read_side(store_url) as side, running_projector(side):
        await append(side.log, "bad", Deposited(cents=5), Deposited(cents=666))
        await move(side)
        await append(side.log, "good", Deposited(cents=1))
        await caught_up(side, await append(side.log, "bad", Deposited(cents=7)))
        assert await balances(side) == {"bad": 5, "good": 1}
        assert [
            bool(one["error"]) for one in sorted(await read_parked(side, TENANT), key=lambda one: one["id"])
        ] == [
            True,
            False,
        ]
        assert await all_equal(side)
        monkeypatch.undo()
        await retry(side, await read_parked(side, TENANT))
        assert await read_parked(side, TENANT) == []
        assert await balances(side) == {"bad": 678, "good": 1}
        await caught_up(side, await append(side.log, "bad", Deposited(cents=2)))
        assert (await balances(side))["bad"] == 680
        assert await all_equal(side)


async def test_an_arrival_whose_fence_was_lost_is_passed_where_the_fence_stands_now(
    store_url: str,
) -> None:  # F55 F57
    """The arrival names a position that its partition may never come to again."""
    async with read_side(store_url) as side:
        await append(side.log, "a", *[Deposited(cents=1) for _ in range(5)])
        left, to = await move(side)
        position = await append(side.log, "a", Deposited(cents=10))
        admin = await connect(store_url)
        await lose_tail(admin, left, after=0)
        admin.terminate()
        await append(side.log, "n", Deposited(cents=3), tenant=await a_neighbour(side, left))
        async with PostgresLog(side.settings.store_urls, side.settings.namespace) as log:
            (kept,) = await LostMoves(log, actor="ann", reason="restored").put_up_again()
        assert (kept.fences, kept.streams_cut, kept.named) == ({left: 2}, 1, ["accounts/a"])
        page = await LogFeed(side.log, to).next(BEGINNING, wait_seconds=0)
        assert page.arrival is not None
        assert page.arrival.fence.position == 6
        async with running_projector(side):
            await caught_up(side, position)
            assert await balances(side) == {"a": 10}
            assert await all_equal(side)
            assert (await new_build(side).run(verify=True)).swapped
            assert await balances(side, 2) == {"a": 10}
