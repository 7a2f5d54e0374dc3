"""
The database shows the role that answers queries the rows of the tenant that is named, and of no other. # S18, S19, T15

The queries' own conditions are not at issue here: most statements below have none.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from event_store.connections import StoreConnection, connect
from query_api.replicas import Server
from query_api.statements import document_statement, schema_of, scoped
from tests.guards import faults
from tests.integration.query_api.readside import NAMESPACE, PROJECTION, TENANT, ReadSideUnderTest
from tests.toy.queries import GetAccount

OTHER = "umbrella"
ROLE = f"{NAMESPACE}_query"
NAME = f"SELECT set_config('{NAMESPACE}.tenants', $1, true)"
BEGIN_NAMED = "BEGIN; " + NAME.replace("$1", f"'{{{TENANT}}}'")
ROWS = f"{schema_of(NAMESPACE, PROJECTION, 1)}.rows"
DIRECT = {
    "events": f"SELECT DISTINCT tenant FROM {NAMESPACE}.events",
    "streams": f"SELECT DISTINCT tenant FROM {NAMESPACE}.streams",
    "applied": f"SELECT DISTINCT tenant FROM {NAMESPACE}.applied_by_tenant",
    "parked": f"SELECT DISTINCT tenant FROM {NAMESPACE}.parked_events",
    "rows": f"SELECT DISTINCT tenant FROM {ROWS}",
    "join": f"SELECT DISTINCT e.tenant FROM {NAMESPACE}.streams AS s JOIN {NAMESPACE}.events AS e USING (stream)",
    "left join": f"SELECT DISTINCT r.tenant FROM {NAMESPACE}.commits AS c LEFT JOIN {ROWS} AS r ON true",
    "union": f"SELECT tenant FROM {ROWS} UNION SELECT tenant FROM {NAMESPACE}.events",
    "sub-select": f"SELECT (SELECT max(tenant) FROM {ROWS} WHERE tenant <> a.tenant) FROM {ROWS} AS a LIMIT 1",
    "recursive": f"WITH RECURSIVE r AS (SELECT tenant FROM {ROWS} UNION SELECT tenant FROM {ROWS}) SELECT * FROM r",
    "told by an error": f"SELECT tenant FROM {ROWS} WHERE 1 / (CASE WHEN tenant = 'umbrella' THEN 0 ELSE 1 END) = 1",
}


@pytest.fixture
async def shared(side: ReadSideUnderTest) -> ReadSideUnderTest:
    """A read side with accounts of two tenants in one partition, some events of each parked."""
    await side.log.place_tenant(OTHER, await side.log.partition_of(TENANT))
    for tenant in (TENANT, OTHER):
        await side.open_account("A-1", len(tenant), tenant=tenant)
        await side.open_account(f"only-{tenant}", 1, tenant=tenant)
    await side.apply(to_cache=False)
    await side.pool.execute(
        f"INSERT INTO {NAMESPACE}.parked_events (kind, consumer, generation, partition, tenant, table_name, key, "
        "position, stream, event_id, event_type, schema_version) "
        "SELECT 'workflow', 'w', 0, 0, tenant, '', 'k', 1, 's', 'e', 'T', 1 FROM unnest($1::text[]) AS tenant",
        [TENANT, OTHER],
    )
    return side


@pytest.fixture
async def reader(shared: ReadSideUnderTest, store_url: str) -> AsyncIterator[StoreConnection]:
    """A connection in the role that answers queries."""
    connection = await connect(store_url, role=ROLE)
    yield connection
    connection.terminate()


async def tenants(connection: Any, statement: str) -> set[str]:
    return {row[0] for row in await connection.fetch(statement) if row[0] is not None}


@pytest.mark.parametrize("statement", DIRECT.values(), ids=DIRECT)
async def test_a_reader_sees_the_named_tenants_rows_alone(reader: StoreConnection, statement: str) -> None:
    own = set() if "<>" in statement else {TENANT}
    async with reader.transaction():
        await reader.execute(NAME, "{" + TENANT + "}")
        assert await tenants(reader, statement) == own


@pytest.mark.parametrize("statement", DIRECT.values(), ids=DIRECT)
async def test_a_reader_that_names_nobody_sees_nothing(reader: StoreConnection, statement: str) -> None:
    assert await tenants(reader, statement) == set()
    for named in ("", "{}", "{nobody}", "{NULL}"):
        async with reader.transaction():
            await reader.execute(NAME, named)
            assert await tenants(reader, statement) == set()


async def test_several_tenants_may_be_named(reader: StoreConnection) -> None:
    async with reader.transaction():
        await reader.execute(NAME, "{" + f"{TENANT},{OTHER}" + "}")
        assert await tenants(reader, DIRECT["join"]) == {TENANT, OTHER}


async def test_a_tables_partitions_are_guarded_as_it_is(
    reader: StoreConnection, shared: ReadSideUnderTest
) -> None:
    partition = await shared.log.partition_of(TENANT)
    own = f"SELECT DISTINCT tenant FROM {NAMESPACE}.events_p{partition}"
    assert await tenants(reader, own) == set()
    async with reader.transaction():
        await reader.execute(NAME, "{" + OTHER + "}")
        assert await tenants(reader, own) == {OTHER}
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.fetch(f"SELECT tenant FROM {NAMESPACE}.events_p{partition}_r0")


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE {ROWS} SET doc = ''",
        f"DELETE FROM {ROWS}",
        f"INSERT INTO {ROWS} SELECT * FROM {ROWS}",
        f"TRUNCATE {ROWS}",
        f"DELETE FROM {NAMESPACE}.parked_events",
        f"UPDATE {NAMESPACE}.checkpoints SET position = 0",
        f"ALTER TABLE {ROWS} DISABLE ROW LEVEL SECURITY",
        f"SELECT * FROM {NAMESPACE}.scheduled_commands",
        f"SELECT * FROM {NAMESPACE}.idempotency_keys",
        f"SET LOCAL ROLE {NAMESPACE}_builder",
    ],
)
async def test_a_reader_writes_nothing_and_reads_nothing_else(
    shared: ReadSideUnderTest, store_url: str, statement: str
) -> None:
    account = "reader_of_" + store_url.rpartition("/")[2]
    await shared.pool.execute(f"CREATE ROLE {account} LOGIN PASSWORD 'secret' IN ROLE {ROLE}")
    try:
        parts = urlsplit(store_url)
        url = parts._replace(netloc=f"{account}:secret@{parts.netloc.rpartition('@')[2]}").geturl()
        connection = await connect(url)
        await connection.execute(BEGIN_NAMED)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
        connection.terminate()
    finally:
        await shared.pool.execute(f"DROP ROLE {account}")


async def test_who_appends_can_write_for_no_tenant_but_those_of_the_batch(
    shared: ReadSideUnderTest, store_url: str
) -> None:
    connection = await connect(store_url, role=f"{NAMESPACE}_appender")
    for statement in (
        f"INSERT INTO {NAMESPACE}.streams VALUES (0, 1, 1, 1, '{OTHER}', 'a/1')",
        f"INSERT INTO {NAMESPACE}.idempotency_keys VALUES (0, 1, 1, 1, now(), '', '{OTHER}', 's', 'k', 'a/1')",
    ):
        await connection.execute(BEGIN_NAMED)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
        await connection.execute("ROLLBACK")
    async with connection.transaction():
        await connection.execute(NAME, "{" + TENANT + "}")
        touched = await connection.execute(
            f"UPDATE {NAMESPACE}.streams SET version = version + 1 WHERE tenant = '{OTHER}'"
        )
        assert touched == "UPDATE 0"
    connection.terminate()


async def test_all_that_the_api_answers_is_the_tenants_own(shared: ReadSideUnderTest) -> None:
    for tenant, other in ((TENANT, OTHER), (OTHER, TENANT)):
        client = shared.client_of(shared.api, tenant=tenant, roles=("admin",))
        listed = (await client.get("/v1/accounts")).json()["items"]
        assert {one["account_id"] for one in listed} == {"A-1", f"only-{tenant}"}
        document = await client.get("/v1/accounts/A-1")
        assert document.json()["balance_cents"] == len(tenant)
        assert (await client.get(f"/v1/accounts/only-{other}")).status_code == 404
        assert (await client.get("/v1/wealth")).json() == {"accounts": 2, "cents": len(tenant) + 1}
        events = (await client.get("/v1/history")).json()["items"]
        assert {event["stream"] for event in events} == {"accounts/A-1", f"accounts/only-{tenant}"}
        past = await client.get(f"/v1/accounts/A-1?as_of={document.headers['everfold-position']}")
        assert past.json()["balance_cents"] == len(tenant)
        assert (await client.get("/v1/history?stream=accounts/only-" + other)).json()["items"] == []


async def test_an_operator_is_told_how_many_events_are_parked_and_not_whose(
    shared: ReadSideUnderTest,
) -> None:
    await shared.pool.execute(
        f"INSERT INTO {NAMESPACE}.checkpoints (kind, consumer, generation, partition) VALUES ('workflow', 'w', 0, 0)"
    )
    async with shared.client_of(shared.api, tenant=None, roles=("operator",)) as client:
        assert (await client.get("/v1/status")).json()["dead_letters"] == 2


async def test_a_name_does_not_outlive_its_statement_on_a_pooled_connection(
    shared: ReadSideUnderTest, store_url: str
) -> None:
    """T15: also not one that failed, or that was undone."""
    connection = await connect(store_url, role=ROLE)
    read = scoped("SELECT 1 / :zero::integer", NAMESPACE).replace(":tenant", "$1").replace(":zero", "$2")
    assert await connection.fetchval(read, TENANT, 1) == 1
    with pytest.raises(asyncpg.DivisionByZeroError):
        await connection.fetchval(read, TENANT, 0)
    assert not await connection.fetchval(f"SELECT current_setting('{NAMESPACE}.tenants', true)")
    assert await tenants(connection, DIRECT["rows"]) == set()
    connection.terminate()


async def test_fifty_tenants_share_four_connections_and_none_sees_anothers(
    shared: ReadSideUnderTest, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S19: with cancellations at any moment, and unscoped reads in between that must find nothing."""
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    chance = random.Random(seed)
    names = [f"tenant-{number}" for number in range(50)]
    await shared.pool.executemany(
        f"INSERT INTO {ROWS} VALUES ($1, 'A-9', $2, 1, '', 1)", [(name, name.encode()) for name in names]
    )
    monkeypatch.setattr("query_api.replicas.CONNECTIONS_MAX", 4)
    server = Server(store_url, "test", statement_seconds_max=20, role=ROLE)
    statement = document_statement(NAMESPACE, GetAccount, 1)
    fixed = {
        "account_id": "A-9",
        "partition": 0,
        "projections": [PROJECTION],
        "table_name": None,
        "key": None,
    }
    seen = 0

    async def ask(name: str) -> None:
        nonlocal seen
        if chance.random() < 0.1:
            assert await server.fetch(f"SELECT tenant FROM {ROWS}") == []
            return
        (row,) = await server.fetch(statement.sql, statement.arguments(fixed | {"tenant": name}))
        assert row["doc"] == name.encode()
        seen += 1

    async def ask_and_perhaps_leave(name: str) -> None:
        asked = asyncio.create_task(ask(name))
        if chance.random() < 0.1:
            await asyncio.sleep(chance.random() * 0.005)
            asked.cancel()
        with suppress(asyncio.CancelledError):
            await asked

    for _ in range(60):
        await asyncio.gather(*(ask_and_perhaps_leave(chance.choice(names)) for _ in range(50)))
    assert seen > 2_000
    await server.close()


async def test_the_tables_of_generations_are_guarded_when_they_are_made(shared: ReadSideUnderTest) -> None:
    await shared.open_generation(2)
    async with shared.pool.acquire() as connection:
        assert await faults(connection) == []
