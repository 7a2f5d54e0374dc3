"""Signed heads on the command line: what was cut off, rewritten, forged or of another log is told apart."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from event_store.connections import StoreConnection, connect
from event_store.migrate import migrate, migrate_all
from event_store.postgres import PostgresLog
from infra.cli import COULD_NOT_FIND_OUT, DOES_NOT_HOLD, USED_WRONGLY, exit_status_of
from projectors import cli_verify
from schemas.errors import BadDefinition
from tests.integration.event_store.tampering import cut_tail, fill, tamper
from tests.services import PARTITIONS

app = typer.Typer()
cli_verify.register(app)
runner = CliRunner()

Verify = Callable[..., Any]


@pytest.fixture
def verify(monkeypatch: pytest.MonkeyPatch, store_url: str, tmp_path: Path) -> Verify:
    """Type `everfold verify … --json` on the log, and return its exit status and what it printed."""
    monkeypatch.setenv("EVERFOLD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("EVERFOLD_PARTITIONS", str(PARTITIONS))
    monkeypatch.setenv("EVERFOLD_DOMAINS", "toy")
    monkeypatch.chdir(tmp_path)

    async def typed(*arguments: str | Path, url: str = store_url) -> tuple[int, dict[str, Any]]:
        monkeypatch.setenv("EVERFOLD_STORE_URL", url)
        done = await asyncio.to_thread(runner.invoke, app, [*map(str, arguments), "--json"])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            return exit_status_of(done.exception) or -1, {"error": str(done.exception)}
        assert done.stderr == "", "no bar beside JSON"
        return done.exit_code, json.loads(done.stdout)

    return typed


def findings(printed: dict[str, Any]) -> list[tuple[str, int | None, int | None]]:
    return [(one["finding"], one["partition"], one["position"]) for one in printed["heads"]["findings"]]


async def test_heads_of_a_sound_log_hold_also_when_it_has_grown(
    log: PostgresLog, verify: Verify, tmp_path: Path
) -> None:
    await fill(log, 1, 5, 40)
    heads = tmp_path / "heads.json"
    status, printed = await verify("--export-heads", heads)
    assert (status, printed["heads"]["exported"], printed["log"]["events"]) == (0, str(heads), 46)
    assert (await verify("--against", heads))[0] == 0
    await fill(log, 3, prefix="b")
    await fill(log, 2, partition=5)
    status, printed = await verify("--against", heads)
    assert (status, printed["ok"], printed["heads"]["ok"], printed["heads"]["findings"]) == (
        0,
        True,
        True,
        [],
    )


async def test_a_cut_tail_is_found_though_the_chain_holds(
    log: PostgresLog, admin: StoreConnection, verify: Verify, tmp_path: Path
) -> None:
    await fill(log, 1, 5, 40)
    await verify("--export-heads", tmp_path / "heads.json")
    await cut_tail(admin, 0, 6)
    status, printed = await verify("--against", tmp_path / "heads.json")
    assert (status, printed["log"]["ok"], printed["ok"]) == (DOES_NOT_HOLD, True, False)
    assert findings(printed) == [("cut-tail", 0, 7)]
    assert "40 positions are lost" in printed["heads"]["findings"][0]["said"]


async def test_a_tail_that_was_cut_and_grew_again_is_found(
    log: PostgresLog, admin: StoreConnection, verify: Verify, tmp_path: Path
) -> None:
    await fill(log, 1, 5, 40)
    await verify("--export-heads", tmp_path / "heads.json")
    await cut_tail(admin, 0, 6)
    await fill(log, 40, 9, prefix="ghost")
    status, printed = await verify("--against", tmp_path / "heads.json")
    assert (status, printed["log"]["ok"]) == (DOES_NOT_HOLD, True)
    assert findings(printed) == [("rewritten", 0, 46)]


async def test_a_bad_chain_is_not_vouched_for(
    log: PostgresLog, admin: StoreConnection, verify: Verify, tmp_path: Path
) -> None:
    await fill(log, 1, 5)
    await tamper(admin, "UPDATE everfold.events SET type = 'Other' WHERE position = 4")
    status, printed = await verify("--export-heads", tmp_path / "heads.json")
    assert (status, printed["log"]["first_bad"]["position"]) == (DOES_NOT_HOLD, 4)
    assert not (tmp_path / "heads.json").exists()


async def test_heads_of_another_log_are_told_from_lost_ones(
    log: PostgresLog, verify: Verify, tmp_path: Path, database: str
) -> None:
    await asyncio.to_thread(migrate, database, "everfold", range(PARTITIONS))
    async with PostgresLog({range(PARTITIONS): database}) as other:
        await fill(other, 3)
    await fill(log, 1)
    await verify("--export-heads", tmp_path / "heads.json", url=database)
    status, printed = await verify("--against", tmp_path / "heads.json")
    assert (status, findings(printed)) == (DOES_NOT_HOLD, [("foreign-log", None, None)])


async def test_a_forged_signature_and_a_wrong_key_are_two_findings(
    log: PostgresLog, verify: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(log, 2)
    heads = tmp_path / "heads.json"
    await verify("--export-heads", heads)
    forged = tmp_path / "forged.json"
    forged.write_text(heads.read_text().replace('"position":2', '"position":1'))
    status, printed = await verify("--against", forged)
    assert (status, findings(printed)) == (DOES_NOT_HOLD, [("forged-signature", None, None)])
    monkeypatch.setenv("EVERFOLD_HEADS_PUBLIC_KEYS", "A" * 43)
    status, printed = await verify("--against", heads)
    assert (status, findings(printed)) == (DOES_NOT_HOLD, [("unknown-key", None, None)])


async def test_a_series_is_kept_and_only_what_is_new_is_checked_again(
    log: PostgresLog, admin: StoreConnection, verify: Verify, tmp_path: Path
) -> None:
    series = tmp_path / "series"
    series.mkdir()
    await fill(log, 1, 5)
    await verify("--export-heads", series)
    await fill(log, 3, prefix="b")
    status, printed = await verify("--since", series, "--export-heads", series)
    assert (status, printed["log"]["events"], len(list(series.iterdir()))) == (0, 3, 2)
    await cut_tail(admin, 0, 6)
    for since in ((), ("--since", series)):
        status, printed = await verify(*since, "--export-heads", series)
        assert (status, len(list(series.iterdir()))) == (DOES_NOT_HOLD, 2), "a restore is not vouched for"
        assert findings(printed) == [("cut-tail", 0, 7)]


async def test_what_cannot_be_read_is_used_wrongly_and_a_store_that_is_away_is_no_answer(
    log: PostgresLog, verify: Verify, tmp_path: Path
) -> None:
    heads = tmp_path / "heads.json"
    await verify("--export-heads", heads)
    assert (await verify("--against", tmp_path / "none.json"))[0] == USED_WRONGLY
    assert (await verify("--against", tmp_path))[0] == USED_WRONGLY, "a folder without a series"
    heads.write_text("{}")
    assert (await verify("--against", heads))[0] == USED_WRONGLY
    assert (await verify("--export-heads", tmp_path / "no" / "such.json"))[0] == USED_WRONGLY
    away = "postgresql://nobody@127.0.0.1:1/nothing"
    assert (await verify("--export-heads", heads, url=away))[0] == COULD_NOT_FIND_OUT


async def test_the_servers_of_a_log_share_one_identity(store_url: str, database: str) -> None:
    urls = {range(4): database, range(4, 8): store_url}
    await asyncio.to_thread(migrate_all, urls, database, "shared")
    await asyncio.to_thread(migrate_all, urls, database, "shared")
    async with PostgresLog(urls, "shared") as log:
        log_id, epoch = await log.identity()
    assert (len(log_id), epoch) == (36, 0)


async def test_servers_of_different_logs_are_not_taken_for_one(
    store_url: str, database: str, postgres_url: str
) -> None:
    await asyncio.to_thread(migrate, database, "everfold", range(PARTITIONS))
    with pytest.raises(BadDefinition, match="different logs"):
        await asyncio.to_thread(migrate_all, {range(PARTITIONS): store_url}, database, "everfold")
    connection = await connect(database)
    assert await connection.fetchval("SELECT count(*) FROM everfold.log_identity") == 1
    await connection.close()
