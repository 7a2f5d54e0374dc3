"""Redis flushed, killed, hanging, or slow while requests are cancelled: answers are right all the same."""

import asyncio
import random
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from infra.embedded.ports import free_port
from infra.embedded.server import RunningServer, running
from infra.embedded.valkey import ValkeyServer
from infra.patient_redis import PatientRedis
from infra.redis import TIMEOUT_SECONDS, Breaker, CacheAway, RedisCache
from query_api.cache import Cache
from tests.chaos.cancelled_calls import cancelled_on_postgres, cancelled_on_redis, proxy
from tests.integration.query_api.readside import ReadSideUnderTest


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


async def test_a_tool_waits_for_a_redis_that_stands_still(valkey: RunningServer) -> None:
    async with PatientRedis(valkey.url, try_seconds_max=0.2) as patient:
        await patient.put("a", b"1", seconds=60)
        valkey.process.send_signal(signal.SIGSTOP)
        try:
            answers = asyncio.gather(
                patient.get_many(["a"]), patient.run("return 7", [], []), patient.delete_matching("b*")
            )
            done, _ = await asyncio.wait([answers], timeout=1)
            assert not done
        finally:
            valkey.process.send_signal(signal.SIGCONT)
        assert list(await answers) == [[b"1"], 7, 0]


async def test_a_tool_says_what_it_has_tried_in_vain(redis_url: str) -> None:
    async with (
        proxy(redis_url, swallows=True) as hanging,
        PatientRedis(hanging, try_seconds_max=0.1, call_seconds_max=0.5) as patient,
    ):
        with pytest.raises(CacheAway) as raised:
            await patient.get_many(["a"])
    said = r"Redis does not answer in time: .*; tried \d+ times\."
    assert re.fullmatch(said, str(raised.value)), str(raised.value)
    assert "TimeoutError" not in str(raised.value)


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


async def test_a_cancelled_call_never_leaves_another_its_answer(redis_url: str, postgres_url: str) -> None:
    """F47; `python -m tests.chaos.stale_reads` cancels a hundred thousand."""
    seed = random.randrange(10**9)

    assert await cancelled_on_redis(redis_url, count=3_200, seed=seed) > 500
    assert await cancelled_on_postgres(postgres_url, count=400, seed=seed) > 50


async def test_a_full_redis_that_takes_nothing_more_still_answers_what_it_has(  # F44
    store_url: str, valkey: RunningServer, tmp_path: Path
) -> None:
    async with ReadSideUnderTest(store_url, valkey.url, tmp_path) as side:
        await side.open_account("A-1", 7)
        await side.apply()
        assert (await side.client.get("/v1/accounts/A-1")).headers["cache-status"] == "everfold; hit"
        with redis.Redis.from_url(valkey.url) as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1")
            for _ in range(10):
                assert (await side.client.get("/v1/accounts")).json()["items"][0]["balance_cents"] == 7
            assert (await side.client.get("/v1/accounts/A-1")).headers["cache-status"] == "everfold; hit"
            client.config_set("maxmemory", "0")


async def test_while_redis_evicts_every_answer_is_right(  # F44
    store_url: str, valkey: RunningServer, tmp_path: Path
) -> None:
    seed = random.randrange(10**9)
    chance = random.Random(seed)
    async with ReadSideUnderTest(store_url, valkey.url, tmp_path) as side:
        expected = {f"A-{number}": number for number in range(20)}
        for account_id, cents in expected.items():
            await side.open_account(account_id, cents)
        await side.apply()
        with redis.Redis.from_url(valkey.url) as client:
            client.config_set("maxmemory-policy", "allkeys-random")
            client.config_set("maxmemory", str(client.info("memory")["used_memory"] + 100_000))
            for number in range(150):
                account_id = chance.choice(list(expected))
                expected[account_id] += 1
                token = await side.deposit(account_id)
                with suppress(CacheAway):  # the rows are there all the same
                    await side.apply()
                with suppress(redis.ResponseError):  # full, and nothing left that it could evict
                    client.set(f"noise:{number}", b"x" * 2_000)
                headers = {"everfold-position": token}
                some = chance.choice(list(expected))
                one = await side.client.get(f"/v1/accounts/{some}", headers=headers)
                many = await side.client.get("/v1/wealth", headers=headers)
                assert one.json()["balance_cents"] == expected[some], seed
                assert many.json() == {"accounts": 20, "cents": sum(expected.values())}, seed
            assert client.info("stats")["evicted_keys"] > 0


async def test_a_fail_over_to_a_late_redis_takes_no_read_back(  # F46
    store_url: str, valkey: RunningServer, tmp_path: Path
) -> None:
    """What the replica had not received yet is lost, while the query API and the projector go on with it."""
    late = ValkeyServer(tmp_path / "late", free_port())
    place = urlsplit(valkey.url)
    with running(late) as replica, redis.Redis.from_url(replica.url) as second:
        target = place
        async with (
            swapped(lambda: target.geturl()) as url,
            ReadSideUnderTest(store_url, url, tmp_path) as side,
        ):
            await side.open_account("A-1", 0)
            await side.apply()
            second.replicaof(place.hostname, str(place.port))
            async with asyncio.timeout(20):
                while second.info("replication")["master_link_status"] != "up":
                    await asyncio.sleep(0.05)
                while second.dbsize() < redis_size(valkey.url):
                    await asyncio.sleep(0.05)
            second.replicaof("NO", "ONE")  # from here on it is late: what follows never gets there
            token = ""
            for _ in range(5):
                token = await side.deposit("A-1")
                await side.apply()
            before = await side.client.get("/v1/accounts/A-1", headers={"everfold-position": token})
            assert before.json()["balance_cents"] == 5
            target = urlsplit(replica.url)
            valkey.kill()
            for number in range(6, 40):
                if number % 3 == 0:
                    answer = await side.client.get("/v1/accounts/A-1", headers={"everfold-position": token})
                    assert answer.json()["balance_cents"] == number - 1
                token = await side.deposit("A-1")
                await side.apply(to_cache=False)
                if number % 2:
                    await side.apply()
                for path in ("/v1/accounts/A-1", "/v1/accounts", "/v1/wealth"):
                    answer = await side.client.get(path, headers={"everfold-position": token})
                    assert answer.status_code == 200, answer.text
                    body = answer.json()
                    body = body["items"][0] if "items" in body else body
                    assert body.get("balance_cents", body.get("cents")) == number


def redis_size(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.dbsize())


@asynccontextmanager
async def swapped(target: Callable[[], str]) -> AsyncIterator[str]:
    """An address behind which new connections go to whatever server is the target now, as after a fail-over."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = urlsplit(target())
        try:
            there, back = await asyncio.open_connection(place.hostname, place.port)
        except OSError:
            writer.close()
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pump(reader, back))
            tasks.create_task(pump(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    server.close()
