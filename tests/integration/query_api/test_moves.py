"""Answers about a tenant that moves to another partition: none is older than it says, or another's. Fault row F55."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from infra.auth import issue_development_token
from infra.documents import DocumentWriter
from infra.redis import RedisCache
from infra.settings import load_settings
from projectors.documents import DocumentQueue
from projectors.read_side import ReadSide
from query_api.app import QueryApi, query_api
from schemas.position import parse_position, position_of
from tests.integration.projectors.accounts import TENANT, append, read_side, running_projector
from tests.integration.projectors.test_moves import move
from tests.integration.query_api.live import served, stream
from tests.toy import AccountOpened, Deposited

FRESH = {"prefer": "wait=20"}


@dataclass
class Bank:
    """A log whose events a projector folds, and the query API over its rows."""

    side: ReadSide
    api: QueryApi
    client: Any
    token: str

    async def deposit(self, account: str, cents: int) -> str:
        """Deposit something; return the position token."""
        partition = await self.side.log.partition_of(TENANT)
        position = await append(self.side.log, account, Deposited(cents=cents))
        commit = await self.side.log.commit_of(partition, position)
        assert commit is not None
        return position_of(partition, position, commit.hash).token(TENANT)

    async def get(self, path: str, position: str | None = None, **headers: str) -> Any:
        """Ask, for what reflects a position if one is given."""
        fresh = FRESH | {"everfold-position": position} if position else {}
        return await self.client.get(f"/v1/{path}", headers=fresh | headers)

    async def balance(self, account: str, position: str | None = None) -> int:
        """Return what an account holds."""
        answer = await self.get(f"accounts/{account}", position)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["balance_cents"])


@asynccontextmanager
async def open_bank(store_url: str, redis_url: str, folder: Path, **more: Any) -> AsyncIterator[Bank]:
    """Run a projector that writes documents through, and the query API, in this process."""
    settings = load_settings(
        store_url=store_url,
        read_url=store_url,
        redis_url=redis_url,
        data_dir=folder,
        domains="toy",
        broker_url="log",
        **more,
    )
    token = issue_development_token(settings, tenant=TENANT, roles=["viewer", "auditor"])
    async with (
        read_side(store_url, **more) as side,
        RedisCache(redis_url, timeout_seconds=2) as redis,
        DocumentQueue(DocumentWriter(redis, settings.namespace)) as queue,
        running_projector(side, applied=queue.put),
        query_api(settings) as api,
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=api.edge), base_url="http://everfold.test", timeout=60,
            headers={"authorization": f"Bearer {token}"},
        ) as client,
    ):  # fmt: skip
        yield Bank(side, api, client, token)


@pytest.fixture
async def bank(store_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Bank]:
    async with open_bank(store_url, redis_url, tmp_path) as opened:
        yield opened


async def test_documents_and_lists_are_read_where_the_tenant_is(bank: Bank) -> None:  # F55
    await append(bank.side.log, "a", AccountOpened(owner="Ann"))
    before = await bank.deposit("a", 5)
    assert await bank.balance("a", before) == 5
    assert await bank.balance("a") == 5
    await bank.get("accounts", before)
    await move(bank.side)
    after = await bank.deposit("a", 7)
    assert await bank.balance("a", after) == 12
    assert await bank.balance("a", before) == 12, "a position of where it was is reflected by what is newer"
    assert [await bank.balance("a") for _ in range(3)] == [12] * 3
    page = (await bank.get("accounts", after)).json()
    assert [item["balance_cents"] for item in page["items"]] == [12]
    assert (await bank.get("accounts", before)).json() == page
    assert (await bank.get("accounts")).json() == page


async def test_what_a_reader_learned_before_the_move_is_not_served_for_long(bank: Bank) -> None:  # F55
    await append(bank.side.log, "a", AccountOpened(owner="Ann"))
    assert await bank.balance("a", await bank.deposit("a", 5)) == 5
    await move(bank.side)
    token = await bank.deposit("a", 7)
    async with asyncio.timeout(10):
        while await bank.balance("a") != 12:
            await asyncio.sleep(0.05)
    assert await bank.balance("a", token) == 12


async def test_the_past_is_read_over_both_partitions(bank: Bank) -> None:  # F55
    await append(bank.side.log, "a", AccountOpened(owner="Ann"))
    before = await bank.deposit("a", 5)
    await move(bank.side)
    middle = await bank.deposit("a", 7)
    await bank.deposit("a", 9)
    first, second = [await bank.get(f"accounts/a?as_of={token}") for token in (before, middle)]
    assert [one.json()["balance_cents"] for one in (first, second)] == [5, 12]
    assert [one.headers["everfold-position"] for one in (first, second)] == [before, middle]
    items: list[Any] = []
    path = "history?limit=2"
    for _ in range(10):
        answer = (await bank.get(path)).json()
        items += answer["items"]
        if answer["next"] is None:
            break
        path = f"history?limit=2&cursor={answer['next']}"
    assert [item["data"].get("cents") for item in items if item["type"] == "Deposited"] == [5, 7, 9]
    assert [item["type"] for item in items if "Tenant" in item["type"]] == ["TenantLeft", "TenantArrived"]


async def test_a_read_that_the_tables_know_better_than_the_log_is_asked_again(bank: Bank) -> None:  # F55
    """What the process knows of the move is older than the rows: it asks where the tenant has gone."""
    await append(bank.side.log, "b", AccountOpened(owner="Bob"))
    assert await bank.balance("a", await bank.deposit("a", 5)) == 5
    left, to = await move(bank.side)
    await bank.deposit("b", 1)
    async with asyncio.timeout(20):
        while to != await bank.side.pool.fetchval("SELECT partition FROM everfold.applied_by_tenant"):
            await asyncio.sleep(0.01)
    answer = await bank.get("accounts")
    assert (answer.status_code, len(answer.json()["items"])) == (200, 2)
    assert position_partition(answer.headers["everfold-position"]) == to != left


def position_partition(token: str) -> int:
    """Return the partition that a position names."""
    return parse_position(token, TENANT).partition


async def test_an_export_goes_on_where_the_tenant_is(bank: Bank) -> None:  # F55
    for number in range(3):
        await append(bank.side.log, f"a{number}", AccountOpened(owner="Ann"))
    before = await bank.deposit("a0", 5)
    await move(bank.side)
    await bank.deposit("a1", 7)
    answer = await bank.get("accounts", before, accept="text/csv")
    assert answer.status_code == 200
    assert len(answer.text.strip().splitlines()) == 4


async def test_a_live_stream_ends_and_begins_anew_where_the_tenant_is(bank: Bank) -> None:  # F55
    await append(bank.side.log, "a", AccountOpened(owner="Ann"))
    await bank.balance("a", await bank.deposit("a", 5))
    async with served(bank.api) as url:
        async with stream(url, bank.token) as told:
            await told.until("snapshot-end")
            await bank.deposit("a", 6)
            await told.change("a", balance_cents=11)
            await move(bank.side)
            await bank.deposit("a", 7)
            with pytest.raises(EOFError):
                await told.until("no such message")
            mark = told.mark
        path = f"/v1/live?views=accounts&after={mark}"
        async with stream(url, bank.token, path) as told:
            first = await told.until("snapshot-end")
            assert first[0].event == "reset"
            assert [one.document["balance_cents"] for one in first if one.event == "snapshot"] == [18]
            await bank.deposit("a", 1)
            await told.change("a", balance_cents=19)
            mark = told.mark
        await bank.deposit("a", 1)
        async with stream(url, bank.token, f"/v1/live?views=accounts&after={mark}") as told:
            assert (await told.change("a", balance_cents=20)).event == "change", "it goes on from its mark"
