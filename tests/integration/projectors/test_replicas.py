"""What erasures wait for: replicas that have all that was written, or a word that one has not."""

import asyncio

import asyncpg
import pytest

from infra.pools import open_pool
from projectors import replicas
from projectors.replicas import ReplicaBehind, replicated


@pytest.mark.timeout(240)
async def test_replicas_are_waited_for_also_where_the_last_that_was_written_is_no_commit(  # F56
    replicated_database: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, replica_url = replicated_database
    async with await open_pool(url, name="test", size_max=2) as pool:
        await pool.execute("CREATE TABLE facts (fact text)")
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "SET LOCAL synchronous_commit = on"
            )  # else it may not be sent for a minute
            await connection.execute("SELECT pg_logical_emit_message(true, 'test', 'made')")
        await come_to(replica_url)
        for number in range(20):
            async with pool.acquire() as connection:
                await connection.execute("SET synchronous_commit = off")
                await connection.execute("INSERT INTO facts VALUES ($1)", f"fact {number}")
                undone = connection.transaction()
                await undone.start()
                await connection.execute(
                    "INSERT INTO facts SELECT repeat('x', 50) FROM generate_series(1, $1)", number
                )
                await undone.rollback()
            async with asyncio.timeout(20):
                await replicated(pool, [replica_url])
            replica = await asyncpg.connect(replica_url)
            try:
                assert await replica.fetchval("SELECT count(*) FROM facts") == number + 1
            finally:
                await replica.close()

        replica = await asyncpg.connect(replica_url)
        try:
            await replica.execute("SELECT pg_wal_replay_pause()")
            while await replica.fetchval("SELECT pg_get_wal_replay_pause_state()") != "paused":
                await asyncio.sleep(0.01)
            monkeypatch.setattr(replicas, "REPLICA_SECONDS_MAX", 1.0)
            await pool.execute("INSERT INTO facts VALUES ('unseen')")
            with pytest.raises(ReplicaBehind) as behind:
                await replicated(pool, [replica_url, replica_url])
            assert behind.value.replica == 1
        finally:
            await replica.execute("SELECT pg_wal_replay_resume()")
            await replica.close()


async def come_to(replica_url: str) -> None:
    """Wait until the test's own database is there."""
    async with asyncio.timeout(60):
        while True:
            try:
                await (await asyncpg.connect(replica_url)).close()
            except asyncpg.InvalidCatalogNameError:
                await asyncio.sleep(0.05)
            else:
                return


async def test_without_replicas_nothing_is_waited_for(database: str) -> None:
    async with await open_pool(database, name="test", size_max=1) as pool:
        await replicated(pool, ())
