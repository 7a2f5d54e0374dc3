"""One load of each answer at a time over all processes; and nobody waits for one that does not come."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from infra.redis import RedisCache
from query_api import ComputedQuery
from query_api.answers import Answer
from query_api.app import make_query_api, queries_of, query_api
from query_api.cache import Cache, Turn
from query_api.turns import TURN_MILLISECONDS, Loaded, load_in_turn
from tests.integration.query_api.readside import ReadSideUnderTest
from tests.toy import DOMAIN, AccountBalances
from tests.toy.queries import Wealth

KEY = "everfold:f:test"
ANSWER = Answer(b"{}", "0" * 16, 1, "00000000")
KEPT: Loaded = (ANSWER, True)


class CountedWealth(ComputedQuery):
    """How often this has been computed, slowly."""

    route, view, projection = "counted-wealth", Wealth, AccountBalances
    sql = """
        SELECT json_build_object('accounts', nextval('loads'), 'cents', 0)::text AS doc
        FROM (SELECT pg_sleep(0.3)) AS slept WHERE :tenant::text IS NOT NULL
    """


class NeverKept(CountedWealth):
    """The same, which is read each time."""

    route, cache_seconds = "never-kept", 0


@pytest.fixture
async def caches(redis_url: str) -> AsyncIterator[tuple[Cache, Cache]]:
    """Two processes' caches."""
    async with (
        RedisCache(redis_url, timeout_seconds=2) as first,
        RedisCache(redis_url, timeout_seconds=2) as second,
        Cache(first) as one,
        Cache(second) as other,
    ):
        yield one, other


async def nothing() -> Answer | None:
    return None


async def test_those_who_ask_the_same_of_several_processes_at_once_share_one_load(  # F44
    side: ReadSideUnderTest,
) -> None:
    await side.pool.execute("CREATE SEQUENCE loads")
    await side.pool.execute("GRANT USAGE ON SEQUENCE loads TO PUBLIC")
    await side.open_account("A-1")
    await side.apply()
    queries = [*queries_of([DOMAIN]), CountedWealth, NeverKept]
    async with query_api(side.settings) as other_process:
        apis = [make_query_api(side.api.parts, queries), make_query_api(other_process.parts, queries)]
        clients = [side.client_of(api) for api in apis]

        shared = await asyncio.gather(
            *(client.get("/v1/counted-wealth") for client in clients for _ in range(5))
        )
        alone = await asyncio.gather(*(client.get("/v1/never-kept") for client in clients))

    assert {response.status_code for response in shared} == {200}
    assert {response.json()["accounts"] for response in shared} == {1}
    assert {response.json()["accounts"] for response in alone} == {2, 3}


async def test_while_one_loads_others_look_for_what_it_leaves(caches: tuple[Cache, Cache]) -> None:
    loads = 0
    kept = asyncio.Event()

    async def load() -> Loaded:
        nonlocal loads
        loads += 1
        await asyncio.sleep(1.2)  # longer than a turn lasts that is not prolonged
        kept.set()
        return KEPT

    async def look() -> Answer | None:
        return ANSWER._replace(is_hit=True) if kept.is_set() else None

    answers = await asyncio.gather(*(load_in_turn(cache, KEY, load, look) for cache in caches * 3))

    assert loads == 1
    assert sorted(answer.is_hit for answer in answers) == [False, *[True] * 5]
    assert TURN_MILLISECONDS < 1_200


async def test_what_cannot_be_kept_is_loaded_by_everybody_without_waiting(
    caches: tuple[Cache, Cache],
) -> None:
    async def load() -> Loaded:
        await asyncio.sleep(0.05)
        return ANSWER, False

    await load_in_turn(caches[0], KEY, load, nothing)
    await caches[0].filled()
    started = time.monotonic()
    for _ in range(3):
        await load_in_turn(caches[1], KEY, load, nothing)

    assert time.monotonic() - started < TURN_MILLISECONDS / 1_000


async def test_a_failed_load_and_a_holder_that_died_keep_nobody_for_long(caches: tuple[Cache, Cache]) -> None:
    async def fail() -> Loaded:
        raise OSError("gone")

    async def load() -> Loaded:
        return KEPT

    with pytest.raises(OSError, match="gone"):
        await load_in_turn(caches[0], KEY, fail, nothing)
    await caches[0].filled()
    assert await load_in_turn(caches[1], KEY, load, nothing) == ANSWER
    await caches[1].filled()

    assert await caches[0].take(Turn(KEY, b"died"), 300) is None
    started = time.monotonic()
    async with asyncio.timeout(10):
        assert await load_in_turn(caches[1], KEY, load, nothing) == ANSWER
    assert time.monotonic() - started > 0.2


async def test_a_turn_that_has_passed_to_another_is_not_ended_by_the_first(
    caches: tuple[Cache, Cache],
) -> None:
    first, second = Turn(KEY, b"first"), Turn(KEY, b"second")
    assert await caches[0].take(first, 1) is None
    while (standing := await caches[1].take(second, 60_000)) is not None:
        assert standing == b"first"
    caches[0].change(first, 0, b"")
    await caches[0].filled()

    assert await caches[0].take(first, 1_000) == b"second"


async def test_without_redis_everybody_loads() -> None:
    async def load() -> Loaded:
        return KEPT

    async with RedisCache("redis://127.0.0.1:1/0") as away, Cache(away) as cache:
        assert await load_in_turn(cache, KEY, load, nothing) == ANSWER
