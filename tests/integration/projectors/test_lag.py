"""Lag is measured against the log's own head, and whoever stands still is told what for, by what the database sees."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from event_store.feed import LogFeed
from event_store.status import read_status
from infra.embedded.ports import free_port
from projectors.read_side import ReadSide
from tests.integration.projectors.accounts import (
    TENANT,
    append,
    caught_up,
    eventually,
    read_side,
    running_projector,
)
from tests.integration.projectors.test_killed import projector
from tests.toy import AccountBalances, Deposited

NAME = AccountBalances.name


async def projection(side: ReadSide) -> Any:
    status = await read_status(side.log, side.pool, "everfold", uses_broker=False)
    return status["projections"][0]


async def test_lag_is_told_by_partition_and_nobody_who_works_there_is_named(store_url: str) -> None:
    async with read_side(store_url) as side:
        async with running_projector(side):
            await caught_up(side, await append(side.log, "a", Deposited(cents=1)))
        await append(side.log, "a", Deposited(cents=2), Deposited(cents=3))
        partition = await side.log.partition_of(TENANT)
        found = await projection(side)
        assert found["lag_events"] == 2
        assert list(found["lag"]) == [str(partition)]
        assert found["lag"][str(partition)]["events"] == 2
        assert found["lag"][str(partition)]["seconds"] > 0
        assert found["waiting_for"] == f"a process: none holds partition {partition} of projections"
        await side.generations.set_paused(NAME, paused=True)
        assert "paused" in (await projection(side))["waiting_for"]


async def test_the_holder_of_a_lock_is_named(store_url: str) -> None:
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await append(side.log, "a", Deposited(cents=1)))
        other = await asyncpg.connect(store_url, server_settings={"application_name": "somebodys-tool"})
        try:
            async with other.transaction():
                await other.execute('LOCK TABLE "everfold_account_balances_1".rows IN ACCESS EXCLUSIVE MODE')
                position = await append(side.log, "a", Deposited(cents=2))

                async def told() -> bool:
                    return "somebodys-tool" in ((await projection(side))["waiting_for"] or "")

                await eventually(told)
                found = await projection(side)
                assert (found["state"], found["lag_events"]) == ("waiting", 1)
                assert f"process {other.get_server_pid()}" in found["waiting_for"]
            await caught_up(side, position)
        finally:
            await other.close()
        assert (await projection(side))["waiting_for"] is None


async def test_a_slow_statement_is_named(store_url: str) -> None:
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await append(side.log, "a", Deposited(cents=1)))
        admin = await asyncpg.connect(store_url)
        try:
            await admin.execute(
                "CREATE FUNCTION everfold_account_balances_1.slow() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN PERFORM pg_sleep(4); RETURN NEW; END $$; "
                "CREATE TRIGGER slow BEFORE UPDATE ON everfold_account_balances_1.rows "
                "FOR EACH ROW EXECUTE FUNCTION everfold_account_balances_1.slow()"
            )
            position = await append(side.log, "a", Deposited(cents=2))

            async def told() -> bool:
                return "a statement that has run for" in ((await projection(side))["waiting_for"] or "")

            await eventually(told)
            assert "PgSleep" in (await projection(side))["waiting_for"]
            await admin.execute("ALTER TABLE everfold_account_balances_1.rows DISABLE TRIGGER slow")
            await caught_up(side, position)
        finally:
            await admin.close()


async def test_the_poison_of_a_key_is_named(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(self: AccountBalances, row: Any, event: Any, stream: Any) -> Any:
        raise ZeroDivisionError("the beast")

    monkeypatch.setattr(AccountBalances, "moved", moved)
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await append(side.log, "a", Deposited(cents=1)))
        poison = (await projection(side))["poison"]
        assert (poison["tenant"], poison["key"], poison["event_type"]) == (TENANT, '["a"]', "Deposited")
        assert "the beast" in poison["error"]


async def test_a_feed_that_hangs_hides_no_lag(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with read_side(store_url) as side, running_projector(side):
        await caught_up(side, await append(side.log, "a", Deposited(cents=1)))

        async def hang(self: LogFeed, after: Any, *, wait_seconds: float) -> Any:
            await asyncio.Event().wait()

        monkeypatch.setattr(LogFeed, "next", hang)
        await asyncio.sleep(1.5)  # those that wait in the honest one have come back
        await append(side.log, "a", Deposited(cents=2))

        async def told() -> bool:
            return bool((await projection(side))["lag_seconds"] > 0.5)

        await eventually(told)
        assert (await projection(side))["lag_events"] == 1


async def test_readyz_and_metrics_tell_the_same_figures_also_of_a_database_that_hangs(
    store_url: str, redis_url: str, tmp_path: Path, free_health_port: int
) -> None:
    address = f"http://127.0.0.1:{free_health_port}"
    async with read_side(store_url) as side, projector(store_url, redis_url, tmp_path / "log") as process:
        await caught_up(side, await append(side.log, "a", Deposited(cents=1)))
        partition = await side.log.partition_of(TENANT)
        async with (
            httpx2.AsyncClient() as client,
            asyncpg.create_pool(store_url, min_size=1, max_size=1) as locking,
        ):

            async def lag() -> Any:
                body = (await client.get(f"{address}/readyz")).json()
                return body["lag"].get(NAME, {}).get(str(partition))

            async def metric(name: str) -> float:
                page = (await client.get(f"{address}/metrics")).text
                label = f'{name}{{consumer="{NAME}",partition="{partition}"}}'
                return next(
                    float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(label)
                )

            async def is_measured() -> bool:
                return bool(await lag() == {"events": 0, "seconds": 0.0})

            await eventually(is_measured)
            async with locking.acquire() as connection, connection.transaction():
                await connection.execute(
                    'LOCK TABLE "everfold_account_balances_1".rows IN ACCESS EXCLUSIVE MODE'
                )
                await append(side.log, "a", Deposited(cents=2))

                async def is_behind() -> bool:
                    found = await lag()
                    return bool(found and found["events"] == 1 and found["seconds"] > 1)

                await eventually(is_behind)
                assert await metric("everfold_lag_events") == 1
                assert await metric("everfold_lag_seconds") > 1
            await eventually(is_measured)
        assert process.returncode is None
        process.send_signal(signal.SIGTERM)


@pytest.fixture
def free_health_port(monkeypatch: pytest.MonkeyPatch) -> int:
    port = free_port()
    monkeypatch.setenv("EVERFOLD_HEALTH_PORT", str(port))
    return port
