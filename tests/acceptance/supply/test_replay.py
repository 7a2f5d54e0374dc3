"""Replay while writes and reads go on: no query fails, goes back, or shows a half-built table (F41, F42)."""

import asyncio

import orjson
import pytest

from infra.system import RunningSystem
from tests.load import Connection, Request, run_clients
from tests.system import caught_up, tool

pytestmark = pytest.mark.asyncio(loop_scope="session")  # where the system's supervisor runs

ITEMS = 20


@pytest.mark.timeout(240)
async def test_a_replay_of_everything_is_not_noticed_by_readers_or_writers(system: RunningSystem) -> None:
    port, token, mark = system.ports["command-api"], system.token(), "R"
    connection = Connection("127.0.0.1", port, token)
    await connection.request("POST", f"/v1/sites/{mark}/register", b'{"name":"Depot","time_zone":"UTC"}')
    commands = [
        {"command": "items.register", "id": {"item_id": f"{mark}-{item}"},
         "data": {"name": "Mask", "tracking": {"lot": False, "expiry": False}}}
        for item in range(ITEMS)
    ]  # fmt: skip
    answer = await connection.request("POST", "/v1/commands", orjson.dumps({"commands": commands}))
    assert {result["status"] for result in answer.json()["results"]} == {200}

    done = asyncio.Event()
    lowest: dict[str, int] = {}
    faults: list[str] = []

    def next_request(client: int, number: int) -> Request | None:
        if done.is_set():
            return None
        item = f"{mark}-{(client + number) % ITEMS}"
        return Request(f"/v1/stock/{mark}/{item}/receive", {"quantity": 1}, f"{mark}-{client}-{number}")

    async def read() -> None:
        reader = Connection("127.0.0.1", system.ports["query-api"], token)
        while not done.is_set():
            page = await reader.request("GET", f"/v1/stock-levels?site_id={mark}&limit=500")
            if page.status != 200:
                faults.append(f"{page.status}: {page.body[:200]!r}")
                continue
            seen = {level["item_id"]: level["on_hand"] for level in page.json()["items"]}
            for item, before in lowest.items():
                if seen.get(item, 0) < before:
                    faults.append(f"{item} went from {before} to {seen.get(item)}")
            lowest.update(seen)
            await asyncio.sleep(0.02)
        reader.close()

    writing = asyncio.create_task(
        run_clients(host="127.0.0.1", port=port, token=token, clients=4, next_request=next_request)
    )
    reading = asyncio.create_task(read())
    try:
        status, out, err = await tool(system, "replay", "--all", "--verify")
    finally:
        done.set()
    ledger = await writing
    await reading

    assert status == 0, out + err
    assert faults == []
    assert ledger.rejected == {}
    assert ledger.acknowledged
    await caught_up(system)
    assert sum(lowest.values()) <= len(ledger.acknowledged)
    connection.close()
