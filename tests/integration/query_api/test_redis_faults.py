"""Redis flushed, killed, hanging, or slow while requests are cancelled: answers are right all the same."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from infra.embedded.server import RunningServer
from infra.redis import TIMEOUT_SECONDS, Breaker, CacheAway, RedisCache
from query_api.cache import Cache
from tests.integration.query_api.readside import ReadSideUnderTest


@asynccontextmanager
async def proxy(target: str, *, delay_seconds: float = 0.0, swallows: bool = False) -> AsyncIterator[str]:
    """A TCP proxy in front of Redis that delays what comes back, or lets nothing through."""
    place = urlsplit(target)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, pause: float) -> None:
        try:
            while data := await reader.read(65_536):
                if swallows:
                    continue
                if pause:
                    await asyncio.sleep(pause)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(place.hostname, place.port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pump(reader, back, pause=0))
            tasks.create_task(pump(there, writer, pause=delay_seconds))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield place._replace(netloc=f"127.0.0.1:{port}").geturl()
    server.close()


async def test_after_a_flush_every_answer_is_right_and_the_cache_fills_again(side: ReadSideUnderTest) -> None:
    await side.open_account("A-1", 0)
    await side.apply()
    cache = side.api.parts.cache
    assert cache is not None
    assert side.redis is not None
    for number in range(1, 30):
        token = await side.deposit("A-1")
        await side.apply(to_cache=number % 2 == 0)
        await side.redis.run("return redis.call('FLUSHDB')", [], [])

        one, many = await asyncio.gather(
            side.client.get("/v1/accounts/A-1", headers={"everfold-position": token}),
            side.client.get("/v1/accounts", headers={"everfold-position": token}),
        )

        assert one.json()["balance_cents"] == number
        assert many.json()["items"][0]["balance_cents"] == number
    await cache.filled()
    again = await side.client.get("/v1/accounts/A-1")
    assert again.headers["cache-status"] == "everfold; hit"


async def test_a_killed_redis_is_not_missed(store_url: str, valkey: RunningServer, tmp_path: Path) -> None:
    async with ReadSideUnderTest(store_url, valkey.url, tmp_path) as side:
        await side.open_account("A-1", 7)
        await side.apply()
        await side.client.get("/v1/accounts/A-1")
        valkey.kill()

        started = time.monotonic()
        answers = [await side.client.get("/v1/accounts/A-1") for _ in range(20)]
        answers += await asyncio.gather(*(side.client.get("/v1/accounts") for _ in range(20)))

        assert {answer.status_code for answer in answers} == {200}
        assert answers[0].json()["balance_cents"] == 7
        assert time.monotonic() - started < 10
        assert (await side.client.get("/readyz")).status_code == 200


async def test_a_hanging_redis_costs_a_tenth_of_a_second_and_then_nothing(
    store_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with (
        proxy(redis_url, swallows=True) as hanging,
        ReadSideUnderTest(store_url, None, tmp_path) as side,
        RedisCache(hanging) as cached,
        Cache(cached) as cache,
    ):
        spent = []
        for _ in range(6):
            started = time.monotonic()
            with pytest.raises(CacheAway):
                await cache.get(["a"])
            spent.append(time.monotonic() - started)
        assert cached.breaker.is_open
        assert spent[0] < TIMEOUT_SECONDS * 5
        assert spent[-1] < TIMEOUT_SECONDS / 2
        await side.open_account("A-1")


async def test_the_api_answers_while_redis_hangs(store_url: str, redis_url: str, tmp_path: Path) -> None:
    async with (
        proxy(redis_url, swallows=True) as hanging,
        ReadSideUnderTest(store_url, hanging, tmp_path) as side,
    ):
        token = await side.open_account("A-1", 7)
        await side.apply(to_cache=False)
        started = time.monotonic()

        for path in ("/v1/accounts/A-1", "/v1/accounts", "/v1/wealth") * 5:
            response = await side.client.get(path, headers={"everfold-position": token})
            assert response.status_code == 200, response.text
            assert b"7" in response.content

        assert time.monotonic() - started < 5


async def test_a_password_and_a_database_are_used(valkey: RunningServer) -> None:
    with redis.Redis.from_url(valkey.url) as open_to_all:
        open_to_all.config_set("requirepass", "secret")
    place = urlsplit(valkey.url)
    named = place._replace(netloc=f":secret@{place.netloc}", path="/3").geturl()
    async with RedisCache(named, timeout_seconds=2) as third, RedisCache(valkey.url) as unknown:
        await third.put("a", b"three", seconds=60)
        assert await third.get_many(["a", "b"]) == [b"three", None]
        with pytest.raises(CacheAway, match="NOAUTH"):
            await unknown.get_many(["a"])
    zero = place._replace(netloc=f":secret@{place.netloc}", path="/0").geturl()
    async with RedisCache(zero, timeout_seconds=2) as other:
        assert await other.get_many(["a"]) == [None]


async def test_reads_go_on_after_redis_came_back(valkey: RunningServer) -> None:
    async with RedisCache(valkey.url, timeout_seconds=2) as cached:
        await cached.put("a", b"1", seconds=60)
        assert await cached.get_many(["a"]) == [b"1"]
        valkey.kill()
        with pytest.raises(CacheAway):
            await cached.get_many(["a"])
        valkey.start()
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await cached.get_many(["a"]) in ([b"1"], [None])
                    break
                except CacheAway:
                    await asyncio.sleep(0.05)


async def test_the_breaker_lets_one_call_try_and_closes_when_it_succeeds() -> None:
    now = 0.0
    breaker = Breaker(clock=lambda: now)
    for _ in range(3):
        assert breaker.admit()
        breaker.failed()
    assert (breaker.is_open, breaker.admit()) == (True, False)
    now = 1.5
    assert (breaker.admit(), breaker.admit()) == (True, False)
    breaker.succeeded()
    assert breaker.admit()


async def test_a_cancelled_call_never_leaves_another_its_answer(redis_url: str) -> None:
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with RedisCache(redis_url, timeout_seconds=5) as direct:
        for number in range(50):
            await direct.put(f"canary:{number}", b"%d" % number, seconds=600)
    async with (
        proxy(redis_url, delay_seconds=0.002) as slow,
        RedisCache(slow, timeout_seconds=5) as cached,
        Cache(cached) as cache,
    ):

        async def through_the_cache(number: int) -> bytes | None:
            return (await cache.get([f"canary:{number}"]))[0]

        async def alone(number: int) -> bytes | None:
            return (await cached.get_many([f"canary:{number}"]))[0]

        answered = 0
        for _ in range(400):
            numbers = [chance.randrange(50) for _ in range(8)]
            calls = [
                asyncio.create_task((alone if chance.random() < 0.4 else through_the_cache)(number))
                for number in numbers
            ]
            await asyncio.sleep(chance.random() * 0.005)
            for call in calls:
                if chance.random() < 0.5:
                    call.cancel()
            results = await asyncio.gather(*calls, return_exceptions=True)
            for number, result in zip(numbers, results, strict=True):
                if isinstance(result, bytes):
                    answered += 1
                    assert result == b"%d" % number, seed
                else:
                    assert isinstance(result, asyncio.CancelledError), (seed, result)
    assert answered > 500
