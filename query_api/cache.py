"""
Redis as the readers see it: one MGET for all requests of a loop turn, and fills that never bring back the past.

Nobody's request owns a connection here. Keys are collected while the loop turns, asked for by a task of its own,
and each request takes its part of the answer; so a request that is cancelled leaves nothing behind that another
could read by mistake. Fills run in the background, bounded: a lost fill is only a later miss.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

from infra.documents import (
    FILL,
    MARK_SECONDS,
    Kind,
    Mark,
    Place,
    decode_mark,
    encode,
)
from infra.redis import CacheAway, RedisCache
from infra.telemetry import Counter
from schemas.envelope import CommitMark

KEYS_PER_CALL_MAX = 1_000
FILLS_WAITING_MAX = 1_000
FILLS_TOGETHER_MAX = 64
TURN_END = resources.files("infra").joinpath("lua", "turn_end.lua").read_text()

FILLS_DROPPED = Counter("everfold_query_fills_dropped_total", "Fills of the cache that were given up")

Values = Sequence[bytes | None]
mark_of = lru_cache(maxsize=4_096)(decode_mark)


class Fill(NamedTuple):
    """Values that were read from the tables at a checkpoint."""

    mark_key: str
    as_of: CommitMark
    values: Mapping[str, bytes]
    seconds: int


class Page(NamedTuple):
    """A list's page under a key that says all that it depends on."""

    key: str
    value: bytes
    seconds: int


class Turn(NamedTuple):
    """Somebody's right to load what others wait for."""

    key: str
    holder: bytes


class TurnChange(NamedTuple):
    """What becomes of a turn."""

    turn: Turn
    milliseconds: int
    says: bytes


Chore = Fill | Page | TurnChange


class Cache:
    """The readers' side of Redis; runs its fills while the block runs."""

    def __init__(self, redis: RedisCache) -> None:
        self._redis = redis
        self._keys: dict[str, int] = {}
        self._asked: list[tuple[Sequence[str], asyncio.Future[Values]]] = []
        self._calls: set[asyncio.Task[None]] = set()
        self._fills: asyncio.Queue[Chore] = asyncio.Queue(FILLS_WAITING_MAX)
        self._filler: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Cache":
        self._filler = asyncio.create_task(self._keep_filling(), name="fill cache")
        return self

    async def __aexit__(self, *_exception: object) -> None:
        tasks = [*self._calls, *([self._filler] if self._filler else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def get(self, keys: Sequence[str]) -> "asyncio.Future[Values]":
        """
        Return the values of keys as they are at one moment, together with all that this loop turn asks for.

        Raises:
            CacheAway: Redis does not answer in time (when awaited).
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Values] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._send)
        elif len(self._keys) >= KEYS_PER_CALL_MAX:
            self._send()
            loop.call_soon(self._send)
        for key in keys:
            self._keys.setdefault(key, len(self._keys))
        self._asked.append((keys, answer))
        return answer

    def _send(self) -> None:
        if not self._asked:
            return
        keys, asked = self._keys, self._asked
        self._keys, self._asked = {}, []
        call = asyncio.create_task(self._call(keys, asked))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _call(
        self, keys: Mapping[str, int], asked: Sequence[tuple[Sequence[str], "asyncio.Future[Values]"]]
    ) -> None:
        try:
            values = await self._redis.get_many(list(keys))
        except BaseException as error:
            away = error if isinstance(error, CacheAway) else CacheAway(repr(error))
            for _, answer in asked:
                if not answer.done():
                    answer.set_exception(away)
            if not isinstance(error, CacheAway):
                raise
            return
        for wanted, answer in asked:
            if not answer.done():
                answer.set_result([values[keys[key]] for key in wanted])

    def fill(
        self, place: Place, partition: int, as_of: CommitMark, values: Mapping[str, bytes], *, seconds: int
    ) -> None:
        """Put what was read from the tables at a checkpoint, soon, unless the cache may know better."""
        self._soon(Fill(place.mark(partition), as_of, values, seconds))

    def put_page(self, key: str, value: bytes, *, seconds: int) -> None:
        """Put a page under a key that says all that it depends on, soon."""
        self._soon(Page(key, value, seconds))

    async def take(self, turn: Turn, milliseconds: int) -> bytes | None:
        """
        Take a turn for a while and return None; or what the turn that stands says.

        Raises:
            CacheAway: Redis does not answer in time.
        """
        return await self._redis.set_if_absent(turn.key, turn.holder, milliseconds=milliseconds)

    def change(self, turn: Turn, milliseconds: int, says: bytes) -> None:
        """Have a turn go on for a while, or end it, after what was put before."""
        self._soon(TurnChange(turn, milliseconds, says))

    def _soon(self, chore: Chore) -> None:
        try:
            self._fills.put_nowait(chore)
        except asyncio.QueueFull:
            FILLS_DROPPED.inc()

    async def _keep_filling(self) -> None:
        while True:
            chores = [await self._fills.get()]
            while len(chores) < FILLS_TOGETHER_MAX and not self._fills.empty():
                chores.append(self._fills.get_nowait())
            await asyncio.gather(*map(self._do, chores))

    async def _do(self, chore: Chore) -> None:
        try:
            await self._fill(chore)
        except CacheAway:
            FILLS_DROPPED.inc()
        finally:
            self._fills.task_done()

    async def _fill(self, chore: Chore) -> None:
        match chore:
            case Page(key, value, seconds):
                await self._redis.put(key, value, seconds=seconds)
            case Fill(mark_key, as_of, values, seconds):
                mark = Mark(*(as_of.position,) * 3, as_of.hash[:4].hex()).encode()
                said: list[bytes | str | int] = [as_of.position, mark, seconds, MARK_SECONDS]
                await self._redis.run_piped(FILL, [mark_key, *values], [*said, *values.values()])
            case TurnChange(turn, milliseconds, says):
                await self._redis.run_piped(TURN_END, [turn.key], [turn.holder, milliseconds, says])

    async def filled(self) -> None:
        """Wait until what is to be put has been put."""
        await self._fills.join()


def document_value(as_of: CommitMark, data: bytes | None) -> bytes:
    """Return the value of a row that was read at a checkpoint; None: there was none."""
    return encode(Kind.GONE, as_of) if data is None else encode(Kind.THERE, as_of, data)


__all__ = ["Cache", "CacheAway", "Fill", "Page", "Turn", "TurnChange", "Values", "document_value", "mark_of"]
