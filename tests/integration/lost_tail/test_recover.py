"""A log is restored from an older copy: nobody serves it before `everfold recover` has taken it up. # F57 F56"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
import typer
from typer.testing import CliRunner

from command_api.app import command_api
from event_store import recover_cli
from event_store.log_check import LogCheck
from event_store.migrate import migrate
from event_store.postgres import PostgresLog
from event_store.recovery import NotRecoverable, Recovery, recover
from event_store.relay_app import run_relay
from infra.auth import issue_development_token
from infra.cli import DOES_NOT_HOLD, USED_WRONGLY, exit_status_of
from infra.embedded.folders import ephemeral_folder, server_folder
from infra.embedded.ports import free_port
from infra.embedded.server import RunningServer
from infra.failpoints import FailpointReached, arm
from infra.settings import Settings
from projectors.app import run_projector
from projectors.read_side import open_read_side
from projectors.verify import verify_projections
from tests.integration.lost_tail.losing import NAMESPACE, SECONDS_MAX, Losable, System, system_over, until
from tests.services import PARTITIONS

pytestmark = pytest.mark.timeout(400)
app = typer.Typer()
recover_cli.register(app)
UNVERIFIED = "/problems/restored-unverified"


@pytest.fixture
def losable(postgres: RunningServer) -> Iterator[Losable]:
    """A migrated log on a server that can lose its end."""
    migrate(postgres.url, NAMESPACE, range(PARTITIONS))
    with ephemeral_folder() as folder:
        yield Losable(postgres, server_folder(folder, "other"))


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    """A folder outside the database."""
    folder = tmp_path / "heads"
    folder.mkdir()
    return folder


def guarded(system: System, heads: Path) -> System:
    return System(system.settings.model_copy(update={"heads": heads}))


async def export(system: System, heads: Path) -> None:
    """Do what a cron job does."""
    async with PostgresLog(system.settings.store_urls, NAMESPACE) as log:
        check = LogCheck.planned(system.settings, against=None, since=None, export=heads)
        await check.run(system.settings, log)
    assert check.exported is not None


@asynccontextmanager
async def commands(settings: Settings, role: str = "clerk") -> AsyncIterator[httpx2.AsyncClient]:
    """Run the command API as its process does."""
    token = issue_development_token(settings, tenant="acme", roles=[role], subject="ann")
    async with command_api(settings) as api:
        transport = httpx2.ASGITransport(app=api.edge)
        headers = {"authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://commands", headers=headers, timeout=30
        ) as http:
            yield http


@asynccontextmanager
async def role(settings: Settings, run: Any) -> AsyncIterator[str]:
    """Run a role with its health on a port, and yield the address."""
    port, stop = free_port(), asyncio.Event()
    task = asyncio.create_task(run(settings.model_copy(update={"health_port": port}), stop))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stop.set()
        await asyncio.wait_for(task, SECONDS_MAX)


async def readiness(http: httpx2.AsyncClient, url: str) -> tuple[int, str]:
    try:
        response = await http.get(f"{url}/readyz")
    except httpx2.TransportError:
        return 0, ""
    return response.status_code, response.json()["missing"].get("log", "")


async def typed(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, *arguments: str | Path
) -> tuple[int, dict[str, Any]]:
    """Type `everfold recover … --json`."""
    monkeypatch.setattr(
        recover_cli, "start_telemetry", lambda **_: None
    )  # logs would go to the runner's own output
    assert settings.store_url is not None
    monkeypatch.setenv("EVERFOLD_STORE_URL", settings.store_url.get_secret_value())
    monkeypatch.setenv("EVERFOLD_READ_URL", settings.read_url_or_store)
    monkeypatch.setenv("EVERFOLD_DATA_DIR", str(settings.data_dir))
    done = await asyncio.to_thread(CliRunner().invoke, app, [*map(str, arguments), "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return exit_status_of(done.exception) or -1, {"error": str(done.exception)}
    return done.exit_code, json.loads(done.stdout)


async def test_a_restored_log_is_served_only_once_it_was_recovered(  # F57
    losable: Losable, redis_url: str, tmp_path: Path, heads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = losable.server.url
    system = guarded(system_over(url, url, redis_url, tmp_path), heads)
    async with commands(system.settings) as http, system.projector(), system.queries() as reader:
        await http.post("/v1/accounts/A/open", json={"owner": "Ann"})
        await http.post("/v1/accounts/A/deposit", json={"cents": 100})
        await system.followed()
    await export(system, heads)
    await asyncio.to_thread(losable.copy)
    async with commands(system.settings) as http, system.projector(), system.queries() as reader:
        lost = await http.post("/v1/accounts/A/deposit", json={"cents": 7})
        await system.followed()
        assert await reader.balance() == 107
    await export(system, heads)
    await asyncio.to_thread(losable.restore_copy)

    settings, token = system.settings, lost.headers["everfold-position"]
    async with (
        httpx2.AsyncClient(timeout=10) as plain,
        commands(settings) as http,
        system.queries() as reader,
        role(settings, run_projector) as projector,
        role(settings, run_relay) as relay,
    ):
        refused = await http.post("/v1/accounts/A/deposit", json={"cents": 1})
        assert (refused.status_code, refused.json()["type"]) == (503, UNVERIFIED)
        assert refused.json()["finding"] == "cut-tail"
        assert "everfold recover" in refused.json()["title"]
        assert refused.headers["retry-after"]
        assert await reader.balance() == UNVERIFIED
        assert await reader.listed() == UNVERIFIED
        assert (await reader.http.get("/v1/history")).status_code in (403, 503)
        for client, address in ((http, ""), (reader.http, ""), (plain, projector), (plain, relay)):

            async def unverified(client: httpx2.AsyncClient = client, address: str = address) -> bool:
                status, said = await readiness(client, address)
                return status == 503 and said.startswith("restored-unverified: cut-tail: partition")

            await until(unverified)
        status = await system.status()
        assert status["projections"][0]["lag_events"] == 0, "and nobody has done anything"

        exit_status, report = await typed(monkeypatch, settings, "--against", heads, "--reason", "disk lost")
        assert exit_status == 0, report
        (one,) = report["lost"]
        assert (one["log_ends_at"], one["heads_ended_at"], one["position"]) == (2, 3, 3)
        assert (report["epoch"], len(list(heads.iterdir()))) == (1, 3)

        for client, address in ((http, ""), (reader.http, ""), (plain, projector), (plain, relay)):

            async def ready(client: httpx2.AsyncClient = client, address: str = address) -> bool:
                return (await readiness(client, address))[0] == 200

            await until(ready)
        assert await reader.balance() == 100
        taken = await http.post("/v1/accounts/A/deposit", json={"cents": 1})
        assert taken.status_code == 200
        assert await reader.balance("A", token) == "/problems/position-lost"

        async def right() -> bool:
            balance = await reader.balance()
            assert balance in (100, 101)
            return balance == 101

        await until(right)
    async with PostgresLog(settings.store_urls, NAMESPACE) as log:
        assert (await log.identity())[1] == 1
        check = LogCheck.planned(settings, against=heads, since=None, export=None)
        await check.run(settings, log)
        assert check.ok
    connection = await asyncpg.connect(url)
    row = await connection.fetchrow("SELECT reason, report FROM everfold.epochs")
    await connection.close()
    assert row is not None
    assert (row["reason"], json.loads(row["report"])["lost"][0]["position"]) == ("disk lost", 3)


async def test_what_ran_ahead_is_set_back_and_takes_up_what_the_log_has(  # F57
    losable: Losable, store_url: str, tmp_path: Path, heads: Path
) -> None:
    system = guarded(system_over(losable.server.url, store_url, None, tmp_path), heads)
    settings = system.settings
    async with commands(settings) as http, system.projector(), system.workflows():
        await http.post("/v1/accounts/K/open", json={"owner": "late"})
        await system.followed()
    await asyncio.to_thread(losable.copy)
    async with commands(settings) as http, system.projector(), system.workflows():
        for account in ("L", "M"):
            await http.post(f"/v1/accounts/{account}/open", json={"owner": "late"})
        await http.post("/v1/accounts/P/open", json={"owner": "polite"})
        await http.post("/v1/accounts/G/open", json={"owner": "gift"})
        await system.followed()
    await export(system, heads)
    await asyncio.to_thread(losable.restore_copy)
    async with open_read_side(settings, name="test") as side:
        skip = (
            "INSERT INTO everfold.skipped_events VALUES "
            "('projection', 'account-balances', $1, $2, 'rows', 'acme', '[\"L\"]', 'me', 'why')"
        )
        partition = await side.log.partition_of("acme")
        for position in (1, 2):
            await side.pool.execute(skip, partition, position)
        report = await recover(settings, side.log, side.pool, heads, reason=None, steps={})
        assert report["followers"]["forgotten"] == {"skipped_events": 1, "outgoing_messages": 1, "timers": 2}
        assert report["followers"]["set_back"] == [
            f"workflow concierge in partition {partition}: from 7 to 1"
        ]
        assert len(report["followers"]["rebuilt"]) == 1
        timers = await side.pool.fetch("SELECT key FROM everfold.scheduled_commands")
        assert [row["key"] for row in timers] == ["close/K"]
        await side.pool.execute("DELETE FROM everfold.skipped_events")
        async with commands(settings) as http, system.projector(), system.workflows():
            opened = await http.post("/v1/accounts/N/open", json={"owner": "gift"})
            assert opened.status_code == 200, opened.text
            await system.followed()
        assert [event.type for event in await side.log.read_range(partition, 1, 9)] == [
            "AccountOpened", "AccountOpened", "Deposited", "Withdrawn",
        ]  # fmt: skip
        assert [one.equal for one in await verify_projections(side)] == [True]


async def lose_one(losable: Losable, system: System, heads: Path) -> None:
    """Have a log that lacks a commit of the newest heads."""
    await asyncio.to_thread(losable.copy)
    async with commands(system.settings) as http:
        await http.post("/v1/accounts/A/open", json={"owner": "Ann"})
    await export(system, heads)
    await asyncio.to_thread(losable.restore_copy)


class Erasing:
    """A step as the personal data's would be: erases again what the files say."""

    claims: Sequence[str] = ("erasures-*.json",)

    def __init__(self) -> None:
        self.done: list[str] = []
        self.epochs: list[int] = []

    async def __call__(self, recovery: Recovery) -> Any:
        self.done += [file.name for file in sorted(recovery.folder.glob("erasures-*.json"))]
        self.epochs.append((await recovery.log.identity())[1])
        return {"erased": len(self.done)}


async def test_erasures_are_applied_again_before_the_epoch_is_opened_and_anything_served(  # F56
    losable: Losable, tmp_path: Path, heads: Path
) -> None:
    system = guarded(system_over(losable.server.url, losable.server.url, None, tmp_path), heads)
    await lose_one(losable, system, heads)
    (heads / "erasures-1.json").write_text("{}")
    async with open_read_side(system.settings, name="test") as side:
        arguments = (system.settings, side.log, side.pool, heads)
        with pytest.raises(NotRecoverable, match=r"erasures-1\.json"):
            await recover(*arguments, reason=None, steps={})
        erasing = Erasing()
        for name in ("verified", "steps", "set_back", "epoch"):
            arm(f"recover.{name}=raise")
            try:
                with pytest.raises(FailpointReached):
                    await recover(*arguments, reason=None, steps={"personal": erasing})
            finally:
                arm("")
            async with commands(system.settings) as http:
                refused = await http.post("/v1/accounts/B/open", json={"owner": "Ann"})
                assert refused.json()["type"] == UNVERIFIED, f"killed after {name}"
        report = await recover(*arguments, reason=None, steps={"personal": erasing})
        assert report["steps"] == {"personal": {"erased": len(erasing.done)}}
        assert erasing.epochs[0] == 0, "before any epoch was opened"
        async with commands(system.settings) as http:
            assert (await http.post("/v1/accounts/B/open", json={"owner": "Ann"})).status_code == 200


async def test_a_second_restore_to_before_the_recovery_is_noticed_though_the_log_has_every_head(
    losable: Losable, tmp_path: Path, heads: Path
) -> None:
    system = guarded(system_over(losable.server.url, losable.server.url, None, tmp_path), heads)
    await export(system, heads)
    await asyncio.to_thread(losable.copy)
    async with open_read_side(system.settings, name="test") as side:
        report = await recover(system.settings, side.log, side.pool, heads, reason=None, steps={})
        assert (report["epoch"], report["lost"]) == (1, [])
    await asyncio.to_thread(losable.restore_copy)
    async with commands(system.settings) as http:
        refused = await http.post("/v1/accounts/A/open", json={"owner": "Ann"})
        assert (refused.json()["type"], refused.json()["finding"]) == (UNVERIFIED, "lost-epoch")


async def test_heads_that_are_not_to_be_trusted_recover_nothing(
    losable: Losable, tmp_path: Path, heads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = guarded(system_over(losable.server.url, losable.server.url, None, tmp_path), heads)
    assert (await typed(monkeypatch, system.settings, "--against", tmp_path / "none"))[0] == USED_WRONGLY
    assert (await typed(monkeypatch, system.settings, "--against", heads))[0] == USED_WRONGLY, "no heads"
    await export(system, heads)
    (file,) = heads.iterdir()
    file.write_text(file.read_text().replace('"position":0', '"position":9'))
    status, printed = await typed(monkeypatch, system.settings, "--against", heads)
    assert (status, "forged-signature" in printed["error"]) == (DOES_NOT_HOLD, True)
    async with commands(system.settings) as http:
        refused = await http.post("/v1/accounts/A/open", json={"owner": "Ann"})
        assert (refused.json()["type"], refused.json()["finding"]) == (UNVERIFIED, "forged-signature")


async def test_a_folder_without_heads_holds_nobody_up_and_one_that_is_gone_holds_a_start(
    store_url: str, tmp_path: Path, heads: Path
) -> None:
    system = guarded(system_over(store_url, store_url, None, tmp_path), heads)
    async with commands(system.settings) as http:
        assert (await http.post("/v1/accounts/A/open", json={"owner": "Ann"})).status_code == 200
        assert (await http.get("/readyz")).status_code == 200
    heads.rmdir()
    async with commands(system.settings) as http:
        refused = await http.post("/v1/accounts/A/deposit", json={"cents": 1})
        assert (refused.status_code, refused.json()["finding"]) == (503, "unreadable")
