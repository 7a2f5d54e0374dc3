"""
What the log needs done now and then: tables for the events to come, and an end to keys that nobody may use any more.

The relay does it, partition by partition as it holds them, because a relay always runs.
"""

import asyncio
from datetime import timedelta
from typing import Protocol

from infra.telemetry import log
from schemas.errors import ServiceError

HOUSE_SECONDS = 60.0


class House(Protocol):
    """A log that has such needs."""

    async def keep_house(self, partition: int, *, keys_kept: timedelta) -> None:
        """Make the tables that a partition will need next, and drop idempotency keys that are old enough."""
        ...


async def keep_house(house: House, partition: int, *, keys_kept: timedelta) -> None:
    """Keep house for one partition until cancelled; what fails is done the next time."""
    while True:
        try:
            await house.keep_house(partition, keys_kept=keys_kept)
        except ServiceError as error:
            log.warning("house not kept", partition=partition, error=repr(error))
        await asyncio.sleep(HOUSE_SECONDS)
