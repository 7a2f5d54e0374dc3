"""Live streams as WebSockets, and the tickets that browsers open streams with."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from infra.auth import issue_development_token
from tests.integration.query_api.live import served, stream
from tests.integration.query_api.readside import TENANT, ReadSideUnderTest


@pytest.fixture
async def url(side: ReadSideUnderTest) -> AsyncIterator[str]:
    """The API's address."""
    async with served(side.api) as url:
        yield url


@pytest.fixture
def token(side: ReadSideUnderTest) -> str:
    """Somebody's who may look."""
    return side.token(TENANT, ["viewer"])


def open_socket(url: str, token: str | None, more: str = "views=accounts") -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    address = f"{url.replace('http', 'ws')}/v1/live/ws?{more}"
    return connect(address, additional_headers=headers, proxy=None)


async def frames_until(socket: ClientConnection, event: str) -> list[Any]:
    found: list[Any] = []
    async with asyncio.timeout(20):
        while not found or found[-1]["event"] != event:
            found.append(orjson.loads(await socket.recv()))
    return found


async def ticket_of(url: str, token: str) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await client.post(f"{url}/v1/live/tickets", headers={"authorization": f"Bearer {token}"})


async def test_a_socket_carries_the_same_messages(side: ReadSideUnderTest, url: str, token: str) -> None:
    await side.open_account("A", 100)
    await side.apply()
    async with open_socket(url, token) as socket, stream(url, token) as told:
        frames = await frames_until(socket, "snapshot-end")
        messages = await told.until("snapshot-end")
        await side.deposit("A", 1)
        await side.apply()
        frames += await frames_until(socket, "change")
        messages += await told.until("change")
    assert frames == [{"event": m.event, "id": m.id, **m.data} for m in messages]


async def test_f48_one_transport_goes_on_where_the_other_was_cut(
    side: ReadSideUnderTest, url: str, token: str
) -> None:
    await side.open_account("A", 100)
    await side.apply()
    async with open_socket(url, token) as socket:
        mark = (await frames_until(socket, "snapshot-end"))[-1]["id"]
    await side.deposit("A", 1)
    await side.apply()
    async with stream(url, token, last_event_id=mark) as told:
        message = await told.next()
        assert (message.event, message.document["balance_cents"]) == ("change", 101)
    async with open_socket(url, token, f"views=accounts&after={message.id}") as socket:
        await side.deposit("A", 1)
        await side.apply()
        (frame,) = await frames_until(socket, "change")
        assert frame["document"]["balance_cents"] == 102


async def test_a_socket_that_is_refused_is_told_why(side: ReadSideUnderTest, url: str, token: str) -> None:
    for who, more, status in ((None, "views=accounts", 401), (token, "views=nothing", 422)):
        with pytest.raises(InvalidStatus) as refused:
            async with open_socket(url, who, more):
                pass
        assert refused.value.response.status_code == status
        assert refused.value.response.headers["content-type"] == "application/problem+json"
        assert orjson.loads(refused.value.response.body or b"")["status"] == status
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"{url.replace('http', 'ws')}/v1/accounts", proxy=None):
            pass
    assert refused.value.response.status_code == 405
    async with httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{url}/v1/live/ws")).status_code == 400


async def test_a_socket_is_closed_when_the_token_expires(
    side: ReadSideUnderTest, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.auth_claims.LEEWAY_SECONDS", 0)
    token = issue_development_token(side.settings, tenant=TENANT, roles=["viewer"], ttl_seconds=2)
    async with open_socket(url, token) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await frames_until(socket, "never")
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "the token has expired")


async def test_a_socket_is_closed_when_the_process_is_about_to_end(
    side: ReadSideUnderTest, url: str, token: str
) -> None:
    async with open_socket(url, token) as socket:
        await frames_until(socket, "snapshot-end")
        side.api.edge.drain()
        with pytest.raises(ConnectionClosed) as closed:
            await frames_until(socket, "never")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001


async def test_s39_a_socket_that_sends_too_much_is_closed(
    side: ReadSideUnderTest, url: str, token: str
) -> None:
    async with open_socket(url, token) as socket:
        await frames_until(socket, "snapshot-end")
        await socket.send(b"x" * 100_000)
        with pytest.raises(ConnectionClosed) as closed:
            await frames_until(socket, "never")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_what_the_client_says_is_not_looked_at(side: ReadSideUnderTest, url: str, token: str) -> None:
    await side.open_account("A")
    await side.apply()
    async with open_socket(url, token) as socket:
        await frames_until(socket, "snapshot-end")
        for number in range(100):
            await socket.send(f"hello {number}")
        await side.deposit("A")
        await side.apply()
        assert (await frames_until(socket, "change"))[-1]["key"] == "A"


async def test_a_ticket_opens_one_stream(side: ReadSideUnderTest, url: str, token: str) -> None:
    await side.open_account("A")
    await side.apply()
    for kind in ("sse", "socket"):
        response = await ticket_of(url, token)
        assert (response.status_code, response.json()["expires_in"]) == (201, 30)
        ticket = response.json()["ticket"]
        if kind == "sse":
            async with stream(url, None, f"/v1/live?views=accounts&ticket={ticket}") as told:
                assert (await told.next()).key == "A"
        else:
            async with open_socket(url, None, f"views=accounts&ticket={ticket}") as socket:
                await frames_until(socket, "snapshot-end")
        async with stream(url, None, f"/v1/live?views=accounts&ticket={ticket}") as again:
            assert again.response.status_code == 401


async def test_a_ticket_is_taken_once_however_many_try(side: ReadSideUnderTest, url: str, token: str) -> None:
    ticket = (await ticket_of(url, token)).json()["ticket"]

    async def attempt() -> int:
        async with stream(url, None, f"/v1/live?views=accounts&ticket={ticket}") as told:
            return told.response.status_code

    statuses = await asyncio.gather(*(attempt() for _ in range(10)))
    assert sorted(statuses) == [200] + [401] * 9


async def test_a_ticket_speaks_for_who_got_it_and_not_for_long(
    side: ReadSideUnderTest, url: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await side.open_account("THEIRS", tenant="other")
    await side.apply(tenant="other")
    ticket = (await ticket_of(url, side.token("other", ["viewer"]))).json()["ticket"]
    async with stream(url, None, f"/v1/live?views=accounts&ticket={ticket}") as told:
        assert (await told.next()).key == "THEIRS"
    ticket = (await ticket_of(url, token)).json()["ticket"]
    await side.pool.execute("UPDATE everfold.live_tickets SET expires_at = now() - interval '1 second'")
    async with stream(url, None, f"/v1/live?views=accounts&ticket={ticket}") as told:
        assert told.response.status_code == 401
    assert (await ticket_of(url, side.token(None, ["operator"]))).status_code == 403


async def test_tickets_that_nobody_takes_are_few_and_go(
    side: ReadSideUnderTest, url: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("query_api.live.tickets.TICKETS_MAX", 3)
    for _ in range(3):
        assert (await ticket_of(url, token)).status_code == 201
    assert (await ticket_of(url, token)).status_code == 429
    await side.pool.execute("UPDATE everfold.live_tickets SET expires_at = now() - interval '1 second'")
    assert (await ticket_of(url, token)).status_code == 201
    assert await side.pool.fetchval("SELECT count(*) FROM everfold.live_tickets") == 1
    kept = await side.pool.fetchval("SELECT principal FROM everfold.live_tickets")
    assert orjson.loads(kept)[0] == TENANT
