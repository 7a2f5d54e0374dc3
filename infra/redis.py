"""
The connection to Redis (or Valkey): short time-outs, a breaker, and no waiting for what is away.

Redis only ever saves work here, so every call either answers within `TIMEOUT_SECONDS` or raises `CacheAway`,
and after a few failures in a row the breaker says so at once for a while. Nobody is ever given a reply that was
meant for another: reads keep their places in one pipe (`redis_pipe.py`), and any other connection whose call was
cancelled or timed out is closed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Self, TypeVar

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from infra.redis_pipe import PipeRefused, RedisPipe
from infra.telemetry import Counter, log
from schemas.errors import Unavailable

TIMEOUT_SECONDS = 0.1
CONNECTIONS_MAX = 16
FAILURES_MAX = 3
SCANNED_TOGETHER = 1_000
OPEN_SECONDS = 1.0
FAILURES = Counter("everfold_redis_failures_total", "Calls to Redis that failed or timed out")
Clock = Callable[[], float]
Answer = TypeVar("Answer")


@dataclass(eq=False)
class CacheAway(Unavailable):
    """Redis does not answer in time."""

    problem: str = ""

    def detail(self) -> str:
        """Return what is known of why."""
        return f"{self.title().rstrip('.')}: {self.problem}." if self.problem else self.title()


class Breaker:
    """Closed while calls succeed; after some failures in a row open for a while, then one call tries."""

    def __init__(self, *, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether calls are refused now."""
        return self._failures >= FAILURES_MAX and self._clock() < self._open_until

    def admit(self) -> bool:
        """Return whether a call may go ahead; after the pause only the first may, until it has answered."""
        if self._failures < FAILURES_MAX:
            return True
        if self._clock() < self._open_until:
            return False
        self._open_until = self._clock() + OPEN_SECONDS
        return True

    def succeeded(self) -> None:
        """Take note of an answer."""
        self._failures = 0

    def failed(self) -> None:
        """Take note of a failure."""
        self._failures += 1
        if self._failures >= FAILURES_MAX:
            self._open_until = self._clock() + OPEN_SECONDS


class RedisCache(AbstractAsyncContextManager["RedisCache"]):
    """A Redis server as a cache: every call may raise `CacheAway`."""

    def __init__(
        self, url: str, *, timeout_seconds: float = TIMEOUT_SECONDS, breaker: Breaker | None = None
    ) -> None:
        self._client: Any = redis.asyncio.Redis.from_url(
            url,
            # The bound on a whole call is ours. The library's own waits with asyncio.wait_for, which on Python 3.11
            # loses cancellations, and takes a task for every command.
            socket_timeout=None,
            socket_connect_timeout=timeout_seconds,
            max_connections=CONNECTIONS_MAX,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._pipe = RedisPipe(url)
        self._fills = RedisPipe(url)
        self._timeout_seconds = timeout_seconds
        self.breaker = breaker or Breaker()
        self._digests: dict[str, str] = {}

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def __aenter__(self) -> Self:
        return self

    async def close(self) -> None:
        """Close every connection."""
        self._pipe.close()
        self._fills.close()
        await self._client.aclose()

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """
        Return the values of keys, in order, as they were at one moment.

        Raises:
            CacheAway: No answer in time.
        """
        return await self._closing(self._pipe, "MGET", self._pipe.get_many, keys)

    async def set_if_absent(self, key: str, value: bytes, *, milliseconds: int) -> bytes | None:
        """
        Set a key for some time, and return None; or what it holds already.

        Raises:
            CacheAway: No answer in time, or the server does not take it.
        """
        found: bytes | None = await self._piped("SET", key, value, "NX", "PX", milliseconds, "GET")
        return found

    async def put(self, key: str, value: bytes, *, seconds: int) -> None:
        """
        Set a key for some time.

        Raises:
            CacheAway: No answer in time.
        """
        await self._piped("SET", key, value, "EX", seconds)

    async def delete_matching(self, pattern: str, wanted: Callable[[bytes], bool] = lambda _key: True) -> int:
        """
        Delete the keys that match a pattern, and return how many there were; for operators, since it looks at all keys.

        `wanted` says of each whether it is meant.

        Raises:
            CacheAway: No answer in time.
        """
        cursor, deleted = b"0", 0
        while True:
            cursor, keys = await self._call("SCAN", cursor, "MATCH", pattern, "COUNT", SCANNED_TOGETHER)
            if keys := [key for key in keys if wanted(key)]:
                deleted += await self._call("UNLINK", *keys)
            if cursor in (0, b"0"):
                return deleted

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> Any:
        """
        Run a Lua script, which the server keeps by its hash.

        Raises:
            CacheAway: No answer in time.
        """
        return await self._run(self._call, script, keys, arguments)

    async def run_piped(
        self, script: str, keys: Sequence[str], arguments: Sequence[bytes | str | int]
    ) -> Any:
        """
        Run a short Lua script among many: all share one connection, and its order.

        Raises:
            CacheAway: No answer in time.
        """
        return await self._run(self._piped, script, keys, arguments)

    async def _run(
        self,
        call: Callable[..., Awaitable[Any]],
        script: str,
        keys: Sequence[str],
        arguments: Sequence[bytes | str | int],
    ) -> Any:
        digest = self._digests.get(script)
        if digest is None:
            digest = self._digests[script] = sha1(script.encode(), usedforsecurity=False).hexdigest()
        try:
            return await call("EVALSHA", digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return await call("EVAL", script, len(keys), *keys, *arguments)

    async def _piped(self, *command: Any) -> Any:
        return await self._closing(self._fills, command[0], self._ask, *command)

    async def _ask(self, *command: Any) -> Any:
        try:
            return await self._fills.ask(*command)
        except PipeRefused as refused:
            text = str(refused)
            raise (NoScriptError if text.startswith("NOSCRIPT") else ResponseError)(text) from refused

    async def _closing(
        self, pipe: RedisPipe, name: str, call: Callable[..., Awaitable[Answer]], *arguments: Any
    ) -> Answer:
        """Make one call; a connection on which a reply is overdue is ended."""
        try:
            return await self._bounded(name, call, *arguments)
        except CacheAway as error:
            if isinstance(error.__cause__, TimeoutError):
                pipe.close()
            raise

    async def _call(self, *command: Any) -> Any:
        return await self._bounded(command[0], self._client.execute_command, *command)

    async def _bounded(self, name: str, call: Callable[..., Awaitable[Answer]], *arguments: Any) -> Answer:
        """Make one call within its time; whatever it comes to, the breaker learns of it."""
        if not self.breaker.admit():
            raise CacheAway("the breaker is open")
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = await call(*arguments)
        except NoScriptError:
            self.breaker.succeeded()
            raise
        except ResponseError as error:  # it answers, if only that it will not: full, or a replica
            self.breaker.succeeded()
            raise CacheAway(str(error)) from error
        except (RedisError, OSError, TimeoutError) as error:
            FAILURES.inc()
            self.breaker.failed()
            problem = str(error) or type(error).__name__
            if isinstance(error, TimeoutError):
                problem = f"no reply to {name} within {self._timeout_seconds:g} s"
            if self.breaker.is_open:
                log.warning("redis is away", command=name, error=problem)
            raise CacheAway(problem) from error
        self.breaker.succeeded()
        return answer
