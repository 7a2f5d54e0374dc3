"""Kill -9 of every role under load: F01, F03, F25, F36, F43 as processes, seen from outside (I01, I02, I04, I10)."""

import asyncio

import pytest

from infra.system import RunningSystem
from tests.acceptance.checks import events_in_log, gaps_in_log, missing_and_doubled
from tests.acceptance.kills import kill
from tests.load import Connection, Request, run_clients
from tests.system import caught_up, facts

pytestmark = pytest.mark.asyncio(loop_scope="session")  # where the system's supervisor runs

CLIENTS = 32
COMMANDS_PER_CLIENT = 60
ITEMS = 8


async def register(system: RunningSystem, mark: str) -> None:
    connection = Connection("127.0.0.1", system.ports["command-api"], system.token())
    await connection.request("POST", f"/v1/sites/{mark}/register", b'{"name":"Depot","time_zone":"UTC"}')
    for item in range(ITEMS):
        body = b'{"name":"Gloves","tracking":{"lot":false,"expiry":false}}'
        answer = await connection.request("POST", f"/v1/items/{mark}-{item}/register", body)
        assert answer.status == 200, answer.body
    connection.close()


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
        host="127.0.0.1", port=system.ports["command-api"], token=system.token(), clients=CLIENTS,
        next_request=next_request,
    )  # fmt: skip
    await killing

    assert ledger.rejected == {}
    assert ledger.unknown == set()
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
    reader = Connection("127.0.0.1", system.ports["query-api"], system.token())
    levels = (await reader.request("GET", f"/v1/stock-levels?site_id={mark}&limit=500")).json()["items"]
    reader.close()
    assert sum(level["on_hand"] for level in levels) == len(ledger.acknowledged)
