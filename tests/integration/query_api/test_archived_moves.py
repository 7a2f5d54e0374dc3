"""What a tenant did in a partition that it has left is archived: readers are answered as before. # F54 F55"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from event_store.object_store import DirectoryStore
from event_store.postgres import PostgresLog
from query_api.differences import Instant, difference
from tests.archives import archive
from tests.integration.projectors.accounts import TENANT, append, balances
from tests.integration.projectors.test_moves import a_neighbour, all_equal, move, new_build
from tests.integration.query_api.test_moves import Bank, open_bank
from tests.services import SMALL_RANGE_EVENTS
from tests.toy import AccountOpened, Deposited
from tests.toy.queries import GetAccount

ACCOUNT = {"account_id": "a"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the archive is."""
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


@pytest.fixture
async def bank(small_ranges_url: str, redis_url: str, tmp_path: Path, folder: Path) -> AsyncIterator[Bank]:
    async with open_bank(small_ranges_url, redis_url, tmp_path, archive_url=folder.as_uri()) as opened:
        yield opened


async def deposits(bank: Bank, account: str, count: int, tokens: list[str]) -> None:
    """Deposit some, with tables made ahead; remember every position."""
    for cents in range(count):
        tokens.append(await bank.deposit(account, cents + 1))
        await make_ranges(bank)


async def make_ranges(bank: Bank) -> None:
    settings = bank.side.settings
    async with PostgresLog(settings.store_urls, settings.namespace) as keeper:
        for partition in keeper.partitions:
            await keeper.keep_house(partition, keys_kept=timedelta(days=1))


async def archive_all(bank: Bank, url: str, folder: Path, partition: int) -> int:
    """Fill the range that a partition's head is in, archive what is full, and return up to where that is."""
    neighbour = await a_neighbour(bank.side, partition)
    for _ in range(SMALL_RANGE_EVENTS):
        await append(bank.side.log, "n", Deposited(cents=1), tenant=neighbour)
        await make_ranges(bank)
    settings, store = bank.side.settings, DirectoryStore(folder)
    async with PostgresLog(settings.store_urls, settings.namespace, archive=store) as log:
        return (await archive(log, store, url, partition))[-1].last_position


async def history(bank: Bank, asked: str) -> list[Any]:
    """Return all of a history, page by page."""
    items: list[Any] = []
    cursor = ""
    while True:
        page = await bank.get(f"history?{asked}{cursor}")
        assert page.status_code == 200, page.text
        items += page.json()["items"]
        if page.json()["next"] is None:
            return items
        cursor = f"&cursor={page.json()['next']}"


async def told(bank: Bank, tokens: list[str]) -> dict[str, Any]:
    """Return all that readers are told of an account: history, each state as of a position and a time, and changes."""
    said: dict[str, Any] = {}
    said["history"] = await history(bank, "limit=7")
    said["stream"] = await history(bank, "stream=accounts/a&limit=7")
    times = [item["recorded_at"] for item in said["stream"]]
    for at in [*tokens, *times]:
        answer = await bank.client.get("/v1/accounts/a", params={"as_of": at})
        assert answer.status_code == 200, answer.text
        said[f"as of {at}"] = answer.json(), answer.headers["everfold-position"]
    side = bank.side
    for version in range(len(times)):
        found = await difference(
            side.log, side.registry, GetAccount, TENANT, ACCOUNT, Instant(version=version), Instant()
        )
        said[f"changed since {version}"] = (
            found.before, found.after, [one.document() for one in found.changes], list(found.events),
        )  # fmt: skip
    return said


async def test_history_as_of_changes_rows_and_a_replay_are_what_they_were(
    bank: Bank, small_ranges_url: str, folder: Path
) -> None:
    side, tokens = bank.side, list[str]()
    await append(side.log, "a", AccountOpened(owner="Ann"))
    await deposits(bank, "a", 9, tokens)
    left, to = await move(side)
    await deposits(bank, "a", 9, tokens)
    await bank.balance("a", tokens[-1])
    fence = (await side.log.residences_of(TENANT)).before(to)[0].last_position
    before = await told(bank, tokens)
    assert [item["data"].get("cents") for item in before["stream"][1:]] == [*range(1, 10)] * 2

    assert fence is not None
    assert await archive_all(bank, small_ranges_url, folder, left) >= fence
    assert await told(bank, tokens) == before
    assert await all_equal(side)
    assert (await new_build(side).run(verify=True)).swapped
    assert await balances(side, 1) == await balances(side, 2)

    await move(side)
    await deposits(bank, "a", 3, tokens)
    total = 2 * 45 + 6
    assert await bank.balance("a", tokens[-1]) == total
    after = await told(bank, tokens)
    assert [after[f"as of {token}"] for token in tokens[:18]] == [
        before[f"as of {token}"] for token in tokens[:18]
    ]
    assert await archive_all(bank, small_ranges_url, folder, to) > 9
    assert await told(bank, tokens) == after
    assert await all_equal(side)
    assert (await new_build(side).run(verify=True)).swapped
    assert (await balances(side, 3))["a"] == total
    async with asyncio.timeout(10):
        while await bank.balance("a") != total:
            await asyncio.sleep(0.05)
