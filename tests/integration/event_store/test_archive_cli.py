"""`everfold archive` as a person types it."""

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from event_store import archive_cli
from event_store.archive import Policy
from event_store.postgres import PostgresLog
from infra.cli import COULD_NOT_FIND_OUT, USED_WRONGLY, exit_status_of
from tests.contract.log.appends import append
from tests.services import PARTITIONS

app = typer.Typer()
app.callback()(lambda: None)
archive_cli.register(app)


@pytest.fixture
async def filled(monkeypatch: pytest.MonkeyPatch, small_ranges_url: str, tmp_path: Path) -> Path:
    """A log of two full ranges in partition 0, as the environment names it, and the folder of its archive."""
    folder = tmp_path / "archive"
    folder.mkdir()
    monkeypatch.setenv("EVERFOLD_STORE_URL", small_ranges_url)
    monkeypatch.setenv("EVERFOLD_PARTITIONS", str(PARTITIONS))
    monkeypatch.setenv("EVERFOLD_ARCHIVE_URL", folder.as_uri())
    async with PostgresLog({range(PARTITIONS): small_ranges_url}) as log:
        for version in range(0, 20, 5):
            await log.append_batch(0, [append("a/1", version, 5)])
            await log.keep_house(0, keys_kept=timedelta(days=1))
    return folder


async def run(*arguments: str) -> Any:
    return await asyncio.to_thread(CliRunner().invoke, app, ["archive", *arguments])


async def ranges(*arguments: str) -> Sequence[int]:
    said = await run(*arguments, "--json")
    assert said.exit_code == 0, said.output
    return [one["range"] for one in json.loads(said.stdout)["ranges"]]


def no_age_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what was recorded a moment ago be old."""
    monkeypatch.setattr(archive_cli, "Policy", partial(Policy, age_min=timedelta()))


async def test_a_dry_run_says_what_would_be_archived_and_does_nothing(
    monkeypatch: pytest.MonkeyPatch, filled: Path
) -> None:
    no_age_limit(monkeypatch)
    assert await ranges("--keep", "0", "--dry-run") == [0, 1]
    assert await ranges("--keep", "6", "--dry-run") == [0]
    assert await ranges("--older-than", "1d", "--dry-run") == []
    assert await ranges("--keep", "0", "--dry-run", "--partition", "3") == []
    assert list(filled.iterdir()) == []
    said = await run("--keep", "0", "--dry-run")
    assert "partition 0, range 1: positions 8 to 15 would be archived" in said.stdout


async def test_old_ranges_are_archived_once(monkeypatch: pytest.MonkeyPatch, filled: Path) -> None:
    assert await ranges("--keep", "0") == [], "they are too young for anybody's archive"
    no_age_limit(monkeypatch)
    assert await ranges("--keep", "0", "--reason", "disk") == [0, 1]
    assert len(list(filled.rglob("manifest"))) == 2
    assert await ranges("--keep", "0") == []


@pytest.mark.parametrize(
    "arguments",
    [[], ["--older-than", "soon"], ["--older-than", "90"], ["--keep", "0", "--partition", "8"]],
    ids=["nothing-is-old", "no-age", "no-unit", "no-partition"],
)
async def test_what_makes_no_sense_is_used_wrongly(filled: Path, arguments: list[str]) -> None:
    said = await run(*arguments)
    assert said.exception is not None
    assert exit_status_of(said.exception) == USED_WRONGLY


async def test_without_an_archive_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch, filled: Path) -> None:
    monkeypatch.delenv("EVERFOLD_ARCHIVE_URL")
    said = await run("--keep", "0")
    assert said.exception is not None
    assert "EVERFOLD_ARCHIVE_URL" in str(said.exception)
    assert exit_status_of(said.exception) == USED_WRONGLY


async def test_an_archive_that_is_away_could_not_be_found_out(
    monkeypatch: pytest.MonkeyPatch, filled: Path
) -> None:
    no_age_limit(monkeypatch)
    filled.rmdir()
    said = await run("--keep", "0")
    assert said.exception is not None
    assert exit_status_of(said.exception) == COULD_NOT_FIND_OUT
