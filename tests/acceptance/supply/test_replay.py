"""Replay while writes and reads go on: no query fails, goes back, or shows a half-built table (F41, F42)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import asyncpg
import orjson
import pytest

from event_store.topology import events_exchange_name
from infra.system import RunningSystem
from tests.load import Connection, Request, run_clients
from tests.system import caught_up, tool

pytestmark = pytest.mark.asyncio(loop_scope="session")  # where the system's supervisor runs

ITEMS = 20
PAUSE_SECONDS = 0.05
"""Of each writer, so that every step of a replay meets some writes, and the replay does not have to run after many."""
READ_SIDE = (
    "applied_by_tenant", "drift_checks", "generations", "lease_members", "leases", "operations", "operator_acts",
    "parked_events", "projections",
)  # fmt: skip
"""What a replay may write of the bookkeeping, besides the checkpoints of projections."""
HOUSEKEEPING = ("occurrences", "occurrences_filled", "snapshots", "forgotten_snapshots", "idempotency_keys")
"""What the roles tidy up by themselves, whether or not there is a replay."""


@pytest.mark.timeout(240)
async def test_a_replay_does_nothing_outside_the_read_tables(system: RunningSystem) -> None:  # F42
    mark = "F42"
    connection = Connection("127.0.0.1", system.ports["command-api"], system.token())
    await connection.request("POST", f"/v1/sites/{mark}/register", b'{"name":"Depot","time_zone":"UTC"}')
    lot = {"lot": False, "expiry": False}
    for item, path, body in (
        (mark, f"items/{mark}/register", {"name": "Mask", "tracking": lot}),
        (mark, f"stock/{mark}/{mark}/receive", {"quantity": 9}),
        (mark, f"orders/{mark}/place", {"customer_id": "C", "site_id": mark, "lines": [
            {"line_no": 1, "item_id": mark, "quantity": 2, "unit_price": {"amount": 5, "currency": "EUR"}}]}),
    ):  # fmt: skip
        answer = await connection.request("POST", f"/v1/{path}", orjson.dumps(body))
        assert answer.status == 200, (item, answer.body)
    connection.close()
    await caught_up(system)
    before = await _still(system)
    assert before["workflow and relay checkpoints"]
    async with _outside(system) as messages:
        status, out, err = await tool(system, "replay", "--all", "--verify")
        assert status == 0, out + err
        await caught_up(system)
        assert await _still(system) == before
        assert await messages() == 0


async def _still(system: RunningSystem) -> dict[str, str | None]:
    """Return what all tables but those of the read side hold, once nothing changes any more."""
    seen: dict[str, str | None] = {}
    async with asyncio.timeout(60):
        while (now := await _tables(system)) != seen:
            seen = now
            await asyncio.sleep(1)
    return seen


async def _tables(system: RunningSystem) -> dict[str, str | None]:
    namespace = system.settings.namespace
    connection = await asyncpg.connect(next(iter(system.settings.store_urls.values())))
    try:
        names = await connection.fetch(
            "SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = $1::text::regnamespace "
            "AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> ALL ($2::text[])",
            namespace,
            ["checkpoints", *READ_SIDE, *HOUSEKEEPING],
        )
        found = {
            row[0]: await connection.fetchval(
                f"SELECT md5(string_agg(t::text, '/' ORDER BY t::text)) FROM {namespace}.{row[0]} AS t"
            )
            for row in names
        }
        found["workflow and relay checkpoints"] = await connection.fetchval(
            "SELECT string_agg(concat_ws(':', kind, consumer, partition, position), ' ' "
            f"ORDER BY kind, consumer, partition) FROM {namespace}.checkpoints WHERE kind IN ('workflow', 'relay')"
        )
    finally:
        await connection.close()
    return found


@asynccontextmanager
async def _outside(system: RunningSystem) -> AsyncIterator[Any]:
    """Count what other programs are told meanwhile."""
    url = system.settings.broker_url.get_secret_value()
    if url == "log":

        async def nobody() -> int:
            return 0

        yield nobody
        return
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(events_exchange_name(system.settings.namespace), "#")

        async def told() -> int:
            return (
                await channel.declare_queue(queue.name, passive=True)
            ).declaration_result.message_count or 0

        yield told


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
        run_clients(
            host="127.0.0.1",
            port=port,
            token=token,
            clients=4,
            next_request=next_request,
            pause_seconds=PAUSE_SECONDS,
        )
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
