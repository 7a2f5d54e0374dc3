"""
Builds by itself what must be built: a projection whose version in this program is newer than the live generation's,
and one whose rows rest on events that the log has lost.

An older program beside a newer one builds nothing: going back is an operator's decision.
"""

import asyncio
from contextlib import suppress

from event_store.checkpoints import Checkpoints
from event_store.log import EventLog
from infra.telemetry import log as logger
from projectors.build import BeingBuilt, Build, Workshop
from projectors.generations import Generations
from projectors.runner import Kinds
from schemas.registry import Registry

LOOK_SECONDS = 5.0


class Upkeep:
    """Watches over the live generations of this program's projections."""

    def __init__(
        self,
        kinds: Kinds,
        registry: Registry,
        log: EventLog,
        generations: Generations,
        checkpoints: Checkpoints,
    ) -> None:
        self._kinds = kinds
        self._generations = generations
        self._shop = Workshop(log, registry, generations, checkpoints)
        self._void: set[str] = set()
        self._wake = asyncio.Event()

    def rebuild(self, projection: str) -> None:
        """Have a projection built anew, because what it rests on is not in the log any more."""
        self._void.add(projection)
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Build what must be built, until `stop`."""
        work = asyncio.create_task(self._run(), name="upkeep")
        try:
            await stop.wait()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except Exception as error:
                logger.exception("upkeep failed, trying again", error=repr(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            self._wake.clear()

    async def _look(self) -> None:
        live = await self._generations.live()
        for name, kind in self._kinds.items():
            is_void = name in self._void
            if name not in live or live[name].paused or not (is_void or live[name].version < kind.version):
                continue
            logger.info("building a new generation", projection=name, version=kind.version, void=is_void)
            with suppress(BeingBuilt):
                await Build(self._shop, kind).run(even_behind=is_void)
                self._void.discard(name)
