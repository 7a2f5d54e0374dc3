"""What an operator types, on a system whose projectors are away: this process carries it out, and says so."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from event_store import status_cli
from projectors import (
    cli_dead_letters,
    cli_operations,
    cli_projections,
    cli_replay,
    cli_verify,
)
from projectors.read_side import ReadSide
from schemas.errors import MalformedRequest, NotFound
from tests.integration.projectors.accounts import append, append_all, caught_up, read_side, running_projector
from tests.toy import AccountOpened, Deposited

NAME = "account-balances"
app = typer.Typer()
for module in (cli_dead_letters, cli_operations, cli_projections, cli_replay, cli_verify, status_cli):
    module.register(app)
runner = CliRunner()


@pytest.fixture
async def side(store_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ReadSide]:
    monkeypatch.setenv("EVERFOLD_STORE_URL", store_url)
    monkeypatch.setenv("EVERFOLD_READ_URL", store_url)
    monkeypatch.setenv("EVERFOLD_DOMAINS", "toy")
    async with read_side(store_url) as opened:
        async with running_projector(opened):
            await append_all(opened.log, [("a", AccountOpened(owner="Ada")), ("a", Deposited(cents=5))])
            await caught_up(opened, await append(opened.log, "b", Deposited(cents=7)))
        yield opened


async def typed(*arguments: str) -> Result:
    return await asyncio.to_thread(runner.invoke, app, list(arguments))


async def said(*arguments: str) -> Any:
    result = await typed(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.strip().splitlines()[-1])


async def test_a_replay_is_carried_out_and_listed(side: ReadSide) -> None:
    dry = await said("replay", NAME, "--dry-run")
    assert [(one["projection"], one["events"]) for one in dry["plan"]] == [(NAME, 3)]
    assert (await side.generations.live())[NAME].generation == 1
    told = await typed("replay", "--all", "--verify", "--reason", "to see")
    assert told.exit_code == 0, told.output
    assert "no projector runs" in told.stderr
    assert "2 live rows equal their fold; swapped" in told.stderr
    (listed,) = (await said("operations", "list"))["items"]
    assert (listed["kind"], listed["state"], listed["reason"]) == ("replay", "done", "to see")
    shown = await typed("operations", "show", listed["id"])
    assert json.loads(shown.stdout)["id"] == listed["id"]
    ended = await typed("operations", "cancel", listed["id"])
    assert "done" in str(ended.exception)
    generations = (await said("projections", "list"))["items"]
    assert [(one["generation"], one["state"]) for one in generations] == [(1, "kept"), (2, "live")]
    back = await said("projections", "swap-back", NAME, "--reason", "to see")
    assert back["state"] == "done"
    assert (await said("projections", "drop", NAME, "--generation", "2"))["state"] == "done"


async def test_a_row_that_differs_is_shown_named_and_mended(side: ReadSide) -> None:
    await side.pool.execute("UPDATE everfold_account_balances_1.rows SET balance_cents = 1, doc = $1 "
                            "WHERE account_id = 'a'",
                            b'{"account_id":"a","stream":"accounts/a","version":2,"balance_cents":1}')  # fmt: skip
    shown = json.loads((await typed("projections", "show", NAME, "--key", "a")).stdout)
    assert (shown["equal"], shown["row"]["balance_cents"], shown["fold"]["balance_cents"]) == (False, 1, 5)
    assert [(one["type"], one["version"]) for one in shown["behind"]] == [
        ("AccountOpened", 1),
        ("Deposited", 2),
    ]
    verified = await typed("verify", "--projections", "--json")
    assert verified.exit_code == 1
    (report,) = json.loads(verified.stdout.strip().splitlines()[-1])["projections"]
    assert (report["equal"], report["first_difference"]["key"]) == (False, ["a"])
    refused = await typed("replay", NAME, "--verify")
    assert refused.exit_code == 1
    assert "NOT swapped" in refused.stderr
    assert (await said("replay", NAME, "--key", "a"))["state"] == "done"
    assert json.loads((await typed("projections", "show", NAME, "--key", "a")).stdout)["equal"]
    assert (await said("verify", "--projections"))["ok"]


async def test_an_earlier_time_has_a_schema_of_its_own(side: ReadSide) -> None:
    moment = await side.pool.fetchval("SELECT clock_timestamp()")
    await append(side.log, "b", Deposited(cents=1))
    told = await typed(
        "replay", NAME, "--as-of", moment.isoformat(), "--into", "past", "--throttle", "100000"
    )
    assert told.exit_code == 0, told.output
    assert "3 events folded into past" in told.stderr
    assert await side.pool.fetchval("SELECT sum(balance_cents) FROM past.rows") == 12


async def test_status_says_that_nobody_works(side: ReadSide) -> None:
    await append(side.log, "b", Deposited(cents=1))
    (projection,) = (await said("status"))["projections"]
    assert (projection["lag_events"], projection["state"]) == (1, "waiting")
    assert "none holds partition" in projection["waiting_for"]
    assert (await typed("status")).exit_code == 0
    assert (await said("projections", "pause", NAME))["state"] == "done"
    assert (await said("status"))["projections"][0]["state"] == "paused"
    assert (await said("dead-letters", "list")) == {"items": []}
    assert (await typed("dead-letters", "retry")).stdout.strip() == "nothing is parked"


async def test_what_cannot_be_is_refused_before_it_is_asked(side: ReadSide) -> None:
    for arguments, error in (
        (("replay",), MalformedRequest),
        (("replay", "no-such"), NotFound),
        (("replay", NAME, "--key", "a/b"), MalformedRequest),
        (("replay", NAME, "--as-of", "yesterday", "--into", "past"), MalformedRequest),
        (("replay", NAME, "--as-of", "2026-01-01T00:00:00Z"), MalformedRequest),
        (("projections", "show", NAME, "--key", "a", "--table", "none"), MalformedRequest),
        (("dead-letters", "skip", "7", "--reason", "no"), NotFound),
    ):
        result = await typed(*arguments)
        assert isinstance(result.exception, error), (arguments, result.output, result.exception)
    assert (await said("operations", "list"))["items"] == []
