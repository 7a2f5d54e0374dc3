"""
What a process says of its settings before it serves: production refuses what would lie, development tells of it.

The server of the tests has durability switched off and an account that may do all, so it is just what must be refused.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from pydantic import SecretStr

from event_store import startup
from event_store.connections import StoreConnection
from event_store.migrate import migrate
from event_store.startup import check_start, problems_of
from infra.embedded.folders import ephemeral_folder, server_folder
from infra.embedded.ports import free_port
from infra.embedded.postgres import PostgresServer
from infra.embedded.server import running
from infra.master_key_file import new_line
from infra.settings import Settings
from infra.unsafe_settings import Finding, UnsafeSettings
from schemas.errors import StoreUnavailable
from tests.services import new_name, url_of_database

AWAY = "postgresql://nobody@127.0.0.1:1/nothing"


def production(store_url: str, **more: Any) -> Settings:
    given: dict[str, Any] = {"mode": "production", "oidc_issuer": "https://issuer.example"} | more
    return Settings(store_url=SecretStr(store_url), **given)


@pytest.fixture
async def account(admin: StoreConnection) -> AsyncIterator[str]:
    """An account that may log in and nothing else."""
    name = new_name()
    await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    yield name
    await admin.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def as_account(url: str, account: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{account}:secret@{parts.hostname}:{parts.port}").geturl()


async def findings(settings: Settings, *parts: Any) -> list[str]:
    """Return what production refuses."""
    try:
        await check_start(settings, *parts)
    except UnsafeSettings as error:
        return [str(finding) for finding in error.findings if str(finding) in str(error)]
    return []


def named(found: list[str], *words: str) -> bool:
    return any(all(word in finding for word in words) for finding in found)


async def test_production_refuses_a_server_without_durability_and_an_account_that_may_do_all(
    store_url: str,
) -> None:
    found = await findings(production(store_url), "appender")
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        assert named(found, "EVERFOLD_STORE_URL", f"{setting} is off", "set it to on")
    assert named(found, "account postgres bypasses row security")
    assert len(found) == 4
    assert "secret" not in "".join(found)


async def test_each_process_asks_as_it_will_work(
    store_url: str, admin: StoreConnection, account: str
) -> None:
    url = as_account(store_url, account)
    assert named(await findings(production(url), "feed"), "role everfold_feed", "GRANT everfold_feed")
    await admin.execute(f"GRANT everfold_feed TO {account}")
    found = await findings(production(url), "feed")
    assert len(found) == 3
    assert not named(found, "account")
    assert named(await findings(production(url), "appender", "feed"), "GRANT everfold_appender")
    read = production(url, read_url=SecretStr(url.replace("127.0.0.1", "localhost")))
    assert not named(await findings(read, "appender", "feed"), "EVERFOLD_READ_URL", "everfold_appender")


async def test_production_refuses_an_account_that_owns_the_log(
    store_url: str, admin: StoreConnection, account: str
) -> None:
    await admin.execute(f"GRANT everfold_feed TO {account}")
    await admin.execute(f"ALTER TABLE everfold.events OWNER TO {account}")
    try:
        found = await findings(production(as_account(store_url, account)), "feed")
    finally:
        await admin.execute("ALTER TABLE everfold.events OWNER TO CURRENT_USER")
    assert named(found, f"account {account} has the rights of the log's owner", "another account")


async def test_production_refuses_a_role_that_bypasses_row_security(
    admin: StoreConnection, store_url: str, account: str
) -> None:
    namespace = f"by_{account.removeprefix('everfold_test_')}"
    await admin.execute(f"CREATE ROLE {namespace}_query BYPASSRLS; GRANT {namespace}_query TO {account}")
    try:
        settings = production(as_account(store_url, account), namespace=namespace)
        assert named(await findings(settings, "query"), f"role {namespace}_query bypasses row security")
    finally:
        await admin.execute(f"DROP ROLE {namespace}_query")


async def test_production_refuses_another_encoding_than_utf_8(
    postgres_url: str, admin: StoreConnection
) -> None:
    name = new_name()
    await admin.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    try:
        settings = production(url_of_database(postgres_url, name), database_roles="accounts")
        assert named(await findings(settings, "query"), "encoding is LATIN1", "ENCODING 'UTF8'")
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_server_that_is_too_old_is_refused_and_a_replica_need_not_be_durable() -> None:
    """There is no PostgreSQL 14 to be had here, so this is what one would say."""
    said = dict.fromkeys(("fsync", "full_page_writes", "synchronous_commit"), "on")
    row: dict[str, Any] = {
        **said, "version": 140_011, "encoding": "UTF8", "is_replica": False, "account": "a", "role": "r",
        "account_bypasses": False, "role_bypasses": False, "owns_log": False,
    }  # fmt: skip
    assert problems_of(row) == ["PostgreSQL 14 is too old: use 15 or newer"]
    assert problems_of(row | {"version": 150_000}) == []
    assert problems_of(row | {"version": 180_006, "is_replica": True, "fsync": "off"}) == []


async def test_development_tells_of_it_and_starts(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []

    class Recorder:
        """Takes the place of the log, which other tests may have tied to an output of theirs."""

        def warning(self, event: str, *, finding: str = "", **_facts: object) -> None:
            warned.append(f"{event}: {finding}")

        def debug(self, event: str, **_facts: object) -> None:
            assert event == "production would refuse this"

    monkeypatch.setattr(startup, "log", Recorder())
    local = Settings(store_url=SecretStr(store_url))
    await check_start(local, "appender", verifies_tokens=True)
    assert warned == []  # of a laptop's servers, quietly
    remote = Settings(store_url=SecretStr(store_url), redis_url=SecretStr("redis://cache.example:6379"))
    await check_start(remote, "appender")
    assert len(warned) == 1
    assert "rediss://" in warned[0]


async def test_a_server_that_cannot_be_asked_keeps_production_from_starting_and_not_development() -> None:
    with pytest.raises(StoreUnavailable):
        await check_start(production(AWAY), "feed")
    await check_start(Settings(store_url=SecretStr(AWAY)), "feed")


async def test_a_replica_that_is_away_keeps_nobody_from_starting(store_url: str) -> None:
    found = await findings(production(store_url, replica_urls=(AWAY,)), "query")
    assert not named(found, "EVERFOLD_REPLICA_URLS")


# -- processes, on a server as it should be --------------------------------------------------------------


@pytest.fixture(scope="module")
def durable() -> Iterator[tuple[str, str]]:
    """A server that keeps what it acknowledges: its superuser's address, and that of an account that serves."""
    with ephemeral_folder() as folder:
        server = PostgresServer(server_folder(folder, "postgres"), free_port(), database="everfold")
        with running(server) as handle:
            migrate(handle.url, "everfold", range(2))
            yield handle.url, as_account(handle.url, "serving")


async def start(role: str, store_url: str, folder: Path, **more: str) -> tuple[int | None, str]:
    """Return how a role's process ended, or None once it serves, and what it said."""
    keys = folder / "master.keys"
    keys.write_text(new_line())
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EVERFOLD_")}
    given = {
        "EVERFOLD_MODE": "production", "EVERFOLD_STORE_URL": store_url, "EVERFOLD_PARTITIONS": "2",
        "EVERFOLD_OIDC_ISSUER": "https://issuer.example", "EVERFOLD_DATA_DIR": str(folder),
        "EVERFOLD_COMMAND_PORT": str(free_port()), "EVERFOLD_QUERY_PORT": str(free_port()),
        "EVERFOLD_HEALTH_PORT": str(free_port()), "EVERFOLD_MASTER_KEY_FILE": str(keys),
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.cli", role, env=kept | given | more,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    port = {"command-api": "COMMAND", "query-api": "QUERY"}.get(role, "HEALTH")
    listens = asyncio.create_task(until_open(int((given | more)[f"EVERFOLD_{port}_PORT"])))
    ended = asyncio.create_task(process.wait())
    try:
        async with asyncio.timeout(60):
            await asyncio.wait((listens, ended), return_when=asyncio.FIRST_COMPLETED)
        status = process.returncode
    finally:
        listens.cancel()
        if process.returncode is None:
            process.terminate()
    said, _ = await process.communicate()
    return status, said.decode()


async def until_open(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


ROLES = {
    "command-api": ("appender",),
    "query-api": ("query",),
    "relay": ("feed",),
    "projector": ("feed",),
    "workflow": ("feed", "appender"),
}


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_starts_in_production_with_an_account_that_may_no_more_than_it_needs(
    durable: tuple[str, str], role: str, tmp_path: Path
) -> None:
    admin_url, store_url = durable
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS serving")
        admin.execute("CREATE ROLE serving LOGIN PASSWORD 'secret'")
        for part in ROLES[role]:
            admin.execute(f"GRANT everfold_{part} TO serving".encode())
    status, said = await start(role, store_url, tmp_path)
    assert status is None, said
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"REVOKE everfold_{ROLES[role][0]} FROM serving".encode())
    status, said = await start(role, store_url, tmp_path)
    assert status == 2
    assert f"GRANT everfold_{ROLES[role][0]}" in " ".join(said.split())


@pytest.mark.parametrize("role", ROLES)
async def test_no_role_starts_in_production_as_a_superuser_or_over_plaintext(
    durable: tuple[str, str], role: str, tmp_path: Path
) -> None:
    status, said = await start(
        role, durable[0], tmp_path,
        EVERFOLD_REDIS_URL="redis://cache.example:6379", EVERFOLD_BROKER_URL="amqp://mq.example",
        EVERFOLD_OIDC_ISSUER="http://issuer.example",
    )  # fmt: skip
    assert status == 2
    wanted = ["account postgres bypasses row security", "rediss://", "amqps://"]
    if role.endswith("-api"):
        wanted.append("EVERFOLD_OIDC_ISSUER is not https")
    said = " ".join(said.split())
    assert [part for part in wanted if part not in said] == []
    assert "fsync" not in said


def test_a_finding_reads_as_a_sentence_that_names_its_variable() -> None:
    assert str(Finding("EVERFOLD_X", "is unsafe: do this")) == "EVERFOLD_X is unsafe: do this"
