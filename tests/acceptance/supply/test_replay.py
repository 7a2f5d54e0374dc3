"""Replay while writes and reads go on: no query fails, goes back, or shows a half-built table (F41, F42)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import asyncpg
import pytest

from client.http import Command
from event_store.topology import events_exchange_name
from infra.system import RunningSystem
from schemas.messages import Money
from schemas.supply.items import RegisterItem, Tracking
from schemas.supply.orders import LineToPlace, PlaceOrder
from schemas.supply.sites import RegisterSite
from schemas.supply.stock import ReceiveStock
from tests.load import Request, run_clients
from tests.system import caught_up, client_of, http_of, tool

pytestmark = pytest.mark.asyncio(loop_scope="session")  # where the system's supervisor runs

ITEMS = 20
PLAIN = Tracking(lot=False, expiry=False)
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
    line = LineToPlace(line_no=1, item_id=mark, quantity=2, unit_price=Money(amount=5, currency="EUR"))
    async with client_of(system) as client:
        await client.do(RegisterSite(site_id=mark, name="Depot", time_zone="UTC"))
        await client.do(RegisterItem(item_id=mark, name="Mask", tracking=PLAIN))
        await client.do(ReceiveStock(site_id=mark, item_id=mark, quantity=9))
        await client.do(PlaceOrder(order_id=mark, customer_id="C", site_id=mark, lines=(line,)))
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
    mark = "R"
    items = [RegisterItem(item_id=f"{mark}-{item}", name="Mask", tracking=PLAIN) for item in range(ITEMS)]
    async with client_of(system) as client:
        await client.do(RegisterSite(site_id=mark, name="Depot", time_zone="UTC"))
        results = await client.send([Command.of(item) for item in items])
    assert {result.status for result in results} == {200}

    done = asyncio.Event()
    lowest: dict[str, int] = {}
    faults: list[str] = []

    def next_request(client: int, number: int) -> Request | None:
        if done.is_set():
            return None
        item = f"{mark}-{(client + number) % ITEMS}"
        return Request(f"/v1/stock/{mark}/{item}/receive", {"quantity": 1}, f"{mark}-{client}-{number}")

    async def read() -> None:
        async with http_of(system.query_url, system.token()) as reader:
            while not done.is_set():
                page = await reader.get(f"/v1/stock-levels?site_id={mark}&limit=500")
                if page.status_code != 200:
                    faults.append(f"{page.status_code}: {page.text[:200]}")
                    continue
                seen = {level["item_id"]: level["on_hand"] for level in page.json()["items"]}
                for item, before in lowest.items():
                    if seen.get(item, 0) < before:
                        faults.append(f"{item} went from {before} to {seen.get(item)}")
                lowest.update(seen)
                await asyncio.sleep(0.02)

    writing = asyncio.create_task(
        run_clients(
            url=system.command_url,
            token=system.token(),
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
