"""Partitions are shared fairly among the processes of a group, and pass on when one goes."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest

from event_store.leases import LeasedWork, Leases, is_gone, process_identity
from infra.pools import open_pool

PARTITIONS = range(8)


@pytest.fixture
async def pool(store_url: str) -> AsyncIterator["asyncpg.Pool[Any]"]:
    async with await open_pool(store_url, name="test", size_max=4) as opened:
        yield opened


def leases(pool: "asyncpg.Pool[Any]", holder: str, group: str = "g") -> Leases:
    """Return one process's part in a group."""
    return Leases(pool, "everfold", group, PARTITIONS, holder=holder)


async def test_the_first_takes_all_and_gives_half_to_the_second(pool: "asyncpg.Pool[Any]") -> None:
    first, second = leases(pool, f"elsewhere/1/1/{1}"), leases(pool, f"elsewhere/2/1/{2}")
    assert await first.renew() == (list(PARTITIONS), [])
    assert await second.renew() == ([], [])
    held, surplus = await first.renew()
    assert (held, surplus) == (list(PARTITIONS), [4, 5, 6, 7])
    await first.release(surplus)
    assert await second.renew() == ([4, 5, 6, 7], [])
    assert await first.renew() == ([0, 1, 2, 3], [])


async def test_groups_do_not_know_each_other(pool: "asyncpg.Pool[Any]") -> None:
    assert await leases(pool, "elsewhere/1/1/1", "g").renew() == (list(PARTITIONS), [])
    assert await leases(pool, "elsewhere/2/1/2", "h").renew() == (list(PARTITIONS), [])


async def test_what_ran_out_or_was_left_is_taken(pool: "asyncpg.Pool[Any]") -> None:
    first, second, third = (leases(pool, f"elsewhere/{number}/1/1") for number in (1, 2, 3))
    await first.renew()
    await pool.execute("UPDATE everfold.leases SET expires_at = now() - interval '1 second'")
    await pool.execute("UPDATE everfold.lease_members SET expires_at = now() - interval '1 second'")
    assert await second.renew() == (list(PARTITIONS), [])
    await second.leave()
    assert await third.renew() == (list(PARTITIONS), [])


async def test_a_process_that_is_gone_from_this_machine_needs_no_time_out(pool: "asyncpg.Pool[Any]") -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from event_store.leases import process_identity as p; print(p())",
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."},
    )  # fmt: skip
    gone = (await process.communicate())[0].decode().strip()
    assert is_gone(gone)
    assert not is_gone(process_identity())
    assert not is_gone("another-machine/1/1/00000000")
    await leases(pool, gone).renew()
    assert await leases(pool, process_identity()).renew() == (list(PARTITIONS), [])


async def test_work_runs_only_on_what_is_held_and_starts_again_when_it_fails(
    pool: "asyncpg.Pool[Any]",
) -> None:
    started: list[tuple[str, int]] = []

    @asynccontextmanager
    async def worker(name: str) -> AsyncIterator[LeasedWork]:
        async def work(partition: int) -> None:
            started.append((name, partition))
            if partition == 3 and started.count((name, 3)) == 1:
                raise ConnectionError("once")
            await asyncio.Event().wait()

        stop = asyncio.Event()
        leased = LeasedWork(leases(pool, f"elsewhere/{name}/1/1"), work)
        task = asyncio.create_task(leased.run(stop))
        try:
            yield leased
        finally:
            stop.set()
            await task

    async with worker("a") as first:
        async with asyncio.timeout(10):
            while started.count(("a", 3)) < 2 or len(first.running) < 8:
                await asyncio.sleep(0.02)
        async with worker("b") as second, asyncio.timeout(10):
            while (len(first.running), len(second.running)) != (4, 4):
                await asyncio.sleep(0.02)
            assert not set(first.running) & set(second.running)
        async with asyncio.timeout(10):
            while len(first.running) < 8:
                await asyncio.sleep(0.02)
    assert await pool.fetchval("SELECT count(*) FROM everfold.leases") == 0


async def test_work_that_loses_its_cancellation_is_ended_all_the_same(
    pool: "asyncpg.Pool[Any]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("event_store.leases.STOP_SECONDS_MAX", 1.0)
    lost, ended = asyncio.Event(), asyncio.Event()

    async def work(partition: int) -> None:
        if partition != 3:
            await asyncio.Event().wait()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lost.set()  # as a client library does that takes it for its own
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    stop = asyncio.Event()
    worker = LeasedWork(leases(pool, process_identity(), "loses"), work)
    running = asyncio.create_task(worker.run(stop))
    async with asyncio.timeout(20):
        while len(worker.running) < len(PARTITIONS):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        stop.set()
        await running
    assert (lost.is_set(), ended.is_set()) == (True, True)


async def test_work_that_does_not_end_costs_the_other_partitions_no_lease(
    pool: "asyncpg.Pool[Any]",
) -> None:
    may_end, ended = asyncio.Event(), []

    async def work(partition: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            if partition == 7:  # one that the second process is to have
                while not may_end.is_set():
                    with suppress(asyncio.CancelledError):
                        await may_end.wait()
            ended.append(partition)

    stop = asyncio.Event()
    slow = LeasedWork(leases(pool, "elsewhere/a/1/1", "slow"), work)
    running = asyncio.create_task(slow.run(stop))
    second = leases(pool, "elsewhere/b/1/1", "slow")
    try:
        async with asyncio.timeout(20):
            while len(slow.running) < len(PARTITIONS):
                await asyncio.sleep(0.02)
            await second.renew()
            while not slow.ending:
                await asyncio.sleep(0.02)
            certain = slow.leases.valid_until
            while slow.leases.valid_until == certain:
                await asyncio.sleep(0.02)
            assert (await second.renew())[0] == [], "what is still worked on has not been given back"
            may_end.set()
            while (await second.renew())[0] != [4, 5, 6, 7]:
                await asyncio.sleep(0.1)
            assert sorted(slow.running) == [0, 1, 2, 3]
    finally:
        may_end.set()
        stop.set()
        await running
    assert sorted(ended) == list(PARTITIONS)
