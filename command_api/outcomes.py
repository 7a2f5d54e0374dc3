"""
Appends a batch and finds out what became of it, also when the connection was lost while committing.

A lost connection is neither success nor failure. The log is asked about each append, under the partition's
lock, until it answers or the time is over; only then is the client told that the outcome is unknown.
"""

import asyncio
from collections.abc import Sequence

from command_api.state_cache import StateCache
from event_store.log import Append, EventLog, Outcome
from infra.failpoints import failpoint
from infra.telemetry import Histogram, log, span
from schemas.errors import (
    EpochChanged,
    OutcomeUnknown,
    ServiceError,
    StoreUnavailable,
    TenantMoving,
    TooLarge,
    Unavailable,
)

STORE_ATTEMPTS_MAX = 3
STORE_PAUSE_SECONDS = 0.05
SETTLE_SECONDS_MAX = 10.0
SETTLE_PAUSE_SECONDS = 0.1

_seconds = Histogram(
    "everfold_append_seconds",
    "Time of one append of a batch",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 10),
)

NOTHING_WRITTEN = (EpochChanged, StoreUnavailable, TooLarge)


class FailedTogether(ServiceError, slug=ServiceError.slug):
    """Something of ours went wrong."""


Result = Outcome | ServiceError | None
"""None: not appended, and may be tried again. `FailedTogether`: something unforeseen in the batch was at fault."""


class Appender:
    """The pipeline's way to the log."""

    def __init__(
        self, event_log: EventLog, cache: StateCache, *, settle_seconds_max: float = SETTLE_SECONDS_MAX
    ) -> None:
        self._log, self._cache, self._settle_seconds_max = event_log, cache, settle_seconds_max

    async def append(self, partition: int, appends: Sequence[Append]) -> Sequence[Result]:
        """
        Return what became of each append.

        Raises:
            EpochChanged, TooLarge, Unavailable: Nothing was written.
        """
        if not appends:
            return ()
        known = self._cache.mark(partition)
        with _seconds.time(), span("append", partition=partition, commands=len(appends)):
            for attempt in range(1, STORE_ATTEMPTS_MAX + 1):
                try:
                    failpoint("pipeline.before_append")
                    outcomes = await self._log.append_batch(partition, appends, known=known)
                    failpoint("pipeline.after_commit")
                    return outcomes
                except OutcomeUnknown:
                    return await self._find_out(partition, appends)
                except StoreUnavailable:
                    if attempt == STORE_ATTEMPTS_MAX:
                        raise
                    await asyncio.sleep(STORE_PAUSE_SECONDS * attempt)
                except NOTHING_WRITTEN:
                    raise
                except TenantMoving:
                    if len({append.tenant for append in appends}) == 1:
                        raise
                    return [FailedTogether() for _ in appends]
                except Unavailable:  # of what some of the appends need besides the log: keys, for instance
                    if len(appends) == 1:
                        raise
                    return [FailedTogether() for _ in appends]
                except Exception as error:
                    log.error("append failed", partition=partition, commands=len(appends), exc_info=error)
                    found = await self._find_out(partition, appends)
                    return [FailedTogether() if result is None else result for result in found]
        raise StoreUnavailable

    async def _find_out(self, partition: int, appends: Sequence[Append]) -> Sequence[Result]:
        log.warning("append's outcome unknown", partition=partition, commands=len(appends))
        deadline = asyncio.get_running_loop().time() + self._settle_seconds_max
        return [await self._find_out_one(partition, append, deadline) for append in appends]

    async def _find_out_one(self, partition: int, append: Append, deadline: float) -> Result:
        clock = asyncio.get_running_loop().time
        while clock() < deadline:
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._log.settle(partition, append)
            except (StoreUnavailable, OutcomeUnknown, TimeoutError):
                await asyncio.sleep(min(SETTLE_PAUSE_SECONDS, max(0.0, deadline - clock())))
        return OutcomeUnknown()
