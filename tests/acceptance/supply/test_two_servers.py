"""
The log on two PostgreSQL servers, by range of partitions, with the read tables in a third database.

What holds on one server holds on two; and with one of them away the other's partitions serve on.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psycopg
import pytest
from pydantic import SecretStr

from event_store.placement import home_of
from event_store.postgres import PostgresLog
from infra.embedded.folders import ephemeral_folder, server_folder
from infra.embedded.ports import free_port
from infra.embedded.postgres import PostgresServer
from infra.embedded.server import RunningServer, running
from infra.settings import Settings
from infra.system import RunningSystem
from tests.queues import tidy_system
from tests.system import caught_up, facts, http_of, settings_for, tool

PARTITIONS = 8
BACK_SECONDS_MAX = 40.0
HERE, THERE = range(4), range(4, 8)


@dataclass(frozen=True)
class Pair:
    """Two servers: `near` has the lower partitions and the read tables, `far` the higher partitions."""

    near: RunningServer
    far: RunningServer

    @property
    def store_url(self) -> str:
        """The log, as `EVERFOLD_STORE_URL` names it."""
        return f"0-3={self.near.url},4-7={self.far.url}"

    @property
    def read_url(self) -> str:
        """The read tables, in a database without partitions."""
        assert isinstance(self.near.server, PostgresServer)
        return self.near.server.url_of("readside")


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two durable servers of the test's own."""
    with ephemeral_folder() as folder:
        servers = [
            PostgresServer(server_folder(folder, name), free_port(), database="everfold")
            for name in ("near", "far")
        ]
        with running(servers[0]) as near, running(servers[1]) as far:
            with psycopg.connect(near.url, autocommit=True) as connection:
                connection.execute("CREATE DATABASE readside")
            yield Pair(near, far)


def settings_of(pair: Pair, folder: Path, broker_url: str = "log") -> Settings:
    return settings_for(
        folder,
        broker_url=broker_url,
        partitions=PARTITIONS,
        store_url=SecretStr(pair.store_url),
        read_url=SecretStr(pair.read_url),
    )


@pytest.fixture(params=["log", "rabbitmq"])
async def spread(request: pytest.FixtureRequest, pair: Pair, tmp_path: Path) -> AsyncIterator[RunningSystem]:
    """A running system on both servers, once tailing the log and once through RabbitMQ."""
    broker_url = "log" if request.param == "log" else request.getfixturevalue("broker_url")
    async with tidy_system(settings_of(pair, tmp_path / "system", broker_url)) as system:
        yield system


def tenant_in(partitions: range) -> str:
    """Return a tenant that lives in one of some partitions by the hash of its name."""
    names = (f"hospital-{number}" for number in range(1_000))
    return next(name for name in names if home_of(name, range(PARTITIONS)) in partitions)


class Shop:
    """One tenant's way to both APIs."""

    def __init__(self, system: RunningSystem, tenant: str) -> None:
        token = system.token(tenant)
        self.tenant = tenant
        self.commands = http_of(system.command_url, token)
        self.queries = http_of(system.query_url, token)
        self.position = ""

    async def send(self, path: str, body: bytes, key: str) -> httpx2.Response:
        answer = await self.commands.post(f"/v1/{path}", content=body, headers={"Idempotency-Key": key})
        self.position = answer.headers.get("everfold-position", self.position)
        return answer

    async def open(self) -> None:
        for path, body in (
            ("sites/S/register", b'{"name":"S","time_zone":"UTC"}'),
            ("items/X/register", b'{"name":"X","tracking":{"lot":false,"expiry":false}}'),
        ):
            answer = await self.send(path, body, path)
            assert answer.status_code == 200, answer.text

    async def receive(self, key: str) -> httpx2.Response:
        return await self.send("stock/S/X/receive", b'{"quantity":1}', key)

    async def read(self, path: str) -> httpx2.Response:
        fresh = {"Everfold-Position": self.position, "Prefer": "wait=30"}
        return await self.queries.get(f"/v1/{path}", headers=fresh)

    async def on_hand(self) -> int:
        answer = await self.read("stock-levels/S/X")
        assert answer.status_code == 200, answer.text
        return int(answer.json()["on_hand"])

    async def order(self, order: str) -> None:
        """Place an order, and wait until the fulfilment workflow has confirmed it."""
        line = b'{"item_id":"X","quantity":1,"line_no":1,"unit_price":{"amount":1,"currency":"EUR"}}'
        body = b'{"customer_id":"C","site_id":"S","lines":[' + line + b"]}"
        placed = await self.send(f"orders/{order}/place", body, f"place-{order}")
        assert placed.status_code == 200, placed.text
        async with asyncio.timeout(BACK_SECONDS_MAX):
            while (await self.read(f"orders/{order}")).json()["status"] != "confirmed":
                await asyncio.sleep(0.1)

    async def close(self) -> None:
        await self.commands.aclose()
        await self.queries.aclose()


async def open_shops(system: RunningSystem, tenants: Sequence[str]) -> list[Shop]:
    shops = [Shop(system, tenant) for tenant in tenants]
    for shop in shops:
        await shop.open()
        assert (await shop.receive("first")).status_code == 200
        assert await shop.on_hand() == 1
    return shops


@pytest.mark.timeout(300)
async def test_what_holds_on_one_server_holds_on_two(spread: RunningSystem) -> None:
    near, far = await open_shops(spread, [tenant_in(HERE), tenant_in(THERE)])
    for shop in (near, far):
        await shop.order("PO-1")
        assert (await shop.read("history?stream=orders/PO-1")).json()["items"]
    await caught_up(spread)

    status, migrated = await facts(spread, "migrate", "--check")
    assert (status, [one["is_current"] for one in migrated["databases"]]) == (0, [True, True, True])
    _, shown = await facts(spread, "status")
    heads = {one["partition"]: one["head"] for one in shown["partitions"]}
    assert set(heads) == set(range(PARTITIONS))
    assert heads[home_of(near.tenant, range(PARTITIONS))] > 0
    assert heads[home_of(far.tenant, range(PARTITIONS))] > 0
    status, proof = await facts(spread, "verify")
    assert (status, proof["ok"], proof["events"]) == (0, True, sum(heads.values())), proof
    status, _, said = await tool(spread, "replay", "--all", "--verify")
    assert status == 0, said
    assert await far.on_hand() == 1
    for shop in (near, far):
        await shop.close()


@pytest.mark.timeout(300)
async def test_with_one_server_away_the_others_partitions_serve_on(spread: RunningSystem, pair: Pair) -> None:
    near, far = await open_shops(spread, [tenant_in(HERE), tenant_in(THERE)])
    await caught_up(spread)
    pair.far.stop()

    lost = await far.receive("second")
    assert (lost.status_code, lost.json()["type"]) == (503, "/problems/store-unavailable")
    assert float(lost.headers["retry-after"]) > 0
    assert (await near.receive("second")).status_code == 200
    assert await near.on_hand() == 2
    await near.order("PO-1")
    document = await far.queries.get("/v1/stock-levels/S/X")
    assert (document.status_code, document.json()["on_hand"]) == (200, 1), "its read tables stand elsewhere"
    assert (await near.queries.get("/readyz")).status_code == 200
    assert (await near.commands.get("/readyz")).status_code == 200
    status, shown = await facts(spread, "status")
    away = [one["partition"] for one in shown["partitions"] if one["head"] is None]
    assert (status, away) == (0, list(THERE))
    status, _, said = await tool(spread, "verify")
    assert (status, "event store does not answer" in said) == (3, True), said

    # A process that starts meanwhile works for the partitions that there are.
    for role in ("command-api", "workflow", "projector", "query-api"):
        await spread.stop_role(role)
        await spread.start_role(role)
    document = await far.queries.get("/v1/stock-levels/S/X")
    assert (document.status_code, document.json()["on_hand"]) == (200, 1), document.text
    assert (await near.receive("third")).status_code == 200
    await near.order("PO-2")
    assert await near.on_hand() == 3

    pair.far.start()
    async with asyncio.timeout(BACK_SECONDS_MAX):
        while (back := await far.receive("second")).status_code != 200:
            assert back.status_code == 503, back.text
            await asyncio.sleep(0.2)
    assert await far.on_hand() == 2
    await far.order("PO-1")
    await caught_up(spread)
    status, proof = await facts(spread, "verify")
    assert (status, proof["ok"]) == (0, True), proof
    for shop in (near, far):
        await shop.close()


@pytest.mark.timeout(120)
async def test_a_tenant_that_is_placed_on_the_other_server_is_found_there(pair: Pair, tmp_path: Path) -> None:
    settings = settings_of(pair, tmp_path / "system")
    tenant = tenant_in(HERE)
    async with tidy_system(settings) as system:
        async with PostgresLog(settings.store_urls, settings.namespace) as log:
            await log.place_tenant(tenant, 6)
        (shop,) = await open_shops(system, [tenant])
        await shop.order("PO-1")
        async with PostgresLog(settings.store_urls, settings.namespace) as log:
            assert (await log.heads())[6].position > 0
            assert (await log.heads())[home_of(tenant, log.partitions)].position == 0
        await shop.close()
