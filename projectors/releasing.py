"""
Tries parked rows again by itself: once when a process starts, because it may be the build that can fold them, and then
now and then, because what could not be folded may have been no fault of the event.

An event parks with its error and with all that follow on its key; the row is folded anew as a whole, so what is
released is what a replay would make of it. A row that still cannot be folded stays as it is.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

from event_store.consumer import Held
from event_store.failures import NO_REPLY
from infra.sql import load_sql
from infra.telemetry import log as logger
from infra.waiting import keep_at
from projectors.folding import Place
from projectors.mend import mender_of
from projectors.read_side import ReadSide
from projectors.writing import decode_key
from schemas.errors import EpochChanged, Unavailable

LOOK_SECONDS = 2.0
RETRY_SECONDS = 900.0
TRIED_MAX = 20
"""How many rows are tried at a look: each is folded from the beginning."""
AWAY = (Unavailable, EpochChanged, Held, *NO_REPLY)


class Releasing:
    """Tries the parked rows of the partitions that a process holds."""

    def __init__(self, side: ReadSide, partitions: Callable[[], Sequence[int]]) -> None:
        self._side = side
        self._partitions = partitions
        self._started = time.monotonic()
        self._tried: dict[tuple[str, Place], float] = {}
        self._sql = partial(load_sql, "projectors", namespace=side.settings.namespace)

    async def run(self, stop: asyncio.Event) -> None:
        """Try until `stop`."""
        await keep_at(self._step, stop, what="trying parked rows", retry_seconds=LOOK_SECONDS, passing=AWAY)

    async def _step(self) -> float:
        await self.look()
        return LOOK_SECONDS

    async def look(self) -> None:
        """Try what was parked before this process began, and what was last tried long ago."""
        side, now = self._side, time.monotonic()
        live = await side.generations.live()
        names = [
            name for name, kind in side.kinds.items() if name in live and live[name].version == kind.version
        ]
        waits_seconds = min(now - self._started, RETRY_SECONDS)
        rows = await side.pool.fetch(
            self._sql("sql/parked_places.sql"), names, list(self._partitions()), waits_seconds
        )
        places = (
            (row["consumer"], Place(row["table_name"], row["tenant"], decode_key(row["key"]))) for row in rows
        )
        due = (one for one in places if now - self._tried.get(one, -RETRY_SECONDS) >= RETRY_SECONDS)
        for name, place in islice(due, TRIED_MAX):
            self._tried[name, place] = now
            done = await (await mender_of(side, side.kinds[name])).mend(place)
            logger.info("parked row tried again", projection=name, key=list(place.key), done=done)
        self._tried = {place: when for place, when in self._tried.items() if now - when < RETRY_SECONDS}
