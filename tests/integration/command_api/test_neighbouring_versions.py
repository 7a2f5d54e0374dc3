"""
A migration under traffic, with the programs before and after it side by side.

The next version is a copy of this one's source with two more revisions: one that expands (a column, and the append
function's next version, which fills it), and one that contracts once nobody runs the old program any more.
"""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from event_store.migrate import STATEMENT_LOCK_WAIT_SECONDS_MAX, migrate
from schemas.errors import BadDefinition
from tests.integration.command_api.clients import settings_for
from tests.integration.command_api.test_process import ROOT, Role, role
from tests.load import Ledger, Request, run_clients

PACKAGES = ("command_api", "event_store", "infra", "projectors", "query_api", "schemas", "tests")
ACCOUNTS = 3
CLIENTS = 4
COMMANDS = 30
"""That each program is to have carried out before the next step."""
SECONDS_MAX = 60.0
ANSWER_SECONDS_MAX = STATEMENT_LOCK_WAIT_SECONDS_MAX + 6.0
"""What an append may take while a migration waits for its table, on a loaded machine."""
REVISION = """
from event_store.migrations.steps import run_sql

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    run_sql({files})
"""


def next_version(folder: Path) -> Path:
    """Make the source of the version after this one."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    sql, versions = folder / "event_store/sql", folder / "event_store/migrations/versions"
    query = (sql / "queries/append_batch.sql").read_text()
    old = re.findall(r"append_batch_v\d+", query)[0]
    new = "append_batch_v99"
    function = (sql / f"functions/{old}.sql").read_text().replace(old, new)
    for found, wanted in (
        ("previous_hash, marks)", "previous_hash, marks, made_by)"),
        ("_base_hash, l.marks\n", "_base_hash, l.marks, 'next'\n"),
    ):
        assert function.count(found) == 1
        function = function.replace(found, wanted)
    (sql / f"functions/{new}.sql").write_text(function)
    (sql / "queries/append_batch.sql").write_text(query.replace(old, new))
    (sql / "migrations/expand.sql").write_text("ALTER TABLE {namespace}.commits ADD COLUMN made_by text;\n")
    (sql / "migrations/contract.sql").write_text(f"DROP FUNCTION {{namespace}}.{old};\n")
    newest = max(file.stem for file in versions.glob("r0*.py"))
    files = f'"migrations/expand.sql", "functions/{new}.sql"'
    expand = REVISION.format(revision="r9001_expand", before=newest, files=files)
    (versions / "r9001_expand.py").write_text(expand)
    contract = REVISION.format(
        revision="r9002_contract", before="r9001_expand", files='"migrations/contract.sql"'
    )
    (versions / "r9002_contract.py").write_text(contract)
    return folder


class Traffic:
    """Clients of one program, who pay in to accounts that the other program's clients use as well."""

    def __init__(self, name: str, running: Role) -> None:
        self._name, self._stopped = name, False
        self.sent = 0
        clients = run_clients(
            url=running.url,
            token=running.token,
            clients=CLIENTS,
            next_request=self._next,
            give_up_after_seconds=SECONDS_MAX,
        )
        self._task = asyncio.create_task(clients)

    def _next(self, client: int, number: int) -> Request | None:
        if self._stopped:
            return None
        self.sent += 1
        path = f"/v1/accounts/a-{number % ACCOUNTS}/deposit"
        return Request(path, {"cents": 1}, f"{self._name}/{client}/{number}")

    async def more(self) -> None:
        """Wait until so many more commands were answered."""
        wanted = self.sent + COMMANDS + CLIENTS
        async with asyncio.timeout(SECONDS_MAX):
            while self.sent < wanted:
                await asyncio.sleep(0.02)

    async def end(self) -> Ledger:
        """Send no more, and return what became of all."""
        self._stopped = True
        return await self._task


async def spawned(root: Path, store_url: str, folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    """Start a program of a source tree."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EVERFOLD_")}
    given = {
        "EVERFOLD_STORE_URL": store_url, "EVERFOLD_DATA_DIR": str(folder), "EVERFOLD_DOMAINS": "toy",
        "EVERFOLD_BROKER_URL": "log",
    }  # fmt: skip
    with (folder / "programs.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "infra.cli",
            *arguments,
            cwd=root,
            env={**kept, **given},
            stdout=log,
            stderr=log,
        )


async def migrated(root: Path, store_url: str, folder: Path, *arguments: str) -> int:
    """Run `everfold migrate` of a source tree, and return its exit status."""
    process = await spawned(root, store_url, folder, "migrate", *arguments)
    return await asyncio.wait_for(process.wait(), SECONDS_MAX)


@asynccontextmanager
async def projecting(store_url: str, folder: Path, root: Path) -> AsyncIterator[None]:
    """Run a source tree's projector for a block."""
    process = await spawned(root, store_url, folder, "projector")
    try:
        yield
        assert process.returncode is None, "the projector has ended"
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), SECONDS_MAX)


async def folded(connection: Any, cents: int) -> None:
    """Wait until the read table has so much money."""
    total = "SELECT coalesce(sum(balance_cents), 0) FROM everfold_account_balances_1.rows"
    async with asyncio.timeout(SECONDS_MAX):
        while await connection.fetchval("SELECT to_regclass('everfold_account_balances_1.rows')") is None:
            await asyncio.sleep(0.1)
        while (found := await connection.fetchval(total)) < cents:
            await asyncio.sleep(0.1)
    assert found == cents


@asynccontextmanager
async def started(store_url: str, folder: Path, root: Path) -> AsyncIterator[Role]:
    """Run a source tree's command API; clients go on while it starts."""
    running = role(store_url, folder, root=root)
    opened = await asyncio.to_thread(running.__enter__)
    try:
        yield opened
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


@pytest.mark.timeout(300)
async def test_commands_go_on_while_a_migration_leads_from_one_program_to_the_next(  # F53
    store_url: str, tmp_path: Path
) -> None:
    newer = next_version(tmp_path / "newer")
    connection = await asyncpg.connect(store_url)
    async with AsyncExitStack() as old_programs:
        old_role = await old_programs.enter_async_context(started(store_url, tmp_path, ROOT))
        await old_programs.enter_async_context(projecting(store_url, tmp_path, ROOT))
        with old_role.client() as client:
            for number in range(ACCOUNTS):
                opened = client.post(f"/v1/accounts/a-{number}/open", json={"owner": "Ann"})
                assert opened.status_code == 200
        old = Traffic("old", old_role)
        await old.more()

        reading = connection.transaction()
        await reading.start()
        await connection.fetch("SELECT FROM everfold.commits LIMIT 1")
        assert await migrated(newer, store_url, tmp_path, "--to", "r9001_expand") != 0, "it gives way"
        await reading.rollback()
        await old.more()

        async with asyncio.timeout(SECONDS_MAX):
            while await migrated(newer, store_url, tmp_path, "--to", "r9001_expand") != 0:
                await asyncio.sleep(0.2)
        await old.more()
        assert await migrated(ROOT, store_url, tmp_path, "--check") == 0
        assert await migrated(ROOT, store_url, tmp_path) == 0, "there is nothing to do for the old program"

        async with started(store_url, tmp_path, newer) as new_role, projecting(store_url, tmp_path, newer):
            new = Traffic("new", new_role)
            await asyncio.gather(old.more(), new.more())
            ledgers = [await old.end()]
            await old_programs.aclose()
            assert await migrated(newer, store_url, tmp_path) == 0
            await new.more()
            ledgers.append(await new.end())
            await folded(connection, sum(len(ledger.acknowledged) for ledger in ledgers))

    await holds(connection, ledgers)
    async with started(store_url, tmp_path, ROOT) as too_old:
        with too_old.client() as client:
            refused = client.post("/v1/accounts/a-0/deposit", json={"cents": 1})
        assert refused.status_code == 503, "nothing happens where a program has lost what it needs"
    await connection.close()


async def holds(connection: Any, ledgers: list[Ledger]) -> None:
    """Check that each command has had its one effect, and that both programs wrote after the migration."""
    acknowledged = [
        event for ledger in ledgers for events in ledger.acknowledged.values() for event in events
    ]
    for ledger in ledgers:
        assert (ledger.rejected, ledger.unknown) == ({}, {})
        assert max(ledger.latencies_seconds) < ANSWER_SECONDS_MAX
    stored = await connection.fetch("SELECT id::text FROM everfold.events WHERE type = 'Deposited'")
    assert sorted(row["id"] for row in stored) == sorted(acknowledged)
    made = await connection.fetch(
        "SELECT coalesce(made_by, 'old') AS by, min(first_position) AS first, max(last_position) AS last"
        " FROM everfold.commits GROUP BY 1 ORDER BY 1"
    )
    (next_, old) = ((row["by"], row["first"], row["last"]) for row in made)
    assert (next_[0], old[0]) == ("next", "old")
    assert next_[1] < old[2], "both wrote side by side"


def test_a_database_of_a_newer_program_is_left_as_it_is(store_url: str, tmp_path: Path) -> None:
    """A process that starts again in the middle of a rollout finds nothing to do, and undoes nothing."""
    with psycopg.connect(store_url, autocommit=True) as connection:
        connection.execute("UPDATE everfold.schema_revision SET version_num = 'r9001_expand'")
    partitions = range(settings_for(store_url, tmp_path).partitions)
    for check in (True, False):
        done = migrate(store_url, "everfold", partitions, check=check)
        assert (done.is_newer, done.is_current, done.before, done.after) == (
            True, True, "r9001_expand", "r9001_expand",
        )  # fmt: skip
    with pytest.raises(BadDefinition):
        migrate(store_url, "everfold", partitions, to="r0001_log")
