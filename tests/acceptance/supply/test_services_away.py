"""One service at a time goes away under use: what must go on goes on, and the rest says so and comes back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from infra.embedded.server import RunningServer
from infra.system import RunningSystem, running_system
from schemas.supply.items import RegisterItem, Tracking
from schemas.supply.sites import RegisterSite
from tests.system import caught_up, client_of, http_of, settings_for

BACK_SECONDS_MAX = 30.0


@pytest.fixture
async def exposed(
    tmp_path: Path, postgres: RunningServer, valkey: RunningServer, rabbitmq: RunningServer
) -> AsyncIterator[RunningSystem]:
    """A system whose services the test can stop and start."""
    settings = settings_for(
        tmp_path / "system", broker_url=rabbitmq.url, store_url=postgres.url, redis_url=valkey.url
    )
    async with running_system(settings) as running:
        yield running


async def receive(commands: httpx2.AsyncClient, key: str) -> httpx2.Response:
    return await commands.post(
        "/v1/stock/S/X/receive", json={"quantity": 1}, headers={"Idempotency-Key": key}
    )


async def on_hand(queries: httpx2.AsyncClient, position: str) -> int:
    fresh = {"Everfold-Position": position, "Prefer": "wait=30"}
    answer = await queries.get("/v1/stock-levels/S/X", headers=fresh)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["on_hand"])


@pytest.mark.timeout(240)
async def test_the_system_outlives_the_loss_of_each_service(
    exposed: RunningSystem, postgres: RunningServer, valkey: RunningServer, rabbitmq: RunningServer
) -> None:
    token = exposed.token()
    commands, queries = http_of(exposed.command_url, token), http_of(exposed.query_url, token)
    plain = Tracking(lot=False, expiry=False)
    async with client_of(exposed) as client:
        await client.do(RegisterSite(site_id="S", name="S", time_zone="UTC"))
        await client.do(RegisterItem(item_id="X", name="X", tracking=plain))
    first = await receive(commands, "1")
    assert first.status_code == 200, first.text
    assert await on_hand(queries, first.headers["everfold-position"]) == 1

    # RabbitMQ away: commands are accepted, and reads stay fresh by tailing the log.
    rabbitmq.stop()
    second = await receive(commands, "2")
    assert second.status_code == 200
    assert await on_hand(queries, second.headers["everfold-position"]) == 2
    rabbitmq.start()

    # Redis away: queries answer from PostgreSQL.
    valkey.stop()
    third = await receive(commands, "3")
    assert third.status_code == 200
    assert await on_hand(queries, third.headers["everfold-position"]) == 3
    valkey.start()

    # PostgreSQL away: a clear 503, nothing appended, and service resumes by itself.
    postgres.stop()
    away = await receive(commands, "4")
    assert (away.status_code, away.json()["type"]) == (503, "/problems/store-unavailable")
    assert float(away.headers["retry-after"]) > 0
    postgres.start()
    async with asyncio.timeout(BACK_SECONDS_MAX):
        while (back := await receive(commands, "4")).status_code != 200:
            assert back.status_code == 503, back.text
            await asyncio.sleep(0.2)
    assert await on_hand(queries, back.headers["everfold-position"]) == 4
    await caught_up(exposed)
    await commands.aclose()
    await queries.aclose()
