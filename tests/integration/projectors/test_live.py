"""A projection follows the log: every event once, in one transaction with the checkpoint."""

import asyncio

import pytest

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
from tests.toy import AccountClosed, AccountOpened, Deposited, Withdrawn


async def test_events_become_rows(store_url: str) -> None:
    async with read_side(store_url) as side, running_projector(side):
        await append(side.log, "a", AccountOpened(owner="Ada"), Deposited(cents=500), Withdrawn(cents=120))
        await append(side.log, "b", AccountOpened(owner="Bo"))
        position = await append(side.log, "c", AccountOpened(owner="Cy"), AccountClosed())
        await caught_up(side, position)
        assert await balances(side) == {"a": 380, "b": 0}


async def test_a_restarted_projector_goes_on_where_it_was(store_url: str) -> None:
    async with read_side(store_url) as side:
        async with running_projector(side):
            await caught_up(side, await append(side.log, "a", AccountOpened(owner="Ada"), Deposited(cents=5)))
        position = await append(side.log, "a", Deposited(cents=7))
        async with running_projector(side):
            await caught_up(side, position)
        assert await balances(side) == {"a": 12}


async def test_two_projectors_share_the_partitions_and_apply_each_event_once(store_url: str) -> None:
    async with read_side(store_url) as side, running_projector(side), running_projector(side):
        for number in range(20):
            await asyncio.gather(
                *(append(side.log, "a", Deposited(cents=1), tenant=f"t{tenant}") for tenant in range(8))
            )
            if number % 5 == 0:
                await asyncio.sleep(0.3)

        async def all_there() -> bool:
            found = [await balances(side, tenant=f"t{tenant}") for tenant in range(8)]
            return all(one == {"a": 20} for one in found)

        await eventually(all_there)


async def test_a_zombie_writes_nothing(store_url: str) -> None:  # F37
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await append(side.log, "a", Deposited(cents=5)))
        partition = await side.log.partition_of(TENANT)
        head = await side.log.append_batch(partition, [])
        assert head == ()
        await side.pool.execute(
            "UPDATE everfold.checkpoints SET revision = revision + 1 WHERE kind = 'projection'"
        )
        await side.pool.execute('UPDATE everfold_account_balances_1.rows SET doc = $1, balance_cents = 100',
            b'{"account_id":"a","stream":"accounts/a","version":1,"balance_cents":100}')  # fmt: skip
        await caught_up(side, await append(side.log, "a", Deposited(cents=1)))
        assert await balances(side) == {"a": 101}, "what was remembered was dropped, and the row read again"


@pytest.mark.parametrize("accounts", [3_000])
async def test_many_events_are_applied_in_large_pages(store_url: str, accounts: int) -> None:
    async with read_side(store_url) as side:
        for start in range(0, accounts, 1_000):
            await append_all(
                side.log, [(f"a{number % 700}", Deposited(cents=1)) for number in range(start, start + 1_000)]
            )
        async with running_projector(side):
            await caught_up(side, accounts)
        found = await balances(side)
        assert len(found) == 700
        assert sum(found.values()) == accounts
