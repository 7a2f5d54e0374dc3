"""`everfold tenants` as a person types it."""

import asyncio
import json
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from event_store import tenants_cli
from event_store.failures import TenantLivedThere
from event_store.postgres import PostgresLog
from schemas.envelope import Metadata
from tests.contract.log.appends import TENANT, append
from tests.services import PARTITIONS

app = typer.Typer()
tenants_cli.register(app)


async def run(*arguments: str) -> Any:
    return await asyncio.to_thread(CliRunner().invoke, app, ["tenants", *arguments])


async def test_a_tenant_is_shown_moved_and_shown_again(
    monkeypatch: pytest.MonkeyPatch, log: PostgresLog, store_url: str
) -> None:
    monkeypatch.setenv("EVERFOLD_STORE_URL", store_url)
    monkeypatch.setenv("EVERFOLD_PARTITIONS", str(PARTITIONS))
    home = await log.partition_of(TENANT)
    to = (home + 1) % PARTITIONS
    await log.append_batch(home, [append("a/1", 0)])
    shown = await run("show", TENANT)
    assert shown.stdout == f"partition {home}: positions 1 to now, the beginning to now\n"

    moved = await run("move", TENANT, "--to", str(to), "--reason", "too full", "--json")
    assert moved.exit_code == 0, moved.output
    document = json.loads(moved.stdout)
    assert (document["tenant"], document["is_moving"]) == (TENANT, False)
    assert [(one["partition"], one["last_position"]) for one in document["residences"]] == [
        (home, 2),
        (to, None),
    ]
    assert json.loads((await run("show", TENANT, "--json")).stdout) == document
    (left,) = await log.read_range(home, 2, 2)
    said = Metadata.decode(left.metadata)
    assert (said.reason, said.command, "@" in said.actor) == ("too full", "tenants.move", True)

    back = await run("move", TENANT, "--to", str(home))
    assert isinstance(back.exception, TenantLivedThere)
