"""Kill -9 of every role under load: F01, F03, F25, F36, F43 as processes, seen from outside (I01, I02, I04, I10)."""

import asyncio

import pytest

from infra.system import RunningSystem
from schemas.supply.items import RegisterItem, Tracking
from schemas.supply.sites import RegisterSite
from schemas.supply.views import StockLevel
from tests.acceptance.checks import events_in_log, gaps_in_log, missing_and_doubled
from tests.acceptance.kills import kill
from tests.load import Request, run_clients
from tests.system import caught_up, client_of, facts

pytestmark = pytest.mark.asyncio(loop_scope="session")  # where the system's supervisor runs

CLIENTS = 32
COMMANDS_PER_CLIENT = 60
ITEMS = 8


async def register(system: RunningSystem, mark: str) -> None:
    plain = Tracking(lot=False, expiry=False)
    async with client_of(system) as client:
        await client.do(RegisterSite(site_id=mark, name="Depot", time_zone="UTC"))
        for item in range(ITEMS):
            await client.do(RegisterItem(item_id=f"{mark}-{item}", name="Gloves", tracking=plain))


@pytest.mark.timeout(240)
async def test_no_role_that_is_killed_under_load_loses_or_doubles_a_command(system: RunningSystem) -> None:
    mark = f"K{system.settings.broker_url.get_secret_value()[:3]}"
    await register(system, mark)

    def next_request(client: int, number: int) -> Request | None:
        if number >= COMMANDS_PER_CLIENT and killing.done():
            return None
        item = (client + number) % ITEMS
        return Request(
            f"/v1/stock/{mark}/{mark}-{item}/receive", {"quantity": 1}, f"{mark}-{client}-{number}"
        )

    async def kill_each() -> None:
        for role in system.ports:
            await asyncio.sleep(0.5)
            await kill(system, role)

    killing = asyncio.create_task(kill_each())
    ledger = await run_clients(
        url=system.command_url, token=system.token(), clients=CLIENTS, next_request=next_request
    )  # fmt: skip
    await killing

    assert ledger.rejected == {}
    assert ledger.unknown == {}
    assert len(ledger.acknowledged) >= CLIENTS * COMMANDS_PER_CLIENT
    stored = await events_in_log(system)
    missing, doubled = missing_and_doubled(ledger.acknowledged.values(), stored)
    received = [event for event in stored if event.stream.startswith(f"stock/{mark}/")]
    assert (missing, doubled) == (set(), 0)
    assert len(received) == len(ledger.acknowledged)
    assert await gaps_in_log(system) == []
    await caught_up(system)
    status, proof = await facts(system, "verify")
    assert (status, proof["ok"]) == (0, True), proof
    async with client_of(system) as client:
        levels = [level async for level in client.items(StockLevel, "/v1/stock-levels", site_id=mark)]
    assert sum(level.on_hand for level in levels) == len(ledger.acknowledged)
