"""
The ceiling of the log's interface: the same SQL function, driven by the least code that can drive it.

One connection, one event an append, each on a new stream; what does not change from append to append is made once.
It answers each caller and knows nothing of errors, checks of bounds, several streams or lost connections.
"""

import asyncio
import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import asyncpg
from uuid_utils import uuid7

from infra.sql import load_sql
from schemas.envelope import BEGINNING

PARTITION = 0
TENANT = "demo"
TYPE = "StockReceived"
BATCH_MAX = 500


class MinimalBatcher:
    """Whatever waits while a call is under way goes into the next one."""

    def __init__(
        self, connection: "asyncpg.Connection[Any]", namespace: str, data: bytes, metadata: bytes
    ) -> None:
        self._connection = connection
        self._call = load_sql("event_store", "sql/queries/append_batch.sql", namespace=namespace)
        self._octets = len(metadata), len(data)
        self._one = metadata + data
        self._waiting: list[asyncio.Future[int]] = []
        self._woken = asyncio.Event()

    async def append(self) -> int:
        """Append one event to a new stream, and return its position."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._woken.set()
        return await answer

    async def append_many(self, size: int) -> Any:
        """Append so many events, each to a new stream."""
        streams = "\x1f".join([f"stock/S1/{random.getrandbits(60):x}" for _ in range(size)])
        ids = "{" + ",".join([str(uuid7()) for _ in range(size)]) + "}"
        fixed = _fixed(size, *self._octets)
        return await self._connection.fetchrow(
            self._call, PARTITION, random.getrandbits(62), *BEGINNING, fixed.tenants, streams, self._one * size,
            *fixed.before_ids, ids, *fixed.after_ids,
        )  # fmt: skip

    async def run(self) -> None:
        """Carry out what waits, until cancelled."""
        while True:
            await self._woken.wait()
            batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
            if not self._waiting:
                self._woken.clear()
            reply = await self.append_many(len(batch))
            assert reply["_answers"] is None
            for position, answer in enumerate(batch, reply["_base"] + 1):
                answer.set_result(position)


class _Fixed:
    """The arguments of a batch of a size that are the same for every one."""

    def __init__(self, size: int, metadata: int, data: int) -> None:
        one = metadata + data
        self.tenants = "\x1f".join([TENANT] * size)
        numbers, ones, zeros = range(1, size + 1), [1] * size, [0] * size
        self.before_ids = (
            _figures(numbers), _figures(range(1, one * size, one)), _figures([metadata] * size), _figures(numbers),
            _figures(numbers), _figures(zeros), _figures(zeros), _figures(zeros), _figures(ones), _figures(numbers),
            _figures(ones),
        )  # fmt: skip
        self.after_ids = (
            "\x1f".join([TYPE] * size), _figures(ones), _figures(range(metadata + 1, one * size + 1, one)),
            _figures([data] * size), "{}", "{}", "", "", "{}", "{}", "{}", "{}", "{}", "", "{}", "{}", "{}", "", "",
            "{}", "{}", "{}", "{}",
        )  # fmt: skip


@lru_cache(maxsize=1_000)
def _fixed(size: int, metadata: int, data: int) -> _Fixed:
    return _Fixed(size, metadata, data)


def _figures(numbers: Sequence[int]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"
