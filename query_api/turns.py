"""
One load of each answer at a time over all processes: who loads says so in Redis, and others look for what it leaves.

A turn is a key with a short life. Its holder prolongs it while the load goes on, so a killed one keeps nobody for
longer than `TURN_MILLISECONDS`. It ends after the answer has been put into the cache; an answer that cannot be kept
leaves the word that everybody has to load by himself for a while, so that they do not queue for nothing. It saves
work and decides nothing: without Redis, or when the wait is over, everybody loads.
"""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

from query_api.answers import Answer
from query_api.cache import Cache, CacheAway, Turn

TURN_MILLISECONDS = 1_000
PROLONG_SECONDS = 0.4
NOT_KEPT_MILLISECONDS = 1_000
WAIT_SECONDS_MAX = 2.0
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.002, 0.02
NOT_KEPT = b"-"

Loaded = tuple[Answer, bool]
"""An answer, and whether it has been given to the cache."""
Load = Callable[[], Awaitable[Loaded]]
Look = Callable[[], Awaitable[Answer | None]]


async def load_in_turn(cache: Cache, key: str, load: Load, look: Look) -> Answer:
    """Return what `load` returns, or what `look` finds once another process has loaded it."""
    turn = Turn(key, uuid4().bytes)
    loop = asyncio.get_running_loop()
    until, pause = loop.time() + WAIT_SECONDS_MAX, PAUSE_SECONDS_MIN
    while True:
        try:
            standing = await cache.take(turn, TURN_MILLISECONDS)
        except CacheAway:
            return (await load())[0]
        if standing is None:
            return await _load_and_end(cache, turn, load)
        if standing == NOT_KEPT or loop.time() >= until:
            return (await load())[0]
        await asyncio.sleep(pause)
        pause = min(2 * pause, PAUSE_SECONDS_MAX)
        if (answer := await look()) is not None:
            return answer


async def _load_and_end(cache: Cache, turn: Turn, load: Load) -> Answer:
    loading = asyncio.ensure_future(_awaited(load))
    try:
        while not (await asyncio.wait([loading], timeout=PROLONG_SECONDS))[0]:
            cache.change(turn, TURN_MILLISECONDS, turn.holder)
        answer, is_kept = loading.result()
    except BaseException:
        loading.cancel()
        cache.change(turn, 0, b"")
        raise
    cache.change(turn, 0 if is_kept else NOT_KEPT_MILLISECONDS, NOT_KEPT)
    return answer


async def _awaited(load: Load) -> Loaded:
    return await load()
