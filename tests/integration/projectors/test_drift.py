"""A row that somebody changed, deleted or made up is found within a sweep, reported, and put right."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from projectors.drift import DriftDetector, Slice, Unit, slices_for
from projectors.folding import Place
from projectors.read_side import ReadSide
from projectors.tables import read_tables
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
from tests.toy import AccountBalances, Deposited

TABLE = "everfold_account_balances_1.rows"


@asynccontextmanager
async def detecting(side: ReadSide, **bounds: Any) -> AsyncIterator[DriftDetector]:
    stop = asyncio.Event()
    detector = DriftDetector(
        side, lambda: side.log.partitions, **({"sweep_seconds": 1.0, "duty": 0.9} | bounds)
    )
    task = asyncio.create_task(detector.run(stop))
    try:
        yield detector
    finally:
        stop.set()
        await task


async def findings(side: ReadSide) -> list[tuple[Any, ...]]:
    rows = await side.pool.fetch(
        "SELECT tenant, key, what, mended_at IS NOT NULL FROM everfold.drift_findings ORDER BY key"
    )
    return [tuple(row) for row in rows]


async def test_one_changed_row_of_many_is_found_and_put_right_while_writes_go_on(store_url: str) -> None:
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(
            side, await append_all(side.log, [(f"a{n % 500}", Deposited(cents=n)) for n in range(3_000)])
        )
        before = await balances(side)
        async with detecting(side, slice_rows=10):
            await side.pool.execute(f"UPDATE {TABLE} SET balance_cents = -1 WHERE account_id = 'a77'")

            async def found() -> bool:
                await append(side.log, "w", Deposited(cents=1))
                return bool(await findings(side))

            await eventually(found)

            async def right() -> bool:
                return (await balances(side))["a77"] == before["a77"]

            await eventually(right)
        assert await findings(side) == [(TENANT, '["a77"]', "differs", True)]
        slices = await side.pool.fetchval("SELECT max(slices) FROM everfold.drift_checks")
        assert slices > 1
        await caught_up(side, await append(side.log, "a77", Deposited(cents=1)))
        assert [report.equal for report in await verify_projections(side)] == [True]


async def test_a_deleted_row_and_one_that_was_made_up_are_found_too(store_url: str) -> None:
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(
            side, await append_all(side.log, [("a", Deposited(cents=3)), ("b", Deposited(cents=4))])
        )
        await side.pool.execute(f"DELETE FROM {TABLE} WHERE account_id = 'a'")
        await side.pool.execute(
            f"INSERT INTO {TABLE} SELECT tenant, 'nobody', doc, position, commit_hash, 9 FROM {TABLE} LIMIT 1"
        )
        async with detecting(side):

            async def both() -> bool:
                return len(await findings(side)) == 2

            await eventually(both)
        assert await findings(side) == [
            (TENANT, '["a"]', "missing", True),
            (TENANT, '["nobody"]', "extra", True),
        ]
        assert await balances(side) == {"a": 3, "b": 4}


async def test_what_is_parked_is_no_drift(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(self: AccountBalances, row: Any, event: Any, stream: Any) -> Any:
        raise ZeroDivisionError

    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await append(side.log, "a", Deposited(cents=3)))
        monkeypatch.setattr(AccountBalances, "moved", moved)
        await caught_up(side, await append(side.log, "a", Deposited(cents=3)))
        detector = DriftDetector(side, lambda: side.log.partitions, sweep_seconds=1.0)
        partition = await side.log.partition_of(TENANT)
        drift = await detector.look(Unit(AccountBalances.name, 1, partition, Slice(0, 1)))
        assert drift is not None
        assert (drift.rows, list(drift.differences)) == (0, [])


async def test_many_rows_that_differ_are_reported_and_left_for_a_replay(store_url: str) -> None:
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await append_all(side.log, [(f"a{n}", Deposited(cents=n)) for n in range(40)]))
        await side.pool.execute(f"UPDATE {TABLE} SET balance_cents = -1")
        detector = DriftDetector(side, lambda: side.log.partitions, sweep_seconds=1.0)
        partition = await side.log.partition_of(TENANT)
        drift = await detector.look(Unit(AccountBalances.name, 1, partition, Slice(0, 1)))
        assert drift is not None
        assert (drift.rows, len(drift.differences), drift.mended) == (40, 40, 20)
        noted = await side.pool.fetchrow("SELECT rows, differed FROM everfold.drift_checks")
        assert noted is not None
        assert tuple(noted) == (40, 40)


async def test_sql_and_python_cut_the_same_slices(store_url: str) -> None:
    async with read_side(store_url) as side, running_projector(side):
        keys = [f"k{n}" for n in range(60)] + ["ä", "a.b-c_d"]
        await caught_up(side, await append_all(side.log, [(key, Deposited(cents=1)) for key in keys]))
        table = (await read_tables(side.pool, AccountBalances, "everfold_account_balances_1"))["rows"]
        for number in range(4):
            some = Slice(number, 4)
            rows = await side.pool.fetch(f"SELECT account_id FROM {TABLE} WHERE {some.where(table)}")
            assert {row[0] for row in rows} == {key for key in keys if Place("rows", TENANT, (key,)) in some}
        assert [slices_for(rows, 10) for rows in (0, 10, 11, 41)] == [1, 1, 2, 8]
