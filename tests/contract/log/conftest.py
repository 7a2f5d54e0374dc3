"""Both implementations of the log; every test of this folder runs on each."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from event_store.memory import MemoryLog
from event_store.postgres import PostgresLog

PARTITIONS = 8


@pytest.fixture(params=["memory", "postgres"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[MemoryLog | PostgresLog]:
    """An empty log."""
    if request.param == "memory":
        yield MemoryLog(PARTITIONS)
        return
    url: Any = request.getfixturevalue("store_url")
    async with PostgresLog({range(PARTITIONS): url}) as log:
        yield log
