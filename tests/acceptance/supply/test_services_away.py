"""One service at a time goes away under use: what must go on goes on, and the rest says so and comes back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.embedded.server import RunningServer
from infra.system import RunningSystem, running_system
from tests.load import Connection, Response
from tests.system import caught_up, settings_for

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


async def receive(commands: Connection, key: str) -> Response:
    return await commands.request(
        "POST", "/v1/stock/S/X/receive", b'{"quantity":1}', {"Idempotency-Key": key}
    )


async def on_hand(queries: Connection, position: str) -> int:
    answer = await queries.request(
        "GET", "/v1/stock-levels/S/X", headers={"Everfold-Position": position, "Prefer": "wait=30"}
    )
    assert answer.status == 200, answer.body
    return int(answer.json()["on_hand"])


@pytest.mark.timeout(240)
async def test_the_system_outlives_the_loss_of_each_service(
    exposed: RunningSystem, postgres: RunningServer, valkey: RunningServer, rabbitmq: RunningServer
) -> None:
    token = exposed.token()
    commands = Connection("127.0.0.1", exposed.ports["command-api"], token)
    queries = Connection("127.0.0.1", exposed.ports["query-api"], token)
    await commands.request("POST", "/v1/sites/S/register", b'{"name":"S","time_zone":"UTC"}')
    await commands.request(
        "POST", "/v1/items/X/register", b'{"name":"X","tracking":{"lot":false,"expiry":false}}'
    )
    first = await receive(commands, "1")
    assert first.status == 200, first.body
    assert await on_hand(queries, first.headers["everfold-position"]) == 1

    # RabbitMQ away: commands are accepted, and reads stay fresh by tailing the log.
    rabbitmq.stop()
    second = await receive(commands, "2")
    assert second.status == 200
    assert await on_hand(queries, second.headers["everfold-position"]) == 2
    rabbitmq.start()

    # Redis away: queries answer from PostgreSQL.
    valkey.stop()
    third = await receive(commands, "3")
    assert third.status == 200
    assert await on_hand(queries, third.headers["everfold-position"]) == 3
    valkey.start()

    # PostgreSQL away: a clear 503, nothing appended, and service resumes by itself.
    postgres.stop()
    away = await receive(commands, "4")
    assert (away.status, away.json()["type"]) == (503, "/problems/store-unavailable")
    assert float(away.headers["retry-after"]) > 0
    postgres.start()
    async with asyncio.timeout(BACK_SECONDS_MAX):
        while (back := await receive(commands, "4")).status != 200:
            assert back.status == 503, back.body
            await asyncio.sleep(0.2)
    assert await on_hand(queries, back.headers["everfold-position"]) == 4
    await caught_up(exposed)
    commands.close()
    queries.close()
