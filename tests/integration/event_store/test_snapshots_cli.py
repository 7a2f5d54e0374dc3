"""`everfold snapshots` as a person types it."""

import asyncio
import json

import pytest
import typer
from typer.testing import CliRunner

from event_store import snapshots_cli
from event_store.log import Snapshot
from event_store.postgres import PostgresLog
from tests.contract.log.appends import append
from tests.services import PARTITIONS

app = typer.Typer()
snapshots_cli.register(app)
runner = CliRunner()


async def save(url: str) -> None:
    async with PostgresLog({range(PARTITIONS): url}) as log:
        for tenant in ("acme", "beta"):
            outcomes = await log.append_batch(1, [append(f"{kind}/1", 0, tenant=tenant) for kind in "ab"])
            states = [
                Snapshot(tenant, outcome.stream, bytes(16), 3, 1, outcome.commit, b"[1]")
                for outcome in outcomes
            ]
            assert await log.save_states(1, states) == 2


async def test_saved_states_are_listed_and_dropped(monkeypatch: pytest.MonkeyPatch, store_url: str) -> None:
    monkeypatch.setenv("EVERFOLD_STORE_URL", store_url)
    monkeypatch.setenv("EVERFOLD_PARTITIONS", str(PARTITIONS))
    monkeypatch.delenv("EVERFOLD_READ_URL", raising=False)
    monkeypatch.delenv("EVERFOLD_NAMESPACE", raising=False)
    await save(store_url)

    async def said(*arguments: str) -> str:
        result = await asyncio.to_thread(runner.invoke, app, ["snapshots", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    items = json.loads(await said("list", "--json"))["items"]
    assert [(item["tenant"], item["stream"]) for item in items] == [
        ("acme", "a/1"), ("acme", "b/1"), ("beta", "a/1"), ("beta", "b/1"),
    ]  # fmt: skip
    assert items[0] | {"written_at": None} == {
        "partition": 1, "tenant": "acme", "stream": "a/1", "version": 1, "decider_version": 3, "position": 2,
        "bytes": 3, "written_at": None, "usable": True,
    }  # fmt: skip
    assert len(json.loads(await said("list", "--tenant", "beta", "--limit", "1", "--json"))["items"]) == 1
    assert "b/1" in await said("list", "--prefix", "b/")
    assert json.loads(await said("drop", "--tenant", "acme", "--prefix", "a", "--json")) == {"dropped": 1}
    assert await said("drop") == "3 saved states dropped\n"
    assert json.loads(await said("list", "--json")) == {"items": []}
