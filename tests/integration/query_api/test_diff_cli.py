"""`everfold diff` as a person types it."""

import asyncio
import json

import pytest
import typer
from typer.testing import CliRunner

from query_api import diff_cli
from query_api.query import DocumentQuery
from schemas.errors import MalformedRequest
from tests.integration.projectors.accounts import append, read_side
from tests.toy import AccountOpened, Deposited
from tests.toy.queries import GetAccount

app = typer.Typer()
diff_cli.register(app)
runner = CliRunner()


async def test_diff_prints_what_changed_and_which_event_did_it(
    monkeypatch: pytest.MonkeyPatch, store_url: str
) -> None:
    monkeypatch.setenv("EVERFOLD_STORE_URL", store_url)
    monkeypatch.setenv("EVERFOLD_DOMAINS", "toy")
    found: list[type[DocumentQuery]] = [GetAccount]
    monkeypatch.setattr(diff_cli, "definitions", lambda *_: found)
    async with read_side(store_url) as side:
        await append(side.log, "a", AccountOpened(owner="Ada"), Deposited(cents=5))
        moment = await side.pool.fetchval("SELECT clock_timestamp()")
        await append(side.log, "a", Deposited(cents=7))
    since = ("diff", "accounts/a", "--from", moment.isoformat())[1:]
    said = await asyncio.to_thread(runner.invoke, app, [*since, "--json"])
    assert said.exit_code == 0, said.output
    document = json.loads(said.stdout)
    (balance,) = [change for change in document["changes"] if change["pointer"] == "/balance_cents"]
    assert (balance["before"], balance["after"], balance["set_by"]) == (5, 12, 3)
    assert [(event["version"], event["type"], event["actor"]) for event in document["events"]] == [
        (3, "Deposited", "ada")
    ]
    table = await asyncio.to_thread(runner.invoke, app, list(since))
    assert "/balance_cents" in table.stdout
    assert "Deposited" in table.stdout
    nothing = await asyncio.to_thread(runner.invoke, app, ["accounts/a", "--from", "3"])
    assert "nothing changed" in nothing.stdout
    wrong = await asyncio.to_thread(runner.invoke, app, ["accounts/a", "--from", "yesterday"])
    assert isinstance(wrong.exception, MalformedRequest)
