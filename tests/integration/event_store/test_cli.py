"""`migrate` and `history` as a person types them."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
import typer
from typer.testing import CliRunner

from event_store import cli
from event_store.log import Append, Check, NewEvent
from event_store.postgres import PostgresLog
from schemas.envelope import Metadata
from schemas.errors import NotFound
from tests.services import PARTITIONS

app = typer.Typer()
cli.register(app)
runner = CliRunner()


def at(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("EVERFOLD_STORE_URL", url)
    monkeypatch.setenv("EVERFOLD_PARTITIONS", str(PARTITIONS))
    monkeypatch.delenv("EVERFOLD_READ_URL", raising=False)
    monkeypatch.delenv("EVERFOLD_NAMESPACE", raising=False)


def test_migrate_checks_migrates_and_tells(monkeypatch: pytest.MonkeyPatch, database: str) -> None:
    at(monkeypatch, database)
    assert runner.invoke(app, ["migrate", "--check"]).exit_code == 1
    done = runner.invoke(app, ["migrate", "--reason", "first start"])
    assert (done.exit_code, "8 partitions made" in done.stdout) == (0, True)
    assert "postgres:" not in done.stdout, "no password"
    checked = runner.invoke(app, ["migrate", "--check", "--json"])
    assert (checked.exit_code, json.loads(checked.stdout)["databases"][0]["is_current"]) == (0, True)
    assert runner.invoke(app, ["migrate", "--to", "base"]).exit_code == 0
    assert runner.invoke(app, ["migrate", "--check"]).exit_code == 1


async def append_two(url: str) -> None:
    metadata = Metadata(
        "bob", ("clerk",), "items.register", datetime(2026, 1, 31, tzinfo=UTC), "c1", reason="new"
    )
    async with PostgresLog({range(PARTITIONS): url}) as log:
        partition = await log.partition_of("demo")
        events = [
            NewEvent(
                "items/I1",
                f"01890a5d-ac96-774b-bcce-b302099a805{n}",
                "ItemRegistered",
                1,
                b'{"name": "Gloves"}',
            )
            for n in range(2)
        ]
        await log.append_batch(
            partition, [Append("demo", "items/I1", [Check("items/I1", 0)], events, metadata.encode())]
        )


async def test_history_prints_a_stream_oldest_first(monkeypatch: pytest.MonkeyPatch, store_url: str) -> None:
    at(monkeypatch, store_url)
    await append_two(store_url)
    said = await asyncio.to_thread(runner.invoke, app, ["history", "items/I1", "--json"])
    items = json.loads(said.stdout)["items"]
    assert [(item["version"], item["event_id"][-1]) for item in items] == [(1, "0"), (2, "1")]
    assert items[0] | {"recorded_at": None} == {
        "event_id": "01890a5d-ac96-774b-bcce-b302099a8050", "type": "ItemRegistered", "schema_version": 1,
        "stream": "items/I1", "version": 1, "position": 1, "recorded_at": None, "occurred_at": "2026-01-31T00:00:00Z",
        "actor": "bob", "roles": ["clerk"], "reason": "new", "command": "items.register", "idempotency_key": None,
        "correlation_id": "c1", "causation_id": None, "data": {"name": "Gloves"},
    }  # fmt: skip
    table = await asyncio.to_thread(runner.invoke, app, ["history", "items/I1"])
    assert (table.exit_code, table.stdout.count("ItemRegistered v1")) == (0, 2)


async def test_history_tells_what_no_program_knows_as_it_is_stored(  # F39
    monkeypatch: pytest.MonkeyPatch, store_url: str
) -> None:
    at(monkeypatch, store_url)
    await append_two(store_url)
    metadata = Metadata("bob", (), "items.freeze", datetime(2026, 1, 31, tzinfo=UTC), "c1")
    async with PostgresLog({range(PARTITIONS): store_url}) as log:
        event_id = "01890a5d-ac96-774b-bcce-b302099a8059"
        unknown = NewEvent("items/I1", event_id, "ItemFrozen", 7, b'{"why": "asked for"}')
        append = Append("demo", "items/I1", [Check("items/I1", 2)], [unknown], metadata.encode())
        await log.append_batch(await log.partition_of("demo"), [append])
    said = await asyncio.to_thread(runner.invoke, app, ["history", "items/I1", "--json"])
    last = json.loads(said.stdout)["items"][-1]
    assert (last["type"], last["schema_version"], last["data"]) == ("ItemFrozen", 7, {"why": "asked for"})
    table = await asyncio.to_thread(runner.invoke, app, ["history", "items/I1"])
    assert (table.exit_code, table.stdout.count("ItemFrozen v7")) == (0, 1)


async def test_history_prints_the_part_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, store_url: str
) -> None:
    at(monkeypatch, store_url)
    await append_two(store_url)

    async def versions(*options: str) -> list[int]:
        said = await asyncio.to_thread(runner.invoke, app, ["history", "items/I1", "--json", *options])
        assert said.exit_code == 0, said.output
        return [item["version"] for item in json.loads(said.stdout)["items"]]

    assert await versions("--backwards") == [2, 1]
    assert await versions("--backwards", "--limit", "1") == [2]
    assert await versions("--from", "2") == [2]
    assert await versions("--to", "1") == [1]
    assert await versions("--since", "2026-01-01T00:00:00Z", "--until", "2100-01-01T00:00:00+01:00") == [1, 2]
    assert await versions("--since", "2100-01-01T00:00:00Z") == []
    assert await versions("--until", "2000-01-01T00:00:00Z") == []
    for time in ("2026-01-01T00:00:00", "yesterday"):
        said = await asyncio.to_thread(runner.invoke, app, ["history", "items/I1", "--since", time])
        assert (said.exit_code, "--since" in said.output) == (2, True)


async def test_the_history_of_a_stream_that_does_not_exist_is_not_found(
    monkeypatch: pytest.MonkeyPatch, store_url: str
) -> None:
    at(monkeypatch, store_url)
    await append_two(store_url)
    for arguments in (["items/I2"], ["items/I1", "--tenant", "other"], ["items/I2", "--from", "3"]):
        said = await asyncio.to_thread(runner.invoke, app, ["history", *arguments])
        assert isinstance(said.exception, NotFound)
