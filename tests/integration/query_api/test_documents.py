"""Documents: served from the cache, the tables or the log, and never older than asked."""

import orjson
import pytest
import redis

from infra.documents import Kind
from query_api.documents import GONE_SECONDS_MAX
from tests.integration.query_api.readside import TENANT, ReadSideUnderTest


async def test_a_document_comes_from_the_tables_then_from_the_cache(side: ReadSideUnderTest) -> None:
    await side.open_account("A-1", 250)
    await side.apply(to_cache=False)

    first = await side.client.get("/v1/accounts/A-1")
    await side.api.parts.cache.filled()  # type: ignore[union-attr]
    second = await side.client.get("/v1/accounts/A-1")

    assert first.status_code == 200, first.text
    assert first.json() == {"account_id": "A-1", "stream": "accounts/A-1", "version": 2, "balance_cents": 250}
    assert first.headers["cache-status"] == "everfold; fwd=miss"
    assert second.headers["cache-status"] == "everfold; hit"
    assert second.content == first.content
    assert second.headers["etag"] == first.headers["etag"]
    assert second.headers["everfold-position"] == first.headers["everfold-position"]


async def test_what_the_projector_wrote_is_served_from_the_cache_at_once(side: ReadSideUnderTest) -> None:
    await side.open_account("A-1")
    await side.apply()

    response = await side.client.get("/v1/accounts/A-1")

    assert response.headers["cache-status"] == "everfold; hit"


async def test_what_does_not_exist_is_not_found_and_says_up_to_where_it_was_looked(
    side: ReadSideUnderTest,
) -> None:
    token = await side.open_account("A-1")
    await side.apply()

    response = await side.client.get("/v1/accounts/nobody")

    assert response.status_code == 404
    assert response.json()["type"] == "/problems/not-found"
    assert response.headers["everfold-position"] == token


async def test_that_something_does_not_exist_is_known_to_the_cache_until_it_does(
    side: ReadSideUnderTest, redis_url: str
) -> None:
    await side.open_account("A-1")
    await side.apply()
    first = await side.client.get("/v1/accounts/A-2")
    await side.api.parts.cache.filled()  # type: ignore[union-attr]
    with redis.Redis.from_url(redis_url) as client:
        (key,) = client.scan_iter(match="everfold:d2:*A-2")
        kept, seconds = client.get(key), client.ttl(key)
    again = await side.client.get("/v1/accounts/A-2")
    token = await side.open_account("A-2", 7)
    await side.apply()
    there = await side.client.get("/v1/accounts/A-2", headers={"everfold-position": token})

    assert (first.status_code, again.status_code) == (404, 404)
    assert again.headers["everfold-position"] == first.headers["everfold-position"]
    assert kept[:1] == Kind.GONE.value
    assert 0 < seconds <= GONE_SECONDS_MAX
    assert there.json()["balance_cents"] == 7


async def test_a_closed_account_is_gone_from_the_cache_too(side: ReadSideUnderTest) -> None:
    await side.open_account("A-1")
    await side.apply()
    await side.close("A-1")
    await side.apply()

    assert (await side.client.get("/v1/accounts/A-1")).status_code == 404


async def test_another_tenants_document_is_not_found(side: ReadSideUnderTest) -> None:
    await side.open_account("A-1", tenant="other")
    await side.apply(tenant="other")
    await side.open_account("A-2")
    await side.apply()

    assert (await side.client.get("/v1/accounts/A-1")).status_code == 404


async def test_the_same_document_is_not_sent_twice(side: ReadSideUnderTest) -> None:
    await side.open_account("A-1")
    await side.apply()
    first = await side.client.get("/v1/accounts/A-1")

    again = await side.client.get("/v1/accounts/A-1", headers={"if-none-match": first.headers["etag"]})
    await side.deposit("A-1")
    await side.apply()
    changed = await side.client.get("/v1/accounts/A-1", headers={"if-none-match": first.headers["etag"]})

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["everfold-position"] == first.headers["everfold-position"]
    assert changed.status_code == 200
    assert changed.json()["balance_cents"] == 101


async def test_a_document_with_parked_events_is_folded_from_the_log_when_freshness_is_asked(
    side: ReadSideUnderTest,
) -> None:
    await side.open_account("A-1", 100)
    batch = await side.apply()
    token = await side.deposit("A-1", 5)
    await side.park("A-1", batch.after.position + 1)
    await side.pool.execute(
        "UPDATE everfold.checkpoints SET (position, commit_hash) = "
        "(SELECT c.last_position, c.hash FROM everfold.commits AS c WHERE c.partition = $1 "
        "ORDER BY c.last_position DESC LIMIT 1) WHERE kind = 'projection' AND generation = 1"
        " AND partition = $1",
        batch.partition,
    )
    await side.redis.run("return redis.call('FLUSHDB')", [], [])  # type: ignore[union-attr]

    old = await side.client.get("/v1/accounts/A-1")
    fresh = await side.client.get("/v1/accounts/A-1", headers={"everfold-position": token})

    assert old.json()["balance_cents"] == 100
    assert old.headers["everfold-position"] != token
    assert fresh.status_code == 200, fresh.text
    assert fresh.json()["balance_cents"] == 105
    assert fresh.headers["everfold-position"] == token


async def test_a_list_with_parked_events_says_that_it_is_behind(side: ReadSideUnderTest) -> None:
    await side.open_account("A-1", 100)
    batch = await side.apply(to_cache=False)
    token = await side.deposit("A-1", 5)
    await side.park("A-1", batch.after.position + 1)
    await side.pool.execute(
        "UPDATE everfold.checkpoints SET (position, commit_hash) = "
        "(SELECT c.last_position, c.hash FROM everfold.commits AS c WHERE c.partition = $1 "
        "ORDER BY c.last_position DESC LIMIT 1) WHERE generation = 1 AND partition = $1",
        batch.partition,
    )

    response = await side.client.get("/v1/accounts", headers={"everfold-position": token})

    assert response.status_code == 412
    assert response.json()["type"] == "/problems/projection-behind"
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("account_id", ["%00", "a" * 300, "%0a"])
async def test_an_id_that_cannot_be_is_not_found(side: ReadSideUnderTest, account_id: str) -> None:
    assert (await side.client.get(f"/v1/accounts/{account_id}")).status_code == 404


async def test_a_document_as_of_a_position_or_a_time(side: ReadSideUnderTest) -> None:
    first = await side.open_account("A-1", 100)
    await side.deposit("A-1", 5)
    await side.apply()
    opened = await side.log.commit_of(await side.log.partition_of(TENANT), 1)
    assert opened is not None

    at_position = await side.client.get("/v1/accounts/A-1", params={"as_of": first})
    at_time = await side.client.get(
        "/v1/accounts/A-1", params={"as_of": opened.recorded_at.isoformat().replace("+00:00", "Z")}
    )
    before = await side.client.get("/v1/accounts/A-1", params={"as_of": "2020-01-01"})
    nonsense = await side.client.get("/v1/accounts/A-1", params={"as_of": "yesterday"})
    now = await side.client.get("/v1/accounts/A-1")

    assert at_position.json() == {
        "account_id": "A-1", "stream": "accounts/A-1", "version": 2, "balance_cents": 100
    }  # fmt: skip
    assert at_position.headers["everfold-position"] == first
    assert at_time.json() == at_position.json()
    assert before.status_code == 404
    assert (nonsense.status_code, nonsense.json()["errors"][0]["pointer"]) == (422, "/as_of")
    assert now.json()["balance_cents"] == 105


@pytest.mark.parametrize(
    ("type_", "version", "data"),
    [("AccountFrozen", 1, b"{}"), ("Deposited", 9, b"{}"), ("Deposited", 2, b'{"cents":"many"}')],
    ids=["type", "version", "bytes"],
)
async def test_a_document_as_of_is_never_folded_past_an_event_that_cannot_be_read(  # F39
    side: ReadSideUnderTest, type_: str, version: int, data: bytes
) -> None:
    before = await side.open_account("A-1", 100)
    held = await side.happen_raw("A-1", type_, version, data)
    later = await side.deposit("A-1", 5)

    until_then = await side.client.get("/v1/accounts/A-1", params={"as_of": before})
    assert until_then.json()["balance_cents"] == 100
    for position in (held, later):
        unreadable = await side.client.get("/v1/accounts/A-1", params={"as_of": position})
        assert unreadable.status_code == 503
        assert unreadable.json()["type"] == "/problems/streams-unreadable"
        named = {name: unreadable.json()[name] for name in ("stream", "event_type", "schema_version")}
        assert named == {"stream": "accounts/A-1", "event_type": type_, "schema_version": version}


async def test_a_document_as_of_is_folded_from_old_names_too(side: ReadSideUnderTest) -> None:
    opened = await side.happen_raw("A-1", "AccountOpenedWith", 1, b'{"owner":"Ann","cents":7}')
    polished = await side.happen_raw("A-1", "AccountPolished", 1, b"{}")
    shut = await side.happen_raw("A-1", "AccountShut", 1, b"{}")

    for position in (opened, polished):
        found = await side.client.get("/v1/accounts/A-1", params={"as_of": position})
        assert found.json()["balance_cents"] == 7
    assert (await side.client.get("/v1/accounts/A-1", params={"as_of": shut})).status_code == 404


async def test_bytes_are_served_as_they_are_stored(side: ReadSideUnderTest) -> None:
    await side.open_account("A-1")
    await side.apply()
    stored = await side.pool.fetchval("SELECT doc FROM everfold_account_balances_1.rows")

    assert (await side.client.get("/v1/accounts/A-1")).content == stored
    assert orjson.loads(stored)
