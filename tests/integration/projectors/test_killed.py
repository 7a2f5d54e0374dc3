"""A projector process that is killed at any step leaves nothing undone and does nothing twice."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from event_store.operations import Operations, Replay
from infra.documents import Place, decode, decode_mark
from infra.redis import RedisCache
from projectors.read_side import ReadSide
from projectors.verify import verify_projections
from tests.integration.projectors.accounts import (
    TENANT,
    append,
    append_all,
    balances,
    caught_up,
    eventually,
    read_side,
)
from tests.toy import AccountOpened, Deposited

STEPS = ("projector.before_commit", "projector.after_commit", "projector.before_cache")


@asynccontextmanager
async def projector(
    store_url: str, redis_url: str, log_file: Path, failpoints: str = ""
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the role as a process."""
    environment = {
        **os.environ, "EVERFOLD_STORE_URL": store_url, "EVERFOLD_READ_URL": store_url, "EVERFOLD_DOMAINS": "toy",
        "EVERFOLD_BROKER_URL": "log", "EVERFOLD_REDIS_URL": redis_url, "EVERFOLD_FAILPOINTS": failpoints,
    }  # fmt: skip
    with log_file.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "infra.cli", "projector", env=environment, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 20)


@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_a_step_it_goes_on_and_every_effect_is_there_once(  # F36
    store_url: str, redis_url: str, tmp_path: Path, step: str
) -> None:
    async with read_side(store_url) as side:
        total = 0
        for hit in (1, 2, 3):
            async with projector(store_url, redis_url, tmp_path / "log", f"{step}=kill@{hit}") as process:
                async with asyncio.timeout(30):
                    while process.returncode is None:
                        await append(
                            side.log, f"a{total % 3}", AccountOpened(owner="Ada"), Deposited(cents=1)
                        )
                        total += 1
                        await asyncio.sleep(0.05)
                assert process.returncode == -signal.SIGKILL
        position = await append(side.log, "a0", Deposited(cents=1))
        async with projector(store_url, redis_url, tmp_path / "log"):
            await caught_up(side, position)
            assert sum((await balances(side)).values()) == total + 1
            assert [report.equal for report in await verify_projections(side)] == [True]
            # I20: what was committed and never written to the cache does not count there; what came since does.
            await eventually(partial(is_cached_as_stored, side, redis_url, "a0"))
            for account in ("a1", "a2"):
                assert await cached_as_stored(side, redis_url, account) in (None, True)


async def is_cached_as_stored(side: ReadSide, redis_url: str, account: str) -> bool:
    """Return whether readers take a document from the cache that is the row's."""
    return await cached_as_stored(side, redis_url, account) is True


async def cached_as_stored(side: ReadSide, redis_url: str, account: str) -> bool | None:
    """Return whether the document that readers would take from the cache is the row's; None where they take none."""
    stored = await side.pool.fetchval(
        "SELECT doc FROM everfold_account_balances_1.rows WHERE tenant = $1 AND account_id = $2",
        TENANT,
        account,
    )
    place = Place("everfold", "account-balances", 1, await side.pool.fetchval("SELECT everfold.era_v1()"))
    partition = await side.log.partition_of(TENANT)
    async with RedisCache(redis_url, timeout_seconds=2) as redis:
        values = await redis.get_many([place.mark(partition), place.document(partition, TENANT, [account])])
    mark, document = decode_mark(values[0]), decode(values[1])
    if mark is None or document is None or document.reflects(mark) is None:
        return None
    return bool(document.data == stored)


@pytest.mark.parametrize(
    "step", ["build.page", "build.before_swap", "generations.before_swap", "build.after_swap"]
)
async def test_a_replay_killed_at_a_step_is_gone_on_with_and_readers_never_see_half_of_it(  # F41
    store_url: str, redis_url: str, tmp_path: Path, step: str
) -> None:
    async with read_side(store_url) as side, projector(store_url, redis_url, tmp_path / "log"):
        for _ in range(3):
            position = await append(side.log, "a", AccountOpened(owner="Ada"), Deposited(cents=1))
        await caught_up(side, position)
        assert await replay(store_url, tmp_path / "replay", f"{step}=kill") == -signal.SIGKILL
        live = (await side.generations.live())["account-balances"].generation
        assert await balances(side, live) == {"a": 3}
        operations = Operations(side.pool.fetch, "everfold")

        async def gone_on_with() -> bool:
            return all(one.has_ended for one in await operations.latest())

        await eventually(gone_on_with)
        assert [one.state for one in await operations.latest()] == ["done"], "by the projector"
        assert await replay(store_url, tmp_path / "replay", "") == 0
        live = (await side.generations.live())["account-balances"].generation
        assert await balances(side, live) == {"a": 3}
        await caught_up(side, await append(side.log, "a", Deposited(cents=1)), generation=live)
        assert [report.equal for report in await verify_projections(side)] == [True]


@pytest.mark.parametrize(
    "step",
    [
        "operation.begun",
        "build.page",
        "build.written",
        "build.before_swap",
        "build.after_swap",
        "operation.before_end",
    ],
)
async def test_an_operation_whose_projector_is_killed_is_carried_out_by_the_next(  # F41
    store_url: str, redis_url: str, tmp_path: Path, step: str
) -> None:
    async with read_side(store_url) as side:
        many = [(f"a{number % 20}", Deposited(cents=1)) for number in range(2_500)]
        position = await append_all(side.log, many)
        operations = Operations(side.pool.fetch, "everfold")
        async with projector(store_url, redis_url, tmp_path / "log", f"{step}=kill") as process:
            await caught_up(side, position)
            asked = await operations.ask(Replay(projections=("account-balances",), reason="a test"), "ada")
            async with asyncio.timeout(30):
                await process.wait()
            assert process.returncode == -signal.SIGKILL
        assert not (await operations.find(asked.id)).has_ended
        async with projector(store_url, redis_url, tmp_path / "log"):

            async def has_ended() -> bool:
                return (await operations.find(asked.id)).has_ended

            await eventually(has_ended)
            done = await operations.find(asked.id)
            assert (done.state, done.attempts) == ("done", 2), done.error
            live = (await side.generations.live())["account-balances"].generation
            assert live >= 2
            await caught_up(side, await append(side.log, "a0", Deposited(cents=1)), generation=live)
            assert (await balances(side, live))["a0"] == 126
            assert [report.equal for report in await verify_projections(side)] == [True]


async def replay(store_url: str, log_file: Path, failpoints: str) -> int:
    """Run the command to its end, and return its status."""
    environment = {
        **os.environ, "EVERFOLD_STORE_URL": store_url, "EVERFOLD_READ_URL": store_url, "EVERFOLD_DOMAINS": "toy",
        "EVERFOLD_BROKER_URL": "log", "EVERFOLD_FAILPOINTS": failpoints,
    }  # fmt: skip
    with log_file.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "infra.cli",
            "replay",
            "account-balances",
            "--here",
            env=environment,
            stdout=out,
            stderr=out,
        )
    return await asyncio.wait_for(process.wait(), 60)


async def test_one_frozen_past_its_lease_is_succeeded_and_writes_nothing_when_it_thaws(  # F37
    store_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with read_side(store_url) as side, projector(store_url, redis_url, tmp_path / "first") as frozen:
        await caught_up(side, await append(side.log, "a", Deposited(cents=1)))
        frozen.send_signal(signal.SIGSTOP)
        try:
            async with projector(store_url, redis_url, tmp_path / "second"):
                position = await append(side.log, "a", Deposited(cents=2))
                await caught_up(side, position)
                frozen.send_signal(signal.SIGCONT)
                for _ in range(20):
                    position = await append(side.log, "a", Deposited(cents=1))
                    await asyncio.sleep(0.05)
                await caught_up(side, position)
                assert await balances(side) == {"a": 23}
                assert [report.equal for report in await verify_projections(side)] == [True]
        finally:
            frozen.send_signal(signal.SIGCONT)


async def test_a_successor_on_the_same_machine_does_not_wait_for_the_lease(  # F36
    store_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with read_side(store_url) as side:
        async with projector(store_url, redis_url, tmp_path / "log") as process:
            await caught_up(side, await append(side.log, "a", Deposited(cents=1)))
            process.kill()
            await process.wait()
        async with projector(store_url, redis_url, tmp_path / "log"):

            async def held_by_one() -> bool:
                return bool(
                    await side.pool.fetchval(
                        "SELECT count(DISTINCT holder) = 1 AND count(*) = 8 FROM everfold.leases "
                        "WHERE group_name LIKE 'projections/%'"
                    )
                )

            await caught_up(side, await append(side.log, "a", Deposited(cents=1)))
            await eventually(held_by_one)
