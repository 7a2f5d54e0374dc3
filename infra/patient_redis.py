"""
Redis for operators' tools: nobody's request waits for them, and what they are about must reach it.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from infra.redis import Answer, CacheAway, RedisCache
from infra.redis_pipe import RedisPipe

TRY_SECONDS_MAX, CALL_SECONDS_MAX, PAUSE_SECONDS_MAX = 5.0, 30.0, 2.0
"""How long one try may take; how long there are further ones; how long it is between two."""


class PatientRedis(RedisCache):
    """A Redis server that is waited for, and asked again. So only what may be done twice is done through it."""

    def __init__(
        self,
        url: str,
        *,
        try_seconds_max: float = TRY_SECONDS_MAX,
        call_seconds_max: float = CALL_SECONDS_MAX,
    ) -> None:
        super().__init__(url, timeout_seconds=try_seconds_max)
        self._call_seconds_max = call_seconds_max

    async def _call(self, *command: Any) -> Any:
        return await self._patiently(super()._call, *command)

    async def _closing(
        self, pipe: RedisPipe, name: str, call: Callable[..., Awaitable[Answer]], *arguments: Any
    ) -> Answer:
        return await self._patiently(super()._closing, pipe, name, call, *arguments)

    async def _patiently(self, call: Callable[..., Awaitable[Answer]], *arguments: Any) -> Answer:
        tries = AsyncRetrying(
            retry=retry_if_exception_type(CacheAway),
            wait=wait_random_exponential(multiplier=0.1, max=PAUSE_SECONDS_MAX),
            stop=stop_after_delay(self._call_seconds_max),
            retry_error_callback=_given_up,
        )
        answer: Answer = await tries(call, *arguments)
        return answer


def _given_up(state: RetryCallState) -> None:
    """Raise what the last try has raised, and say how many there were."""
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, CacheAway)  # nothing else is tried again
    raise CacheAway(f"{error.problem}; tried {state.attempt_number} times") from error
