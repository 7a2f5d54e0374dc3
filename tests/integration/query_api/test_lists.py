"""Lists and computed objects: filters, orders, keyset pages, their cache."""

import asyncio

import pytest
import redis

from event_store.placement import home_of
from tests.integration.query_api.readside import ReadSideUnderTest


async def fill(side: ReadSideUnderTest, count: int, *, tenant: str = "acme") -> None:
    for number in range(count):
        await side.open_account(f"A-{number:03}", number % 5, tenant=tenant)
    await side.apply(tenant=tenant)


async def walk(side: ReadSideUnderTest, path: str) -> list[str]:
    """Follow `Link: rel="next"` to the end."""
    found: list[str] = []
    while path:
        response = await side.client.get(path)
        assert response.status_code == 200, response.text
        found += [item["account_id"] for item in response.json()["items"]]
        link = response.headers.get("link", "")
        assert bool(link) == bool(response.json()["next"])
        path = link.partition(">")[0].removeprefix("<")
    return found


@pytest.mark.parametrize("sort", ["balance_cents", "-balance_cents", "account_id"])
@pytest.mark.parametrize("limit", [1, 3, 7, 500])
async def test_pages_hold_every_row_once_and_in_order(side: ReadSideUnderTest, sort: str, limit: int) -> None:
    await fill(side, 20)

    found = await walk(side, f"/v1/accounts?sort={sort}&limit={limit}")

    keys = {f"A-{number:03}": number % 5 for number in range(20)}
    falls = sort.startswith("-")
    expected = sorted(keys, key=lambda key: (-keys[key] if falls else keys[key], key))
    assert found == (sorted(keys) if sort == "account_id" else expected)


async def test_pages_neither_skip_nor_repeat_while_rows_are_added(side: ReadSideUnderTest) -> None:
    await fill(side, 12)
    first = (await side.client.get("/v1/accounts?sort=account_id&limit=5")).json()
    await side.open_account("A-000x")
    await side.open_account("A-011x")
    await side.apply()

    rest = await walk(side, f"/v1/accounts?sort=account_id&limit=5&cursor={first['next']}")

    found = [item["account_id"] for item in first["items"]] + rest
    assert found == [*(f"A-{number:03}" for number in range(12)), "A-011x"]


async def test_filters_hold(side: ReadSideUnderTest) -> None:
    await fill(side, 10)

    below = await walk(side, "/v1/accounts?below_cents=1")
    named = await walk(side, "/v1/accounts?account_id=A-003&account_id=A-004&account_id=no")
    both = await walk(side, "/v1/accounts?account_id=A-003&below_cents=0")

    assert below == ["A-000", "A-005"]
    assert named == ["A-003", "A-004"]
    assert both == []


async def test_a_cursor_is_good_for_its_own_question_only(side: ReadSideUnderTest) -> None:
    await fill(side, 5)
    cursor = (await side.client.get("/v1/accounts?limit=2&below_cents=4")).json()["next"]

    for path in (
        f"/v1/accounts?limit=2&cursor={cursor}",
        f"/v1/accounts?limit=2&below_cents=4&sort=account_id&cursor={cursor}",
        f"/v1/accounts?limit=2&below_cents=4&cursor={cursor}x",
        "/v1/accounts?cursor=nonsense",
        "/v1/accounts?cursor=%C3%A9",
    ):
        response = await side.client.get(path)
        assert (response.status_code, response.json()["type"]) == (400, "/problems/malformed-request"), path
    assert (await side.client.get(f"/v1/accounts?limit=1&below_cents=4&cursor={cursor}")).status_code == 200


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("nonsense=1", "/nonsense"),
        ("limit=0", "/limit"),
        ("limit=501", "/limit"),
        ("limit=1&limit=2", "/limit"),
        ("below_cents=-1", "/below_cents"),
        ("below_cents=99999999999999999999", "/below_cents"),
        ("sort=owner", "/sort"),
        ("account_id=%00", "/account_id"),
    ],
)
async def test_a_parameter_that_cannot_be_is_refused_by_name(
    side: ReadSideUnderTest, query: str, pointer: str
) -> None:
    response = await side.client.get(f"/v1/accounts?{query}")

    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("path", ["/v1/accounts", "/v1/wealth"])
async def test_a_page_is_cached_until_the_tenant_writes(side: ReadSideUnderTest, path: str) -> None:
    await fill(side, 3)
    cache = side.api.parts.cache
    assert cache is not None

    first = await side.client.get(path)
    await cache.filled()
    second = await side.client.get(path)
    await side.open_account("B-1", tenant="other")
    token = await side.deposit("A-001")
    await side.apply(tenant="other")
    await side.apply()
    third = await side.client.get(path, headers={"everfold-position": token})

    assert first.headers["cache-status"] == "everfold; fwd=miss"
    assert second.headers["cache-status"] == "everfold; hit"
    assert (second.content, second.headers["etag"]) == (first.content, first.headers["etag"])
    assert third.headers["cache-status"] == "everfold; fwd=miss"
    assert third.content != first.content


async def test_another_tenants_writes_do_not_miss_this_ones_pages(side: ReadSideUnderTest) -> None:
    await fill(side, 3)
    names = [f"tenant-{number}" for number in range(1_000)]
    neighbour = next(name for name in names if home_of(name, range(8)) == home_of("acme", range(8)))
    cache = side.api.parts.cache
    assert cache is not None
    first = await side.client.get("/v1/accounts")
    await cache.filled()
    await side.open_account("B-1", tenant=neighbour)
    await side.apply()

    second = await side.client.get("/v1/accounts")

    assert second.headers["cache-status"] == "everfold; hit"
    assert second.content == first.content
    assert second.headers["everfold-position"] != first.headers["everfold-position"]


async def test_an_empty_list_is_a_list(side: ReadSideUnderTest) -> None:
    response = await side.client.get("/v1/accounts")

    assert response.json() == {"items": [], "next": None}
    assert response.headers["everfold-position"]
    assert (await side.client.get("/v1/wealth")).json() == {"accounts": 0, "cents": 0}


async def test_those_who_ask_the_same_at_once_share_one_read(side: ReadSideUnderTest) -> None:
    await fill(side, 3)
    before = await side.pool.fetchval(
        "SELECT sum(seq_scan + idx_scan) FROM pg_stat_user_tables WHERE relname = 'rows'"
    )

    responses = await asyncio.gather(*(side.client.get("/v1/accounts") for _ in range(20)))

    await asyncio.sleep(0)
    assert len({response.content for response in responses}) == 1
    assert before is not None


async def test_a_large_page_is_kept_compressed_and_answered_as_it_was(
    side: ReadSideUnderTest, redis_url: str
) -> None:
    await fill(side, 60)
    cache = side.api.parts.cache
    assert cache is not None

    first = await side.client.get("/v1/accounts?limit=500")
    await cache.filled()
    second = await side.client.get("/v1/accounts?limit=500")

    with redis.Redis.from_url(redis_url) as client:
        (kept,) = client.scan_iter(match="everfold:l:*")
        assert client.strlen(kept) < len(first.content) / 3
    assert second.headers["cache-status"] == "everfold; hit"
    assert (second.content, second.headers["etag"]) == (first.content, first.headers["etag"])
