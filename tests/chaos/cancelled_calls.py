"""
Calls that are cancelled at random between command and reply, on Redis and on PostgreSQL: no other call ever gets what
was meant for them (F47). Every call asks for a canary of its own number, through a proxy that delays what comes back.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from infra.redis import RedisCache
from query_api.cache import Cache
from query_api.replicas import Server
from schemas.errors import StoreUnavailable

CANARIES = 50
TOGETHER = 8
DELAY_SECONDS = 0.002
Call = Callable[[int], Awaitable[bytes | None]]


@asynccontextmanager
async def proxy(target: str, *, delay_seconds: float = 0.0, swallows: bool = False) -> AsyncIterator[str]:
    """A TCP proxy in front of a server that delays what comes back, or lets nothing through."""
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
    account = place.netloc.rpartition("@")[0]
    yield place._replace(netloc=f"{account}{'@' if account else ''}127.0.0.1:{port}").geturl()
    server.close()


async def cancel_at_random(calls: list[Call], *, count: int, seed: int) -> int:
    """Make some calls, half of which are cancelled, and return how many were answered; fails on another's answer."""
    chance = random.Random(seed)
    answered = 0
    for _ in range(count // TOGETHER):
        numbers = [chance.randrange(CANARIES) for _ in range(TOGETHER)]
        tasks = [asyncio.ensure_future(chance.choice(calls)(number)) for number in numbers]
        await asyncio.sleep(chance.random() * 0.005)
        for task in tasks:
            if chance.random() < 0.5:
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for number, result in zip(numbers, results, strict=True):
            if isinstance(result, bytes):
                answered += 1
                assert result == b"%d" % number, (seed, number, result)
            else:
                assert isinstance(result, asyncio.CancelledError), (seed, result)
    return answered


async def cancelled_on_redis(url: str, *, count: int, seed: int) -> int:
    """Cancel reads of Redis, alone and together with others of a turn of the loop."""
    async with RedisCache(url, timeout_seconds=5) as direct:
        for number in range(CANARIES):
            await direct.put(f"canary:{number}", b"%d" % number, seconds=3_600)
    async with (
        proxy(url, delay_seconds=DELAY_SECONDS) as slow,
        RedisCache(slow, timeout_seconds=5) as cached,
        Cache(cached) as cache,
    ):

        async def through_the_cache(number: int) -> bytes | None:
            return (await cache.get([f"canary:{number}"]))[0]

        async def alone(number: int) -> bytes | None:
            return (await cached.get_many([f"canary:{number}"]))[0]

        async def by_script(number: int) -> bytes | None:
            script = "return redis.call('GET', KEYS[1])"
            found: bytes | None = await cached.run_piped(script, [f"canary:{number}"], [])
            return found

        return await cancel_at_random([through_the_cache, alone, by_script], count=count, seed=seed)


async def cancelled_on_postgres(url: str, *, count: int, seed: int) -> int:
    """Cancel reads of a PostgreSQL server."""
    async with proxy(url, delay_seconds=DELAY_SECONDS) as slow:
        server = Server(slow, "canary", statement_seconds_max=30)

        async def ask(number: int) -> bytes | None:
            try:
                rows = await server.fetch("SELECT $1::text AS canary", [str(number)])
            except StoreUnavailable as error:  # all connections are being made anew
                raise asyncio.CancelledError from error
            canary: str = rows[0]["canary"]
            return canary.encode()

        try:
            return await cancel_at_random([ask], count=count, seed=seed)
        finally:
            await server.close()
