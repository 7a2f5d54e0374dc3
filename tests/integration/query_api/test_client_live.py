"""The client's live streams: cut, refused for now, or told again, they go on by themselves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from client.http import Client, NotThere, RequestRefused, ServerAway
from client.live import Mirror, follow
from infra.embedded.ports import free_port
from tests.integration.query_api.live import served
from tests.integration.query_api.readside import TENANT, ReadSideUnderTest
from tests.toy import AccountView

SECONDS_MAX = 30.0


def client_of(side: ReadSideUnderTest, port: int, *, retry_seconds_max: float = 60.0) -> Client:
    url = f"http://127.0.0.1:{port}"
    token = side.token(TENANT, ["viewer"])

    async def fresh() -> str:
        return token

    return Client(command_url=url, query_url=url, token=fresh, retry_seconds_max=retry_seconds_max)


@asynccontextmanager
async def watched(client: Client, mirror: Mirror[AccountView], **filters: Any) -> AsyncIterator[list[str]]:
    """Keep a mirror up to date for a block, and yield the events that it is told of."""
    events: list[str] = []

    async def watch() -> None:
        async with aclosing(follow(client, {"accounts": AccountView}, **filters)) as messages:
            async for message in messages:
                mirror.take(message)
                events.append(message.event)

    watching = asyncio.create_task(watch())
    try:
        yield events
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def until_balances(mirror: Mirror[AccountView], wanted: dict[str, int]) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while {key: row.balance_cents for (_, key), row in mirror.documents.items()} != wanted:
            await asyncio.sleep(0.02)


async def test_f48_a_followed_view_goes_on_when_the_server_comes_back(side: ReadSideUnderTest) -> None:
    await side.open_account("A", 100)
    await side.open_account("B", 100)
    await side.apply()
    port, mirror = free_port(), Mirror[AccountView]()
    async with client_of(side, port) as client, watched(client, mirror) as events:
        async with served(side.api, port=port):
            await until_balances(mirror, {"A": 100, "B": 100})
            await side.deposit("A", 1)
            await side.apply()
            await until_balances(mirror, {"A": 101, "B": 100})
        await side.close("B")
        await side.deposit("A", 1)
        await side.apply()
        side.api.edge.draining = False
        async with served(side.api, port=port):
            await until_balances(mirror, {"A": 102})
    assert events == ["snapshot", "snapshot", "snapshot-end", "change", "change", "change"]


async def test_what_a_reset_says_is_told_again_is_forgotten(side: ReadSideUnderTest) -> None:
    await side.open_account("A", 100)
    await side.apply()
    port, mirror = free_port(), Mirror[AccountView]()
    async with (
        served(side.api, port=port),
        client_of(side, port) as client,
        watched(client, mirror) as events,
    ):
        await until_balances(mirror, {"A": 100})
        await side.open_account("B", 5)
        await side.open_generation(2)
        await side.apply(generation=2)
        await side.swap(2)
        await until_balances(mirror, {"A": 100, "B": 5})
    assert "reset" in events


async def test_what_will_never_be_is_not_tried_again(side: ReadSideUnderTest) -> None:
    port = free_port()
    async with served(side.api, port=port), client_of(side, port) as client:
        with pytest.raises(RequestRefused) as refused:
            await anext(follow(client, {"nothing": AccountView}))
        assert refused.value.http_status == 422
    async with client_of(side, free_port(), retry_seconds_max=0.5) as client:
        with pytest.raises(ServerAway):
            await anext(follow(client, {"accounts": AccountView}))


async def test_documents_and_lists_come_as_their_views(side: ReadSideUnderTest) -> None:
    for number in range(7):
        await side.open_account(f"A{number}", number)
    await side.apply()
    port = free_port()
    async with served(side.api, port=port), client_of(side, port) as client:
        found = await client.document(AccountView, "/v1/accounts/A3")
        assert (found.view.balance_cents, found.etag[0], found.position[:3]) == (3, '"', "p1.")
        with pytest.raises(NotThere):
            await client.document(AccountView, "/v1/accounts/NOBODY")
        listed = [row async for row in client.items(AccountView, "/v1/accounts", limit=2)]
        assert [row.account_id for row in listed] == [f"A{number}" for number in range(7)]
