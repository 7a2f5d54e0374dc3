"""Reads from a real streaming replica: late, paused, cut off, away; never an error, nor older than asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from event_store.migrate import migrate
from query_api.replicas import READS
from tests.integration.query_api.readside import NAMESPACE, ReadSideUnderTest

PATHS = ["/v1/accounts/A-1", "/v1/accounts", "/v1/wealth"]


def answered_by(server: str, outcome: str = "ok") -> float:
    return float(READS.labels(server, outcome)._value.get())


@asynccontextmanager
async def paused(replica_url: str) -> AsyncIterator[None]:
    """Stop the replica from applying what it receives."""
    connection = await asyncpg.connect(replica_url)
    try:
        await connection.execute("SELECT pg_wal_replay_pause()")
        while await connection.fetchval("SELECT pg_get_wal_replay_pause_state()") != "paused":
            await asyncio.sleep(0.01)
        yield
    finally:
        await connection.execute("SELECT pg_wal_replay_resume()")
        await connection.close()


async def caught_up(primary: ReadSideUnderTest, replica_url: str) -> None:
    """Wait until the replica has replayed all that the primary has written."""
    # Rows are applied without waiting for the disk, so what counts is what is inserted, not what is written yet.
    target = await primary.pool.fetchval("SELECT pg_current_wal_insert_lsn()")
    # The test's own database may not have come there yet.
    connection = await asyncpg.connect(replica_url, database="postgres")
    try:
        async with asyncio.timeout(20):
            while not await connection.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn", target):
                await asyncio.sleep(0.01)
    finally:
        await connection.close()


@pytest.fixture
async def replicated(
    replicated_database: tuple[str, str], tmp_path: Path
) -> AsyncIterator[tuple[ReadSideUnderTest, str]]:
    """A read side without Redis, on a primary and its replica."""
    primary_url, replica_url = replicated_database
    await asyncio.to_thread(migrate, primary_url, NAMESPACE, range(8))
    async with ReadSideUnderTest(primary_url, None, tmp_path, replica_urls=(replica_url,)) as side:
        await side.open_account("A-1", 100)
        await side.apply()
        await caught_up(side, replica_url)
        yield side, replica_url


@pytest.mark.parametrize("path", PATHS)
async def test_a_replica_that_has_come_far_enough_answers(
    replicated: tuple[ReadSideUnderTest, str], path: str
) -> None:
    side, replica_url = replicated
    token = await side.deposit("A-1", 5)
    await side.apply()
    await caught_up(side, replica_url)
    before = answered_by("replica-1")

    response = await side.client.get(path, headers={"everfold-position": token})

    assert response.status_code == 200
    assert b"105" in response.content
    assert answered_by("replica-1") == before + 1


@pytest.mark.parametrize("path", PATHS)
async def test_a_paused_replica_is_passed_over_for_a_read_with_a_position(
    replicated: tuple[ReadSideUnderTest, str], path: str
) -> None:
    side, replica_url = replicated
    async with paused(replica_url):
        token = await side.deposit("A-1", 5)
        await side.apply()
        behind = answered_by("replica-1", "behind")

        fresh = await side.client.get(path, headers={"everfold-position": token})

        assert fresh.status_code == 200
        assert b"105" in fresh.content
        assert fresh.headers["everfold-position"] == token
        assert answered_by("replica-1", "behind") == behind + 1


async def test_a_replica_that_stays_behind_is_not_believed_for_long_without_a_position_either(
    replicated: tuple[ReadSideUnderTest, str],
) -> None:
    side, replica_url = replicated
    async with paused(replica_url):
        token = await side.deposit("A-1", 5)
        await side.apply()
        async with asyncio.timeout(15):
            while True:
                response = await side.client.get("/v1/accounts/A-1")
                assert response.status_code == 200
                if response.headers["everfold-position"] == token:
                    break
                await asyncio.sleep(0.1)
        assert response.json()["balance_cents"] == 105


async def test_a_replica_that_misses_a_swap_is_passed_over(replicated: tuple[ReadSideUnderTest, str]) -> None:
    side, replica_url = replicated
    async with paused(replica_url):
        await side.open_generation(2)
        token = await side.deposit("A-1", 5)
        await side.apply(generation=2)
        await side.swap(2)
        await side.drop_generation(1)

        response = await side.client.get("/v1/accounts", headers={"everfold-position": token})

        assert response.status_code == 200, response.text
        assert response.json()["items"][0]["balance_cents"] == 105


async def test_a_replica_that_cuts_connections_is_no_error(replicated: tuple[ReadSideUnderTest, str]) -> None:
    side, replica_url = replicated
    stop = asyncio.Event()

    async def cut() -> int:
        connection, cuts = await asyncpg.connect(replica_url), 0
        while not stop.is_set():
            cuts += await connection.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE application_name = 'everfold-query-api' AND datname = current_database()"
            )
            await asyncio.sleep(0.01)
        await connection.close()
        return cuts

    cutting = asyncio.create_task(cut())
    token = ""
    for number in range(60):
        if number % 5 == 0:
            token = await side.deposit("A-1")
            await side.apply()
        response = await side.client.get("/v1/accounts/A-1", headers={"everfold-position": token})
        assert response.status_code == 200, response.text
        assert response.json()["balance_cents"] == 101 + number // 5
        await asyncio.sleep(0.02)
    stop.set()

    assert await cutting > 0


async def test_with_the_primary_away_the_replica_answers_and_says_how_old_it_is(
    replicated: tuple[ReadSideUnderTest, str],
) -> None:
    side, replica_url = replicated
    await caught_up(side, replica_url)
    first = (await side.client.get("/v1/accounts/A-1")).headers["everfold-position"]
    async with paused(replica_url):
        token = await side.deposit("A-1", 5)
        await side.apply()
        fresh = await side.client.get("/v1/accounts/A-1", headers={"everfold-position": token})
        primary = side.api.parts.servers.primary
        primary._connections = type(primary._connections)("postgresql://nobody@127.0.0.1:1/x", size_max=2)

        old = await side.client.get("/v1/accounts/A-1")
        asked = await side.client.get(
            "/v1/accounts/A-1", headers={"everfold-position": token, "prefer": "wait=0"}
        )
        ready = await side.client.get("/readyz")

    assert fresh.json()["balance_cents"] == 105
    assert (old.status_code, old.headers["everfold-position"]) == (200, first)
    assert asked.status_code == 412
    assert ready.status_code == 200


async def test_a_replica_that_is_away_is_no_error(store_url: str, tmp_path: Path) -> None:
    urls = ("postgresql://nobody@127.0.0.1:1/nothing", "postgresql://nobody@127.0.0.1:2/nothing")
    async with ReadSideUnderTest(store_url, None, tmp_path, replica_urls=urls) as side:
        token = await side.open_account("A-1", 100)
        await side.apply()
        for path in PATHS:
            response = await side.client.get(path, headers={"everfold-position": token})
            assert response.status_code == 200
