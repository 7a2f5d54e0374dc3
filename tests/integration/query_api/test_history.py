"""What auditors see: the log itself, by stream, actor, type and time, a page at a time; and what operators see."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from query_api import history as history_module
from tests.archives import ArchivingLog
from tests.integration.query_api.readside import TENANT, ReadSideUnderTest
from tests.services import PARTITIONS


@pytest.fixture(params=["tables", "archived"])
async def side(
    request: pytest.FixtureRequest, redis_url: str, tmp_path: Path
) -> AsyncIterator[ReadSideUnderTest]:
    """A read side over a log in its tables, and over one whose full ranges of a few positions are archived."""
    is_archived = request.param == "archived"
    url = request.getfixturevalue("small_ranges_url" if is_archived else "store_url")
    folder = tmp_path / "archive"
    folder.mkdir()
    log = ArchivingLog({range(PARTITIONS): url}, folder) if is_archived else None
    async with ReadSideUnderTest(url, redis_url, tmp_path, log=log) as side:
        yield side


@pytest.fixture
def auditor(side: ReadSideUnderTest) -> Any:
    return side.client_of(side.api, roles=["auditor"])


async def events(client: Any, query: str) -> list[dict[str, Any]]:
    """Return all pages' events."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        response = await client.get(f"/v1/history?{query}{cursor}")
        assert response.status_code == 200, response.text
        found += response.json()["items"]
        if not response.json()["next"]:
            return found
        cursor = f"&cursor={response.json()['next']}"


async def test_a_streams_events_are_told_in_full_oldest_first(side: ReadSideUnderTest, auditor: Any) -> None:
    await side.open_account("A-1", 100)
    await side.open_account("A-2", 100)
    token = await side.deposit("A-1", 5)

    found = await events(auditor, "stream=accounts/A-1")

    assert [(event["type"], event["version"]) for event in found] == [
        ("AccountOpened", 1), ("Deposited", 2), ("Deposited", 3)
    ]  # fmt: skip
    last = found[-1]
    assert last["position"] == token
    assert last["data"] == {"cents": 5, "source": "cash"}
    assert last["schema_version"] == 2
    assert (last["actor"], last["roles"], last["command"]) == ("ann", ["clerk"], "accounts.deposit")
    assert last["occurred_at"] == "2026-01-01T00:00:00Z"
    assert last["reason"] is last["causation_id"] is last["idempotency_key"] is None
    assert set(last) == set(history_module.HistoryEvent.model_fields)


async def test_what_this_program_cannot_read_is_told_as_it_is_stored(  # F39
    side: ReadSideUnderTest, auditor: Any
) -> None:
    await side.open_account("A-1", 100)
    await side.happen_raw("A-1", "AccountFrozen", 4, b'{"why":"asked for"}')
    await side.happen_raw("A-1", "Deposited", 2, b'{"cents":"many"}')

    found = await events(auditor, "stream=accounts/A-1")

    assert [(event["type"], event["schema_version"], event["data"]) for event in found[2:]] == [
        ("AccountFrozen", 4, {"why": "asked for"}),
        ("Deposited", 2, {"cents": "many"}),
    ]


@pytest.mark.parametrize("limit", [1, 2, 500])
async def test_filters_hold_together_on_every_page(side: ReadSideUnderTest, auditor: Any, limit: int) -> None:
    for number in range(4):
        await side.open_account(f"A-{number}")
    await side.open_account("B-1", tenant="other")

    assert len(await events(auditor, f"limit={limit}")) == 8
    assert len(await events(auditor, f"limit={limit}&type=AccountOpened")) == 4
    assert len(await events(auditor, f"limit={limit}&type=AccountOpened&actor=ann")) == 4
    assert await events(auditor, f"limit={limit}&actor=bob") == []
    assert await events(auditor, f"limit={limit}&stream=accounts/B-1") == []
    assert len(await events(auditor, f"limit={limit}&stream=accounts/A-2&type=Deposited")) == 1


async def test_a_range_of_time_is_half_open(side: ReadSideUnderTest, auditor: Any) -> None:
    times = []
    for number in range(5):
        await side.deposit("A-1", number + 1)
        await asyncio.sleep(0.002)
        times.append(datetime.now(UTC).isoformat().replace("+00:00", "Z"))
        await asyncio.sleep(0.002)

    def cents(found: list[dict[str, Any]]) -> list[int]:
        return [event["data"]["cents"] for event in found]

    assert cents(await events(auditor, f"from={times[0]}&to={times[2]}")) == [2, 3]
    assert cents(await events(auditor, f"from={times[3]}")) == [5]
    assert cents(await events(auditor, f"to={times[0]}")) == [1]
    assert cents(await events(auditor, "from=2020-01-01")) == [1, 2, 3, 4, 5]
    assert await events(auditor, "from=2099-01-01") == []
    assert await events(auditor, "to=2020-01-01") == []
    second = (await events(auditor, "limit=500"))[1]["recorded_at"]
    assert cents(await events(auditor, f"from={second}&to=2099-01-01")) == [2, 3, 4, 5]
    assert cents(await events(auditor, f"to={second}")) == [1]


async def test_a_long_scan_is_cut_into_pages(
    side: ReadSideUnderTest, auditor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "SCAN_EVENTS_MAX", 3)
    monkeypatch.setattr(history_module, "SCAN_ARCHIVED_EVENTS_MAX", 3)
    for number in range(8):
        await side.deposit("A-1", number + 1)
    await side.open_account("A-9")

    first = await auditor.get("/v1/history?type=AccountOpened")

    assert (first.json()["items"], bool(first.json()["next"])) == ([], True)
    assert len(await events(auditor, "type=AccountOpened")) == 1


async def test_an_empty_log_has_an_empty_history(auditor: Any) -> None:
    response = await auditor.get("/v1/history")
    assert response.json() == {"items": [], "next": None}


async def test_the_history_is_as_new_as_the_log(side: ReadSideUnderTest, auditor: Any) -> None:
    token = await side.open_account("A-1")
    response = await auditor.get("/v1/history", headers={"everfold-position": token})
    assert response.headers["everfold-position"] == token
    again = await auditor.get("/v1/history", headers={"if-none-match": response.headers["etag"]})
    assert again.status_code == 304


async def test_the_status_says_how_far_everything_is(side: ReadSideUnderTest) -> None:
    operator = side.client_of(side.api, tenant=None, roles=["operator"])
    await side.pool.execute(
        "INSERT INTO everfold.generations (projection, generation, version, state, schema) "
        "VALUES ('account-balances', 1, 1, 'live', 's')"
    )
    await side.open_account("A-1")
    await side.apply()
    await side.deposit("A-1")
    partition = await side.log.partition_of(TENANT)

    status = (await operator.get("/v1/status")).json()

    (own,) = [one for one in status["partitions"] if one["partition"] == partition]
    assert (own["head"], own["relayed"]) == (3, 3)
    assert own["moved_at"] is not None
    (projection,) = status["projections"]
    assert projection["lag_seconds"] >= 0
    assert {name: projection[name] for name in ("name", "generation", "state", "lag_events")} == {
        "name": "account-balances", "generation": 1, "state": "waiting", "lag_events": 1
    }  # fmt: skip
    assert projection["positions"] == {str(partition): 2}
    assert (projection["building"], projection["dead_letters"]) == (None, 0)
    assert projection["waiting_for"] == f"a process: none holds partition {partition} of projections"
    assert (status["workflows"], status["dead_letters"]) == ([], 0)
