"""Reads from a real streaming replica: late, paused, cut off, away; never an error, nor older than asked."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from event_store.migrate import migrate
from infra.embedded.folders import server_folder
from infra.embedded.postgres import PostgresServer
from infra.embedded.replica import replica_of
from infra.embedded.server import RunningServer
from query_api import ComputedQuery
from query_api.app import make_query_api, queries_of
from query_api.replicas import READS, Need, Server, Servers
from query_api.statements import schema_of
from tests.integration.query_api.readside import NAMESPACE, PROJECTION, ReadSideUnderTest
from tests.toy import DOMAIN, AccountBalances
from tests.toy.queries import Wealth

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
    # Rows are applied without waiting for the disk, so what counts is what is inserted, not what is written yet. What
    # no commit follows may never be written, and so never be sent: hence one that is waited for.
    async with primary.pool.acquire() as writer, writer.transaction():
        target = await writer.fetchval("SELECT pg_current_wal_insert_lsn()")
        await writer.execute("SET LOCAL synchronous_commit = on")
        await writer.execute("SELECT pg_logical_emit_message(true, 'caught up', '')")
    # The test's own database may not have come there yet.
    connection = await asyncpg.connect(replica_url, database="postgres")
    try:
        async with asyncio.timeout(90):
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
            "/v1/accounts", headers={"everfold-position": token, "prefer": "wait=0"}
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


@pytest.fixture(scope="module")
def second_replica(embedded_postgres: PostgresServer, services_folder: Path) -> Iterator[RunningServer]:
    """Another replica, to be stopped, started, and made late."""
    with replica_of(embedded_postgres, server_folder(services_folder, "second-replica")) as replica:
        yield replica


@asynccontextmanager
async def setting(url: str, **settings: str) -> AsyncIterator[None]:
    """Change settings of a server for a block, without a restart."""
    connection = await asyncpg.connect(url, database="postgres")
    try:
        for name, value in settings.items():
            await connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        await connection.execute("SELECT pg_reload_conf()")
        yield
    finally:
        for name in settings:
            await connection.execute(f"ALTER SYSTEM RESET {name}")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()


@pytest.fixture
async def doubly_replicated(
    replicated_database: tuple[str, str], second_replica: RunningServer, tmp_path: Path
) -> AsyncIterator[tuple[ReadSideUnderTest, str, str]]:
    """A read side on a primary and two replicas, and the replicas' addresses."""
    primary_url, first_url = replicated_database
    port = urlsplit(second_replica.url).port
    second_url = primary_url.replace(f":{urlsplit(primary_url).port}/", f":{port}/")
    await asyncio.to_thread(migrate, primary_url, NAMESPACE, range(8))
    urls = (first_url, second_url)
    async with ReadSideUnderTest(primary_url, None, tmp_path, replica_urls=urls) as side:
        await side.open_account("A-1", 100)
        await side.apply()
        for url in urls:
            await caught_up(side, url)
        yield side, first_url, second_url


async def test_one_of_two_replicas_that_is_late_is_passed_over_for_the_other(  # F20
    doubly_replicated: tuple[ReadSideUnderTest, str, str],
) -> None:
    side, first_url, second_url = doubly_replicated
    async with setting(second_url, recovery_min_apply_delay="10s"):
        before = answered_by("replica-1")
        for number in range(1, 25):
            token = await side.deposit("A-1", 1)
            await side.apply()
            await caught_up(side, first_url)
            response = await side.client.get("/v1/accounts/A-1", headers={"everfold-position": token})
            assert response.status_code == 200
            assert response.json()["balance_cents"] == 100 + number
        assert answered_by("replica-1") - before >= 12


async def test_reads_over_late_paused_and_restarted_replicas_are_never_older_than_asked(  # F20
    doubly_replicated: tuple[ReadSideUnderTest, str, str], second_replica: RunningServer
) -> None:
    side, first_url, second_url = doubly_replicated
    stop = asyncio.Event()

    async def read(path: str) -> int:
        token, seen, count = "", 0, 0
        while not stop.is_set():
            headers = {"everfold-position": token} if token else {}
            response = await side.client.get(path, headers=headers)
            assert response.status_code == 200, response.text
            found = response.json()
            cents = found.get("balance_cents", found.get("cents"))
            if cents is None:
                cents = found["items"][0]["balance_cents"]
            assert cents >= seen
            token, seen, count = response.headers["everfold-position"], cents, count + 1
            await asyncio.sleep(0)
        return count

    async def write() -> int:
        count = 0
        while not stop.is_set():
            await side.deposit("A-1", 1)
            await side.apply()
            count += 1
            await asyncio.sleep(0.02)
        return count

    async with asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(read(path)) for path in PATHS]
        writer = tasks.create_task(write())
        async with setting(second_url, recovery_min_apply_delay="10s"):
            await asyncio.sleep(0.5)
        async with paused(first_url):
            await asyncio.sleep(0.5)
            second_replica.kill()
            await asyncio.sleep(0.5)
        await asyncio.to_thread(second_replica.start)
        await asyncio.sleep(0.5)
        stop.set()
    assert min(reader.result() for reader in readers) > 10
    token = await side.deposit("A-1", 0)
    await side.apply()
    last = await side.client.get("/v1/accounts/A-1", headers={"everfold-position": token})
    assert last.json()["balance_cents"] == 100 + writer.result()


class SlowWealth(ComputedQuery):
    """What all accounts hold together, so slowly that a replica's recovery comes in between."""

    route, view, projection, cache_seconds = "slow-wealth", Wealth, AccountBalances, 0
    sql = """
        SELECT json_build_object('accounts', count(*), 'cents', coalesce(sum(balance_cents), 0))::text AS doc
        FROM (SELECT pg_sleep(0.4)) AS slept, {account_balances}.rows WHERE tenant = :tenant
    """


async def conflicts(replica_url: str) -> int:
    """Return how many statements the replica has cancelled for its recovery's sake in this database."""
    connection = await asyncpg.connect(replica_url)
    try:
        count: Any = await connection.fetchval(
            "SELECT confl_snapshot + confl_lock + confl_bufferpin FROM pg_stat_database_conflicts "
            "WHERE datname = current_database()"
        )
        return int(count)
    finally:
        await connection.close()


async def test_a_replica_that_cancels_a_query_for_its_recovery_is_no_error(  # F20
    replicated: tuple[ReadSideUnderTest, str],
) -> None:
    side, replica_url = replicated
    table = f"{schema_of(NAMESPACE, PROJECTION, 1)}.rows"
    api = make_query_api(side.api.parts, [*queries_of([DOMAIN]), SlowWealth])
    before = await conflicts(replica_url)
    async with (
        setting(replica_url, max_standby_streaming_delay="0", hot_standby_feedback="off"),
        side.client_of(api) as client,
        asyncio.timeout(60),
    ):
        expected = 100
        while await conflicts(replica_url) == before:
            await caught_up(side, replica_url)
            for replica in side.api.parts.servers.replicas:
                replica._rests_until = replica._behind_until = 0.0
            reading = asyncio.create_task(client.get("/v1/slow-wealth"))
            await asyncio.sleep(0.1)
            token = await side.deposit("A-1", 1)
            await side.apply()
            await side.pool.execute(f"VACUUM {table}")
            response = await reading
            assert response.status_code == 200, response.text
            assert expected <= response.json()["cents"] <= expected + 1
            expected += 1
            fresh = await client.get("/v1/slow-wealth", headers={"everfold-position": token})
            assert (fresh.status_code, fresh.json()["cents"]) == (200, expected)


async def test_who_is_surely_far_enough_is_asked_first_then_the_quickest_and_few_at_all() -> None:
    servers = Servers(
        "postgresql://nobody@127.0.0.1:1/x", [f"postgresql://r{n}@127.0.0.1:1/x" for n in range(4)]
    )
    place = (PROJECTION, 1, 0)
    first, second, third, fourth = servers.replicas

    def order(position: int) -> list[Server]:
        return servers._in_turn(Need({place: position}))

    for seconds, server in enumerate(servers.replicas, 1):
        server.latency_seconds, server._measured_at = seconds / 1000, asyncio.get_running_loop().time()
    assert order(5) == [first, second]
    third.has_reached({place: 7})
    assert order(5) == [third, first]
    assert order(8) == [first, second]
    first.was_behind()
    assert order(8) == [second, third]
    first.has_reached({place: 9})
    assert order(8) == [first, second]
    second._failed(OSError())
    assert order(10) == [third, fourth]
    third.has_reached({place: -1})
    assert order(0) == [first, fourth]
    await servers.close()
