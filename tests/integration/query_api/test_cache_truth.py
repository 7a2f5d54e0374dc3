"""
The cache tells the truth: races of writer and fillers, stragglers, flushes. Random tests print their seed.

The table is a dictionary here and Redis is real: what is raced are the scripts (`tests/chaos/cache_races.py`).
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from infra.documents import DocumentWriter, Kind, Mark, Written, decode, decode_mark, encode
from infra.redis import RedisCache
from query_api.cache import Cache, CacheAway
from tests.chaos.cache_races import PLACE, look, mark_at, race

ROUNDS = 1_500


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[RedisCache]:
    async with RedisCache(redis_url, timeout_seconds=5) as redis:
        yield redis


async def test_whatever_the_interleaving_a_cached_document_is_what_it_claims_to_be(redis: RedisCache) -> None:
    seed = random.randrange(10**9)

    served = await race(redis, rounds=ROUNDS, seed=seed)

    assert served > ROUNDS / 3


async def fill_late(cache: Cache, key: str, as_of: int) -> None:
    """Fill what was read before the write that is on its way at the same time."""
    await asyncio.sleep(0)
    cache.fill(
        PLACE, 0, mark_at(as_of), {key: encode(Kind.THERE, mark_at(as_of), b"%d" % as_of)}, seconds=600
    )


async def test_a_slow_filler_never_overwrites_what_is_newer(redis: RedisCache) -> None:
    writer, key = DocumentWriter(redis, "race"), PLACE.document(0, "t", ["A"])
    async with Cache(redis) as cache:
        for number in range(1, 1_001):
            await asyncio.gather(
                writer.write(
                    "orders", 1, 0,
                    before=mark_at(number - 1), after=mark_at(number),
                    rows=[Written("t", ("A",), b"%d" % number)], tenants={"t": number},
                ),
                fill_late(cache, key, number - 1),
            )  # fmt: skip
        await cache.filled()
        document = decode((await redis.get_many([key]))[0])

    assert document is not None
    assert document.data == b"1000"


async def test_a_batch_in_several_calls_is_either_whole_or_does_not_count(redis: RedisCache) -> None:
    writer = DocumentWriter(redis, "race")
    rows = [Written("t", (str(number),), b"1") for number in range(1_200)]
    await writer.write("orders", 1, 0, before=mark_at(0), after=mark_at(1), rows=rows, tenants={"t": 1})
    assert decode_mark((await redis.get_many([PLACE.mark(0)]))[0]) == Mark(0, 1, 1, "00000001")

    fails = FailsAfter(redis, calls=1)
    rows = [Written("t", (str(number),), b"2") for number in range(1_200)]
    with pytest.raises(CacheAway):
        await DocumentWriter(fails, "race").write(
            "orders", 1, 0, before=mark_at(1), after=mark_at(2), rows=rows, tenants={}
        )
    first, last = await look(redis, "0"), await look(redis, "1199")
    assert first is not None
    assert last is not None
    assert (first[0].data, first[0].reflects(first[1])) == (b"2", (2, "00000002"))
    assert (last[0].data, last[0].reflects(last[1])) == (b"1", (1, "00000001"))

    await writer.write("orders", 1, 0, before=mark_at(2), after=mark_at(3), rows=[], tenants={})
    last = await look(redis, "1199")
    assert last is not None
    assert last[0].reflects(last[1]) is None


class FailsAfter:
    """Redis that goes away after some calls."""

    def __init__(self, redis: RedisCache, calls: int) -> None:
        self._redis, self._calls = redis, calls

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> object:
        if self._calls == 0:
            raise CacheAway("gone")
        self._calls -= 1
        return await self._redis.run(script, keys, arguments)


async def test_taking_up_a_partition_starts_anew_only_where_something_was_missed(redis: RedisCache) -> None:
    writer = DocumentWriter(redis, "race")
    row = [Written("t", ("A",), b"1")]
    await writer.write("orders", 1, 0, before=mark_at(0), after=mark_at(5), rows=row, tenants={})

    await writer.begin("orders", 1, 0, checkpoint=mark_at(5))
    same = await look(redis, "A")
    await writer.begin("orders", 1, 0, checkpoint=mark_at(7))
    missed = await look(redis, "A")
    await writer.begin("orders", 1, 0, checkpoint=mark_at(6))
    behind = await look(redis, "A")

    assert same is not None
    assert missed is not None
    assert behind is not None
    assert same[0].reflects(same[1]) == (5, "00000005")
    assert missed[0].reflects(missed[1]) is None
    assert behind[1] == missed[1]


async def test_a_row_written_outside_of_any_batch_is_doubted_until_somebody_reads_it_anew(
    redis: RedisCache,
) -> None:
    writer, key = DocumentWriter(redis, "race"), PLACE.document(0, "t", ["A"])
    for number, rows in enumerate([[Written("t", ("A",), b"old")], [], []]):
        await writer.write(
            "orders", 1, 0, before=mark_at(number), after=mark_at(number + 1), rows=rows, tenants={}
        )
    await writer.doubt("orders", 1, 0, checkpoint=mark_at(2), rows=[("t", ("A",))])
    async with Cache(redis) as cache:
        cache.fill(PLACE, 0, mark_at(3), {key: encode(Kind.THERE, mark_at(3), b"old")}, seconds=600)
        await cache.filled()
        late = await look(redis, "A")
        await writer.write("orders", 1, 0, before=mark_at(3), after=mark_at(4), rows=[], tenants={})
        cache.fill(PLACE, 0, mark_at(4), {key: encode(Kind.THERE, mark_at(4), b"new")}, seconds=600)
        await cache.filled()
        anew = await look(redis, "A")

    assert late is not None
    assert late[0].kind is Kind.PARKED
    assert anew is not None
    assert anew[0].data == b"new"
