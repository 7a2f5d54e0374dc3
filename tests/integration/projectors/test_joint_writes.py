"""Projections that take the same page commit it together, and none depends on another for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from projectors import joint_writes
from projectors.dead_letters import read_parked
from projectors.page_statement import Share
from projectors.projection import Projection
from projectors.read_side import ReadSide
from projectors.verify import verify_projections
from tests.integration.projectors.accounts import (
    TENANT,
    append,
    caught_up,
    eventually,
    read_side,
    running_projector,
)
from tests.toy import AccountBalances, AccountOpened, AccountView, Deposited, Withdrawn


class Copied(AccountBalances):
    """The same rows once more; like the toy's own, it may be made to fail."""

    name, row, key, version = "copied", AccountView, ("account_id",), 1

    @classmethod
    def ddl(cls) -> str:
        return AccountBalances.ddl()


class Opened(AccountBalances):
    """Folds few of the events, so that most pages mean nothing to it."""

    name, row, key, version = "opened", AccountView, ("account_id",), 1

    @classmethod
    def ddl(cls) -> str:
        return AccountBalances.ddl()


Opened.whens = {AccountOpened.type: AccountBalances.whens[AccountOpened.type]}
KINDS: dict[str, type[Projection[Any]]] = {kind.name: kind for kind in (AccountBalances, Copied, Opened)}


@asynccontextmanager
async def three_projections(store_url: str) -> AsyncIterator[ReadSide]:
    async with read_side(store_url) as side:
        yield replace(side, kinds=KINDS)


async def checkpoints(side: ReadSide, partition: int) -> dict[str, tuple[int, int]]:
    """Return by projection its position, and the transaction that moved it there."""
    rows = await side.pool.fetch(
        "SELECT consumer, position, xmin::text::bigint AS moved_by FROM everfold.checkpoints "
        "WHERE kind = 'projection' AND partition = $1",
        partition,
    )
    return {row["consumer"]: (row["position"], row["moved_by"]) for row in rows}


async def all_at(side: ReadSide, partition: int, position: int, *, but: str = "") -> None:
    async def reached() -> bool:
        found = await checkpoints(side, partition)
        return all(found.get(name, (0, 0))[0] >= position for name in KINDS if name != but)

    await eventually(reached)


async def rows_of(side: ReadSide, name: str) -> dict[str, int]:
    live = (await side.generations.live())[name]
    rows = await side.pool.fetch(
        f'SELECT account_id, balance_cents FROM "{side.generations.schema_of(name, live.generation)}".rows'
    )
    return {row["account_id"]: row["balance_cents"] for row in rows}


async def test_a_page_is_one_transaction_for_all_projections(store_url: str) -> None:
    async with three_projections(store_url) as side, running_projector(side):
        partition = await side.log.partition_of(TENANT)
        for number in range(5):
            position = await append(side.log, f"a{number}", AccountOpened(owner="A"), Deposited(cents=number))
            await all_at(side, partition, position)
            found = await checkpoints(side, partition)
            assert len({moved_by for _, moved_by in found.values()}) == 1, found
        position = await append(side.log, "a1", Withdrawn(cents=1))
        await all_at(side, partition, position)
        found = await checkpoints(side, partition)
        assert len({moved_by for _, moved_by in found.values()}) == 1, "also the one that it means nothing to"
        assert await rows_of(side, "copied") == {"a0": 0, "a1": 0, "a2": 2, "a3": 3, "a4": 4}
        assert [report.equal for report in await verify_projections(side)] == [True] * 3


async def test_one_whose_table_is_locked_holds_up_none_of_the_others(store_url: str) -> None:
    async with three_projections(store_url) as side, running_projector(side):
        partition = await side.log.partition_of(TENANT)
        await all_at(side, partition, await append(side.log, "a", AccountOpened(owner="A")))
        schema = side.generations.schema_of("copied", 1)
        async with side.pool.acquire() as connection:
            locking = connection.transaction()
            await locking.start()
            await connection.execute(f'LOCK TABLE "{schema}".rows IN SHARE MODE')
            before = (await checkpoints(side, partition))["copied"]
            for _ in range(3):
                position = await append(side.log, "a", Deposited(cents=1))
                await all_at(side, partition, position, but="copied")
            assert (await checkpoints(side, partition))["copied"] == before
            assert await rows_of(side, "account-balances") == {"a": 3}
            await locking.rollback()
        await all_at(side, partition, position)
        assert await rows_of(side, "copied") == {"a": 3}


async def test_a_row_that_is_refused_parks_with_its_own_projection_alone(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(self: Copied, row: Any, event: Any, stream: Any) -> Any:
        folded = AccountBalances.moved(self, row, event, stream)
        if isinstance(event, Deposited) and event.cents == 666:
            return folded.model_copy(update={"balance_cents": 2**70})  # no bigint
        return folded

    monkeypatch.setattr(Copied, "moved", moved)
    async with three_projections(store_url) as side, running_projector(side):
        partition = await side.log.partition_of(TENANT)
        await append(side.log, "good", AccountOpened(owner="Go"), Deposited(cents=1))
        position = await append(side.log, "bad", Deposited(cents=666))
        await all_at(side, partition, position)
        position = await append(side.log, "good", Deposited(cents=1))
        await all_at(side, partition, position)
        assert await rows_of(side, "account-balances") == {"good": 2, "bad": 666}
        assert await rows_of(side, "copied") == {"good": 2}
        assert {one["consumer"] for one in await read_parked(side, TENANT)} == {"copied"}


async def test_one_that_others_have_moved_is_found_out_and_the_rest_go_on(store_url: str) -> None:  # F37
    async with three_projections(store_url) as side, running_projector(side):
        partition = await side.log.partition_of(TENANT)
        await all_at(side, partition, await append(side.log, "a", AccountOpened(owner="A")))
        await side.pool.execute(
            "UPDATE everfold.checkpoints SET revision = revision + 1 "
            "WHERE consumer = 'copied' AND partition = $1",
            partition,
        )
        position = await append(side.log, "a", Deposited(cents=5))
        await all_at(side, partition, position)
        assert await rows_of(side, "copied") == await rows_of(side, "account-balances") == {"a": 5}
        assert [report.equal for report in await verify_projections(side)] == [True] * 3


async def test_whoever_is_late_is_not_waited_for(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = asyncio.Event()
    take = joint_writes.Seat.write

    async def write(seat: joint_writes.Seat, share: Share) -> bool:
        if share.checkpoints[0].consumer == "copied":
            await slow.wait()
        return await take(seat, share)

    async with three_projections(store_url) as side, running_projector(side):
        partition = await side.log.partition_of(TENANT)
        await all_at(side, partition, await append(side.log, "a", AccountOpened(owner="A")))
        monkeypatch.setattr(joint_writes.Seat, "write", write)
        position = await append(side.log, "a", Deposited(cents=5))
        await caught_up(side, position, seconds=joint_writes.MEETING_SECONDS_MAX + 2)
        assert (await checkpoints(side, partition))["copied"][0] < position
        slow.set()
        await all_at(side, partition, position)
        assert await rows_of(side, "copied") == {"a": 5}
