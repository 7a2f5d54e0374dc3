"""
What each role of the database may do: as little as its processes need, and nothing to what has happened. # S46

The catalogue is asked of everything that it holds, so what is added later is held to the same.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest

from event_store.connections import RoleNotTaken, StoreConnection, connect
from event_store.log import Answer, StreamTail
from event_store.migrate import migrate
from event_store.postgres import PostgresLog
from event_store.roles import roles_script
from event_store.servers import LogRoles
from infra.database_roles import role_of
from infra.pools import open_pool
from schemas.errors import BadDefinition, StoreUnavailable
from tests.contract.log.appends import append, key
from tests.guards import REVIEWED_DEFINERS, ROLES, TRAFFIC, faults
from tests.services import NAMESPACE, PARTITIONS, create_database, drop_database, new_name

MAY_NOT = "42501"
KEY_DAYS = "SELECT count(*) FROM pg_class WHERE relname ~ '^idempotency_keys_p0_d' AND relkind = 'r'"
LOG_TABLES = ("events", "events_p0", "events_p0_r0", "commits", "commits_p0")
APPENDER = LogRoles("everfold_appender", "everfold_appender", "everfold_keeper")


@pytest.fixture
async def appender(store_url: str) -> AsyncIterator[PostgresLog]:
    """A log as the command API uses it."""
    async with PostgresLog({range(PARTITIONS): store_url}, roles=APPENDER) as log:
        yield log


async def refusal_of(connection: StoreConnection, role: str, statement: str) -> str | None:
    """Return the SQLSTATE that a role's statement is refused with; None: it was not."""
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL ROLE {role}")
            await connection.execute(statement)
    except asyncpg.PostgresError as error:
        return error.sqlstate
    return None


# -- the catalogue ---------------------------------------------------------------------------------------


async def test_everything_in_the_catalogue_is_guarded(admin: StoreConnection) -> None:
    assert await faults(admin) == []


@pytest.mark.parametrize(
    ("what", "sign"),
    [
        ("CREATE TABLE everfold.forgotten (tenant text); GRANT SELECT ON everfold.forgotten TO everfold_feed",
         "everfold.forgotten has tenants"),
        ("CREATE TABLE everfold.nobodys (value text)", "nobody may use everfold.nobodys"),
        ("ALTER TABLE everfold.events NO FORCE ROW LEVEL SECURITY", "everfold.events has tenants"),
        ("DROP POLICY named_tenants ON everfold.streams", "everfold.streams has tenants"),
        ("CREATE POLICY lax ON everfold.streams USING (true)", "everfold.streams has tenants"),
        ("CREATE VIEW everfold.leak AS SELECT * FROM everfold.events", "view everfold.leak"),
        ("CREATE FUNCTION everfold.lift() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'", "function lift"),
        ("GRANT DELETE ON everfold.events_p3 TO everfold_feed", "role everfold_feed may DELETE"),
        ("GRANT UPDATE (data) ON everfold.events TO everfold_query", "role everfold_query may UPDATE"),
        ("ALTER TABLE everfold.void_calls OWNER TO everfold_appender", "role everfold_appender owns"),
        ("GRANT EXECUTE ON FUNCTION everfold.ensure_ranges_v2 TO PUBLIC", "function ensure_ranges_v2"),
    ],
)  # fmt: skip
async def test_what_somebody_forgets_is_found(admin: StoreConnection, what: str, sign: str) -> None:
    await admin.execute(what)
    assert any(fault.startswith(sign) for fault in await faults(admin))


async def test_a_table_that_its_migration_forgot_is_guarded_at_the_end_of_it(
    admin: StoreConnection, store_url: str
) -> None:
    await admin.execute(
        "CREATE TABLE everfold.forgotten (tenant text); GRANT SELECT ON everfold.forgotten TO everfold_query"
    )
    await asyncio.to_thread(migrate, store_url, NAMESPACE, range(PARTITIONS))
    assert await faults(admin) == []


async def test_every_reviewed_function_is_there(admin: StoreConnection) -> None:
    rows = await admin.fetch("SELECT proname FROM pg_proc WHERE prosecdef")
    assert {row[0] for row in rows} == REVIEWED_DEFINERS


# -- each statement as each role -------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("table", LOG_TABLES)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE everfold.{} SET recorded_at = now()",
        "UPDATE everfold.{} SET partition = 1 WHERE false",
        "DELETE FROM everfold.{}",
        "DELETE FROM everfold.{} WHERE false",
        "TRUNCATE everfold.{}",
        "ALTER TABLE everfold.{} DISABLE TRIGGER ALL",
        "ALTER TABLE everfold.{} NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE everfold.{} OWNER TO CURRENT_USER",
        "DROP TABLE everfold.{} CASCADE",
        "CREATE RULE hide AS ON INSERT TO everfold.{} DO INSTEAD NOTHING",
    ],
)
async def test_no_role_can_change_what_has_happened(
    log: PostgresLog, admin: StoreConnection, role: str, table: str, statement: str
) -> None:
    await log.append_batch(0, [append("a/1", 0)])
    assert await refusal_of(admin, role, statement.format(table)) == MAY_NOT
    assert len(await log.read_range(0, 1, 1)) == 1


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "statement",
    [
        "SET session_replication_role = replica",
        "ALTER ROLE CURRENT_USER BYPASSRLS",
        "CREATE ROLE another",
        "CREATE TABLE everfold.mine (id integer)",
        "ALTER FUNCTION everfold.ensure_ranges_v2 OWNER TO CURRENT_USER",
        "UPDATE everfold.partitions SET partition = 9",
        "UPDATE everfold.partitions SET range_events = 1",
        "DELETE FROM everfold.partitions",
        "DELETE FROM everfold.idempotency_keys",
        "UPDATE everfold.idempotency_keys SET fingerprint = ''",
        "DELETE FROM everfold.streams",
        "UPDATE everfold.streams SET tenant = 'other'",
        "INSERT INTO everfold.tenant_partitions VALUES ('acme', 1)",
        "UPDATE everfold.schema_revision SET version_num = 'none'",
        "SELECT everfold.create_partition_v1(99)",
        "DROP SCHEMA everfold CASCADE",
    ],
)
async def test_no_role_can_lift_its_limits_or_bend_the_log(
    admin: StoreConnection, role: str, statement: str
) -> None:
    if role == "everfold_keeper" and ("idempotency_keys" in statement or "CREATE TABLE" in statement):
        return  # they are its own, and so are the tables that it makes for them
    refused = "ES005" if role == "everfold_appender" and "SET partition" in statement else MAY_NOT
    assert await refusal_of(admin, role, statement) == refused


@pytest.mark.parametrize("role", TRAFFIC)
async def test_only_who_appends_can_add_to_the_log(admin: StoreConnection, role: str) -> None:
    statement = (
        "SELECT set_config('everfold.tenants', '{acme}', true);"
        "INSERT INTO everfold.events VALUES (1, 1, now(), gen_random_uuid(), 0, 1, 'acme', 'a/1', 'T', '', '')"
    )
    assert await refusal_of(admin, role, statement) == (None if role == "everfold_appender" else MAY_NOT)


async def test_the_query_role_writes_nothing_but_what_it_is_asked_for(admin: StoreConnection) -> None:
    """Operations that a projector is to carry out, and tickets for live streams; nothing of what has happened."""
    rows = await admin.fetch(
        """
        SELECT c.oid::regclass::text FROM pg_class AS c
         WHERE has_table_privilege('everfold_query', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
            OR has_any_column_privilege('everfold_query', c.oid, 'INSERT, UPDATE')
        """
    )
    asked = {"everfold.live_tickets", "everfold.operations"}
    assert {row[0] for row in rows} - {"pg_settings"} == asked


# -- the appender ----------------------------------------------------------------------------------------


async def test_the_command_apis_role_can_do_all_that_it_has_to(appender: PostgresLog) -> None:
    home = await appender.partition_of("acme")
    wanted = append("a/1", 0, key=key("k"))
    (outcome,) = await appender.append_batch(home, [wanted])
    assert outcome.answer is Answer.APPENDED
    outcomes = await appender.append_batch(
        home, [append("a/1", 0, key=key("k")), append("a/2", 0), append("b/1", 0, tenant="other")]
    )
    assert [one.answer for one in outcomes] == [Answer.DUPLICATE, Answer.APPENDED, Answer.APPENDED]
    assert (await appender.settle(home, wanted)) is not None
    tails = [StreamTail("acme", "a/1", 0), StreamTail("other", "b/1", 0), StreamTail("acme", "b/1", 0)]
    events, head = await appender.read_tails(home, tails)
    assert [(event.tenant, event.version) for event in events] == [("acme", 1), ("other", 1)]
    assert [event.version async for event in appender.read_stream("acme", "a/1")] == [1]
    assert (await appender.heads())[home] == head


async def test_the_command_apis_role_keeps_house_without_owning_it(database: str) -> None:
    """Tables for the events and keys to come are made, and guarded; old keys go."""
    await asyncio.to_thread(migrate, database, NAMESPACE, range(1), range_events=4)
    async with PostgresLog({range(1): database}, roles=APPENDER) as log:
        for version in range(0, 18, 3):
            await log.append_batch(0, [append("a/1", version, 3, key=key(f"k{version}"))])
            await log.keep_house(0, keys_kept=timedelta(days=1))
        admin = await connect(database)
        await admin.execute("SET ROLE everfold_keeper")
        await admin.execute("SELECT everfold.ensure_key_days_v2(0, now() - interval '5 days')")
        await admin.execute("SET ROLE NONE")
        made = await admin.fetchval(KEY_DAYS)
        assert made >= 6
        await log.keep_house(0, keys_kept=timedelta(days=1))
        assert await admin.fetchval(KEY_DAYS) <= made - 3
        (outcome,) = await log.append_batch(0, [append("a/1", 0, 3, key=key("k0"))])
        assert outcome.answer is Answer.DUPLICATE
    assert await admin.fetchval("SELECT to_regclass('everfold.events_p0_r5') IS NOT NULL")
    assert await faults(admin) == []
    admin.terminate()


# -- taking a role ---------------------------------------------------------------------------------------


@pytest.fixture
async def account(admin: StoreConnection) -> AsyncIterator[str]:
    """An account that may log in and nothing else."""
    name = new_name()
    await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    yield name
    await admin.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def url_of(url: str, account: str) -> str:
    """Return an address as another account uses it."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{account}:secret@{parts.hostname}:{parts.port}").geturl()


async def test_a_connection_works_in_its_role_from_the_beginning(store_url: str) -> None:
    connection = await connect(store_url, role="everfold_query")
    assert await connection.fetchval("SELECT current_user") == "everfold_query"
    await connection.execute("BEGIN; SET LOCAL ROLE everfold_feed; RESET ROLE; COMMIT")
    assert await connection.fetchval("SELECT current_user") == "everfold_query"
    connection.terminate()


async def test_an_account_may_take_only_the_roles_that_it_was_given(
    store_url: str, admin: StoreConnection, account: str
) -> None:
    with pytest.raises(RoleNotTaken) as refused:
        await connect(url_of(store_url, account), role="everfold_feed")
    assert "GRANT everfold_feed" in refused.value.problem
    with pytest.raises(BadDefinition, match="GRANT everfold_feed"):
        await open_pool(url_of(store_url, account), name="test", size_max=1, role="everfold_feed")
    await admin.execute(f"GRANT everfold_query TO {account}")
    connection = await connect(url_of(store_url, account), role="everfold_query")
    connection.terminate()


async def test_a_role_that_is_not_there_says_to_migrate(store_url: str) -> None:
    with pytest.raises(StoreUnavailable) as refused:
        await connect(store_url, role="nowhere_query")
    assert "everfold migrate" in str(refused.value.detail())


async def test_behind_a_pooler_the_account_has_its_role_and_takes_none(
    store_url: str, admin: StoreConnection, account: str
) -> None:
    assert role_of("everfold", "appender", "accounts") is None
    await admin.execute(f"GRANT everfold_appender TO {account}")
    async with PostgresLog({range(PARTITIONS): url_of(store_url, account)}) as log:
        (outcome,) = await log.append_batch(0, [append("a/1", 0)])
        assert outcome.answer is Answer.APPENDED
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with log._servers.of(0).writers.borrow() as connection:
                await connection.execute("DELETE FROM everfold.events")


# -- making the roles ------------------------------------------------------------------------------------


async def migrate_as_a_process(url: str, namespace: str) -> tuple[int, str]:
    """Return how `everfold migrate` ended, and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.cli", "migrate",
        env=os.environ | {"EVERFOLD_STORE_URL": url, "EVERFOLD_NAMESPACE": namespace, "EVERFOLD_PARTITIONS": "1"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_roles_are_made_once_by_databases_that_migrate_at_the_same_time(
    postgres_url: str, admin: StoreConnection
) -> None:
    namespace = f"race_{new_name().removeprefix('everfold_test_')}"
    databases = [create_database(postgres_url) for _ in range(4)]
    ended = await asyncio.gather(*(migrate_as_a_process(url, namespace) for url in databases))
    assert [status for status, _ in ended] == [0] * 4, ended
    made = await admin.fetchval("SELECT count(*) FROM pg_roles WHERE rolname LIKE $1", f"{namespace}\\_%")
    assert made == len(ROLES)
    for url in databases:
        drop_database(postgres_url, url)


async def test_the_sql_for_an_administrator_is_printed(store_url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.cli", "migrate", "--print-roles",
        env=os.environ | {"EVERFOLD_STORE_URL": store_url}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0
    assert said.decode().strip() == roles_script(store_url, NAMESPACE).strip()


async def test_an_account_that_may_not_make_roles_says_what_to_do_and_can_migrate_when_it_is_done(
    postgres_url: str, database: str, admin: StoreConnection, account: str
) -> None:
    """The account owns its log then, and row security holds for it as the policies say."""
    namespace = f"own_{account.removeprefix('everfold_test_')}"
    own = url_of(database, account)
    with pytest.raises(BadDefinition, match="--print-roles") as refused:
        await asyncio.to_thread(migrate, own, namespace, range(1))
    assert f"role {namespace}_appender" in str(refused.value)
    with psycopg.connect(database, autocommit=True) as administrator:
        administrator.execute(roles_script(own, namespace).encode())
    done = await asyncio.to_thread(migrate, own, namespace, range(1))
    assert done.is_current
    async with PostgresLog({range(1): own}, namespace) as log:  # as the tools do
        await log.append_batch(0, [append("a/1", 0, key=key("k"))])
        await log.keep_house(0, keys_kept=timedelta(days=1))
        assert len(await log.read_range(0, 1, 1)) == 1
    with psycopg.connect(database, autocommit=True) as administrator:
        administrator.execute(f"DROP SCHEMA {namespace} CASCADE; DROP OWNED BY {account}")
        for part in ("appender", "feed", "query", "builder", "keeper"):
            administrator.execute(f"DROP OWNED BY {namespace}_{part}; DROP ROLE {namespace}_{part}")


async def test_an_account_that_may_make_roles_needs_no_administrator(
    database: str, admin: StoreConnection, account: str
) -> None:
    namespace = f"make_{account.removeprefix('everfold_test_')}"
    with psycopg.connect(database, autocommit=True) as administrator:
        administrator.execute(f"ALTER ROLE {account} CREATEROLE")
        name = urlsplit(database).path.removeprefix("/")
        administrator.execute(f"ALTER DATABASE {name} OWNER TO {account}")
    done = await asyncio.to_thread(migrate, url_of(database, account), namespace, range(1))
    assert done.is_current
    assert (await asyncio.to_thread(migrate, url_of(database, account), namespace, range(1))).is_current
    with psycopg.connect(database, autocommit=True) as administrator:
        administrator.execute(f"ALTER DATABASE {name} OWNER TO CURRENT_USER")
        administrator.execute(f"DROP SCHEMA {namespace} CASCADE; DROP OWNED BY {account}")
        for part in ("appender", "feed", "query", "builder", "keeper"):
            administrator.execute(f"DROP OWNED BY {namespace}_{part}; DROP ROLE {namespace}_{part}")


async def test_guards_can_be_taken_back_and_given_again(database: str) -> None:
    await asyncio.to_thread(migrate, database, NAMESPACE, range(2))
    await asyncio.to_thread(migrate, database, NAMESPACE, range(2), to="r0008_heads")
    admin = await connect(database)
    assert await admin.fetchval("SELECT count(*) FROM pg_policy") == 0
    await asyncio.to_thread(migrate, database, NAMESPACE, range(2))
    assert await faults(admin) == []
    admin.terminate()
