"""Live streams of the running system: the how-to pages as they stand, and a client that outlives the query API."""

import asyncio
import os
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from client.http import Client
from client.live import Mirror, follow
from infra.roles import QUERY_API
from infra.system import RunningSystem
from schemas.supply.items import RegisterItem, Tracking
from schemas.supply.sites import RegisterSite
from schemas.supply.stock import ReceiveStock
from schemas.supply.views import StockLevel
from tests.acceptance import curl
from tests.acceptance.kills import kill
from tests.copy import ROOT
from tests.system import caught_up
from tests.typed import blocks_of

pytestmark = pytest.mark.asyncio(loop_scope="session")  # where the system's supervisor runs

ITEMS, ROUNDS = 5, 12
EXAMPLE_SECONDS_MAX = 90.0


def environment(system: RunningSystem) -> dict[str, str]:
    return {
        **os.environ,
        "COMMANDS": system.command_url,
        "QUERIES": system.query_url,
        "TOKEN": system.token(),
        "PYTHONPATH": str(ROOT),
    }


@pytest.mark.parametrize(
    ("page", "printed"), [("follow-live", "confirmed: 10\n"), ("call-from-python", "30\nunknown-site\n")]
)
async def test_the_example_of_a_page_works_as_it_stands(
    system: RunningSystem, page: str, printed: str
) -> None:
    (example,) = [text for kind, text in blocks_of(f"docs/how-to/{page}.md") if kind == "python"]
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", example],
        env=environment(system),
        capture_output=True,
        text=True,
        timeout=EXAMPLE_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed


async def test_the_lines_about_dashboards_and_exports_work_as_they_stand(system: RunningSystem) -> None:
    blocks = [text for kind, text in blocks_of("docs/how-to/dashboards-and-exports.md") if kind == "sh"]
    mine = f'curl() {{ "{sys.executable}" "{Path(curl.__file__)}" "$@"; }}\nset -e\n'
    for block in blocks:
        done = await asyncio.to_thread(
            subprocess.run,
            ["sh", "-c", mine + block],
            env=environment(system),
            capture_output=True,
            text=True,
            timeout=EXAMPLE_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(240)
async def test_f48_a_client_follows_through_kills_of_the_query_api(system: RunningSystem) -> None:
    site = f"LIVE{system.settings.broker_url.get_secret_value()[:3]}"
    async with Client(
        command_url=system.command_url, query_url=system.query_url, token=system.token()
    ) as client:
        await client.do(RegisterSite(site_id=site, name="Depot", time_zone="UTC"))
        for number in range(ITEMS):
            plain = Tracking(lot=False, expiry=False)
            await client.do(RegisterItem(item_id=f"{site}-{number}", name="Gloves", tracking=plain))
        mirror: Mirror[StockLevel] = Mirror()
        versions: dict[str, int] = {}

        async def watch() -> None:
            async with aclosing(follow(client, {"stock-levels": StockLevel}, site_id=site)) as messages:
                async for message in messages:
                    if message.event == "reset":
                        versions.clear()
                    if message.document is not None:
                        assert message.document.version > versions.get(message.key, 0)
                        versions[message.key] = message.document.version
                    mirror.take(message)

        watching = asyncio.create_task(watch())
        for number in range(ROUNDS):
            for item in range(ITEMS):
                await client.do(ReceiveStock(site_id=site, item_id=f"{site}-{item}", quantity=1))
            if number % 4 == 2:
                await kill(system, QUERY_API)
        async with asyncio.timeout(60):
            while {level.on_hand for level in mirror.documents.values()} != {ROUNDS}:
                if watching.done():
                    await watching
                await asyncio.sleep(0.05)
        watching.cancel()
        await caught_up(system)
        rows = [row async for row in client.items(StockLevel, "/v1/stock-levels", site_id=site)]
    assert sorted(mirror.documents.values(), key=lambda row: row.item_id) == rows
