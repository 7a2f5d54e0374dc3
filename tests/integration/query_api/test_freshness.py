"""Positions both ways: read your writes, waits, lenient answers, lost history, long polls."""

import asyncio
import time

import pytest

from query_api import applied as applied_module
from query_api import as_of as as_of_module
from schemas.position import Position, parse_position
from tests.integration.query_api.readside import TENANT, ReadSideUnderTest

LISTS = ["/v1/accounts", "/v1/wealth"]
READS = ["/v1/accounts/A-1", *LISTS]


@pytest.mark.parametrize("path", READS)
async def test_a_read_with_a_position_shows_that_write_and_says_so(
    side: ReadSideUnderTest, path: str
) -> None:
    await side.open_account("A-1", 100)
    await side.apply()
    before = await side.client.get(path)
    token = await side.deposit("A-1", 5)
    waiting = asyncio.create_task(side.client.get(path, headers={"everfold-position": token}))
    await asyncio.sleep(0)
    await side.apply()

    response = await waiting

    assert response.status_code == 200, response.text
    assert b"105" in response.content
    assert b"105" not in before.content
    assert response.headers["everfold-position"] == token
    assert response.headers["etag"] != before.headers["etag"]


async def test_a_write_that_has_not_reached_the_cache_is_read_from_the_tables(
    side: ReadSideUnderTest,
) -> None:
    await side.open_account("A-1", 100)
    await side.apply()
    token = await side.deposit("A-1", 5)
    await side.apply(to_cache=False)

    with_token = await side.client.get("/v1/accounts/A-1", headers={"everfold-position": token})
    without = await side.client.get("/v1/accounts/A-1")

    assert with_token.json()["balance_cents"] == 105
    assert without.headers["everfold-position"] != token or without.json()["balance_cents"] == 105


@pytest.mark.parametrize("path", LISTS)
async def test_the_wait_ends_with_a_problem_that_says_where_the_read_side_is(
    side: ReadSideUnderTest, path: str
) -> None:
    first = await side.open_account("A-1")
    await side.apply()
    token = await side.deposit("A-1")
    started = time.monotonic()

    response = await side.client.get(path, headers={"everfold-position": token, "prefer": "wait=1"})

    assert response.status_code == 412
    assert response.json()["type"] == "/problems/projection-behind"
    assert response.json()["position"] == token
    assert response.headers["retry-after"] == "1"
    assert response.headers["everfold-position"] == first
    assert 0.9 <= time.monotonic() - started < 5


async def test_when_the_wait_is_over_a_document_is_folded_from_the_log(side: ReadSideUnderTest) -> None:
    await side.open_account("A-1", 100)
    await side.apply()
    token = await side.deposit("A-1", 5)
    other = await side.open_account("A-2", 7)
    asked = [("A-1", token, 105), ("A-2", other, 7), ("A-1", other, 105)]

    for account_id, position, cents in asked:
        headers = {"everfold-position": position, "prefer": "wait=0"}
        response = await side.client.get(f"/v1/accounts/{account_id}", headers=headers)
        assert response.status_code == 200, response.text
        assert response.json()["balance_cents"] == cents
        assert response.headers["everfold-position"] == other
        assert "everfold-stale" not in response.headers
    missing = await side.client.get(
        "/v1/accounts/nobody", headers={"everfold-position": token, "prefer": "wait=0"}
    )
    assert (missing.status_code, missing.headers["everfold-position"]) == (404, other)


async def test_a_document_is_folded_like_the_row_that_comes_later(side: ReadSideUnderTest) -> None:
    await side.open_account("A-1", 100)
    token = await side.deposit("A-1", 5)
    headers = {"everfold-position": token, "prefer": "wait=0"}
    folded = await side.client.get("/v1/accounts/A-1", headers=headers)
    await side.apply()
    applied = await side.client.get("/v1/accounts/A-1", headers=headers)

    assert applied.headers["cache-status"] == "everfold; hit"
    assert (folded.content, folded.headers["etag"]) == (applied.content, applied.headers["etag"])


async def test_long_streams_and_many_folds_at_once_are_left_to_the_read_side(
    side: ReadSideUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    await side.open_account("A-1", 100)
    token = await side.deposit("A-1", 5)
    headers = {"everfold-position": token, "prefer": "wait=0"}
    monkeypatch.setattr(as_of_module, "FOLD_EVENTS_MAX", 2)
    too_long = await side.client.get("/v1/accounts/A-1", headers=headers)
    monkeypatch.setattr(as_of_module, "FOLD_EVENTS_MAX", 3)
    just_so = await side.client.get("/v1/accounts/A-1", headers=headers)
    monkeypatch.setattr(as_of_module, "FOLDS_MAX", 1)
    many = await asyncio.gather(*(side.client.get("/v1/accounts/A-1", headers=headers) for _ in range(4)))

    assert (too_long.status_code, too_long.json()["type"]) == (412, "/problems/projection-behind")
    assert just_so.status_code == 200
    assert {response.status_code for response in many} == {200, 412}


async def test_a_client_may_rather_take_an_older_answer(side: ReadSideUnderTest) -> None:
    first = await side.open_account("A-1", 100)
    await side.apply()
    token = await side.deposit("A-1", 5)

    response = await side.client.get(
        "/v1/accounts/A-1",
        headers={"everfold-position": token, "prefer": "wait=0, handling=lenient"},
    )

    assert response.status_code == 200
    assert response.json()["balance_cents"] == 100
    assert response.headers["everfold-stale"] == "?1"
    assert response.headers["everfold-position"] == first
    assert response.headers["preference-applied"] == "wait=0, handling=lenient"


async def test_another_tenants_position_is_a_bad_request(side: ReadSideUnderTest) -> None:
    token = await side.open_account("A-1", tenant="other")

    response = await side.client.get("/v1/accounts/A-1", headers={"everfold-position": token})

    assert (response.status_code, response.json()["type"]) == (400, "/problems/malformed-request")


@pytest.mark.parametrize("token", ["", "nonsense", "p1.0.1.00000000.000000", "p1." + "9" * 200])
async def test_what_is_no_position_is_a_bad_request(side: ReadSideUnderTest, token: str) -> None:
    assert (await side.client.get("/v1/accounts", headers={"everfold-position": token})).status_code == 400


async def test_a_position_of_a_lost_history_is_gone(side: ReadSideUnderTest) -> None:
    token = await side.open_account("A-1")
    await side.apply()
    partition, position, _ = parse_position(token, TENANT)
    lost = Position(partition, position, "deadbeef").token(TENANT)

    response = await side.client.get("/v1/accounts/A-1", headers={"everfold-position": lost})

    assert (response.status_code, response.json()["type"]) == (410, "/problems/position-lost")


async def test_a_position_still_to_come_that_comes_with_another_history_is_gone(
    side: ReadSideUnderTest,
) -> None:
    token = await side.open_account("A-1")
    await side.apply()
    partition, position, _ = parse_position(token, TENANT)
    future = Position(partition, position + 1, "deadbeef").token(TENANT)
    waiting = asyncio.create_task(
        side.client.get("/v1/accounts/A-1", headers={"everfold-position": future, "prefer": "wait=10"})
    )
    await asyncio.sleep(0.05)
    await side.deposit("A-1")
    await side.apply()

    assert (await waiting).status_code == 410


async def test_waiting_works_without_notifications(side: ReadSideUnderTest) -> None:
    await side.open_account("A-1", 100)
    await side.apply()
    token = await side.deposit("A-1", 5)
    waiting = asyncio.create_task(
        side.client.get("/v1/accounts/A-1", headers={"everfold-position": token, "prefer": "wait=10"})
    )
    await asyncio.sleep(0.02)
    await side.apply(notify=False, to_cache=False)

    assert (await waiting).json()["balance_cents"] == 105


async def test_too_many_waiters_are_turned_away(
    side: ReadSideUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applied_module, "WAITERS_MAX", 2)
    await side.open_account("A-1")
    await side.apply()
    token = await side.deposit("A-1")
    headers = {"everfold-position": token, "prefer": "wait=1"}

    responses = await asyncio.gather(*(side.client.get("/v1/accounts", headers=headers) for _ in range(1)))
    many = await asyncio.gather(
        *(side.client.get(f"/v1/accounts?limit={number}", headers=headers) for number in range(1, 6))
    )

    assert [response.status_code for response in responses] == [412]
    assert sorted(response.status_code for response in many) == [412, 412, 503, 503, 503]


@pytest.mark.parametrize("path", READS)
async def test_a_long_poll_answers_when_something_changes(side: ReadSideUnderTest, path: str) -> None:
    await side.open_account("A-1", 100)
    await side.apply()
    etag = (await side.client.get(path)).headers["etag"]
    waiting = asyncio.create_task(side.client.get(path, headers={"if-none-match": etag, "prefer": "wait=20"}))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await side.deposit("A-1", 5)
    await side.apply()

    response = await waiting

    assert response.status_code == 200
    assert b"105" in response.content
    assert response.headers["preference-applied"] == "wait=20"


async def test_a_long_poll_ends_when_nothing_of_it_changes(side: ReadSideUnderTest) -> None:
    await side.open_account("A-1")
    await side.apply()
    etag = (await side.client.get("/v1/accounts/A-1")).headers["etag"]
    waiting = asyncio.create_task(
        side.client.get("/v1/accounts/A-1", headers={"if-none-match": etag, "prefer": "wait=1"})
    )
    await asyncio.sleep(0.05)
    token = await side.open_account("A-2")
    await side.apply()

    response = await waiting

    assert response.status_code == 304
    assert response.headers["everfold-position"] == token


async def test_one_clients_versions_never_go_back(side: ReadSideUnderTest) -> None:
    await side.open_account("A-1", 0)
    await side.apply()
    seen, token = 0, ""
    for number in range(1, 40):
        await side.deposit("A-1")
        await side.apply(to_cache=number % 3 != 0)
        headers = {"everfold-position": token} if token else {}
        response = await side.client.get("/v1/accounts/A-1", headers=headers)
        assert response.json()["balance_cents"] >= seen
        seen, token = response.json()["balance_cents"], response.headers["everfold-position"]
    assert seen > 20
