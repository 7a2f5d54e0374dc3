"""
What the log needs done now and then: tables for the events to come, an end to keys that nobody may use any more, and
notes of where types and tenants occur, by which filtered reads find their way.

The relay does it, partition by partition as it holds them, because a relay always runs.
"""

import asyncio
import time
from datetime import timedelta
from typing import Protocol

from infra.telemetry import log
from schemas.errors import ServiceError

HOUSE_SECONDS = 60.0
FILL_SECONDS = 10.0
"""How far the notes may be behind the log: what was appended since is scanned by every filtered read."""


class House(Protocol):
    """A log that has such needs."""

    async def keep_house(self, partition: int, *, keys_kept: timedelta) -> None:
        """Do all of it."""
        ...

    async def fill_occurrences(self, partition: int) -> int:
        """Note where types and tenants occur in the next stretch of the log; return how many events were looked at."""
        ...


async def keep_house(house: House, partition: int, *, keys_kept: timedelta) -> None:
    """Keep house for one partition until cancelled; what fails is done the next time."""
    kept_at = float("-inf")
    while True:
        try:
            if time.monotonic() - kept_at >= HOUSE_SECONDS:
                await house.keep_house(partition, keys_kept=keys_kept)
                kept_at = time.monotonic()
            else:
                while await house.fill_occurrences(partition):
                    pass
        except ServiceError as error:
            log.warning("house not kept", partition=partition, error=repr(error))
        await asyncio.sleep(FILL_SECONDS)
