"""
Builds by itself what must be built: a projection whose version in this program is newer than the live generation's,
and one whose rows rest on events that the log has lost.

An older program beside a newer one builds nothing: going back is an operator's decision. Nor does a newer one build
again what an operator has gone back from. The generation before the live one is kept for a while, and then dropped.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta

from event_store.checkpoints import Checkpoints
from event_store.log import EventLog
from infra.telemetry import log as logger
from infra.waiting import keep_at
from projectors.build import BeingBuilt, Build, Workshop
from projectors.generations import Generations
from projectors.runner import Kinds
from schemas.registry import Registry

LOOK_SECONDS = 5.0
KEPT = timedelta(days=7)
"""For how long one can swap back."""


class Upkeep:
    """Watches over the live generations of this program's projections."""

    def __init__(
        self,
        kinds: Kinds,
        registry: Registry,
        log: EventLog,
        generations: Generations,
        checkpoints: Checkpoints,
        *,
        kept: timedelta = KEPT,
    ) -> None:
        self._kept = kept
        self._kinds = kinds
        self._generations = generations
        self._shop = Workshop(log, registry, generations, checkpoints)
        self._void: dict[str, int] = {}
        self._wake = asyncio.Event()

    def rebuild(self, projection: str, generation: int) -> None:
        """Have a projection built anew, because what a generation of it rests on is not in the log any more."""
        self._void[projection] = generation
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Build what must be built, until `stop`."""
        await keep_at(
            self._step, stop, what="upkeep of generations", retry_seconds=LOOK_SECONDS, wake=self._wake
        )

    async def _step(self) -> float:
        await self._look()
        return LOOK_SECONDS

    async def _look(self) -> None:
        live = await self._generations.live()
        versions = {
            (row["projection"], row["generation"]): row["version"] for row in await self._generations.all()
        }
        for name, kind in self._kinds.items():
            if name not in live or live[name].version > kind.version:
                continue
            is_void = self._void.get(name) == live[name].generation
            was_left = versions.get((name, live[name].previous), -1) >= kind.version
            is_newer = live[name].version < kind.version and not was_left
            if live[name].paused or not (is_void or is_newer):
                await self._generations.drop_old(name, kept=self._kept)
                continue
            logger.info("building a new generation", projection=name, version=kind.version, void=is_void)
            with suppress(BeingBuilt):
                await Build(self._shop, kind).run(even_behind=is_void)
