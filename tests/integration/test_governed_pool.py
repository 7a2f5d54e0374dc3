"""A governed pool keeps to its share on a real server, also when connections are lost in use."""

import asyncio

import asyncpg
import pytest

from infra.governor import SHARE_MIN, Governor
from infra.pools import open_pool

SIZE_MAX = 12
STATEMENTS = 40


async def test_no_more_connections_are_used_at_once_than_the_share_whatever_is_asked(store_url: str) -> None:
    governor = Governor(48, SIZE_MAX)
    watcher = await asyncpg.connect(store_url)
    async with await open_pool(store_url, name="governed", size_max=SIZE_MAX, governor=governor) as pool:
        for processes, share in ((1, SIZE_MAX), (8, 6), (100, SHARE_MIN), (1, SIZE_MAX)):
            governor.share_among(processes)
            most = 0
            working = asyncio.gather(*(pool.execute("SELECT pg_sleep(0.05)") for _ in range(STATEMENTS)))
            while not working.done():
                active = await watcher.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'everfold-governed' "
                    "AND state = 'active' AND datname = current_database()"
                )
                most = max(most, active)
                await asyncio.sleep(0.005)
            await working
            assert 1 <= most <= share
    await watcher.close()


async def test_connections_that_are_lost_in_use_cost_no_place(store_url: str) -> None:
    governor = Governor(4, 4)
    async with await open_pool(store_url, name="governed", size_max=4, governor=governor) as pool:
        for _ in range(10):
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
                await pool.execute("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(5)")
        async with asyncio.timeout(20):
            assert await asyncio.gather(*(pool.fetchval("SELECT 1") for _ in range(20))) == [1] * 20
        assert governor._used == 0
