"""What a connection may cost: one that sends too slowly is closed, whatever it has sent."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from infra import serving
from infra.edge import Edge
from infra.http import Reply, Request, Router
from infra.json_body import read_body
from infra.serving import server_of


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A server whose patience is short."""
    for name in ("HEAD_SECONDS_MAX", "BODY_SECONDS_MAX"):
        monkeypatch.setattr(serving, name, 0.3)
    monkeypatch.setattr(serving, "WATCH_SECONDS", 0.05)

    async def take(request: Request) -> Reply:
        return Reply(200, await read_body(request))

    async def slow(_request: Request) -> Reply:
        await asyncio.sleep(1)
        return Reply(200, b"late")

    router = Router()
    router.add("POST", "/take", take)
    router.add("GET", "/slow", slow)
    server = server_of(Edge(router), host="127.0.0.1", port=0)
    serving_task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving_task


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /take HTTP/1.1\r\nHost: x\r\n",
        b"POST /take HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{",
    ],
    ids=["nothing", "half a head", "half a body"],
)
async def test_a_connection_that_sends_too_slowly_is_closed(port: int, sent: bytes) -> None:  # S36
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()


async def test_an_answer_may_take_its_time(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"late" in await asyncio.wait_for(reader.read(), 10)
    writer.close()
