"""
Which projections are live in this process, and the members that keep them up to date.

The live generation of each projection is a number in the database; when it changes, the members change with it: the
new one starts at its own checkpoint, catches up by itself, and joins the others.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from event_store.checkpoints import Checkpoint, Checkpoints
from event_store.consumer import Member, recorded_at_of
from event_store.failures import NO_REPLY
from event_store.log import Page
from event_store.wake import Listener
from infra.telemetry import log
from projectors.binaries import group_of, is_folded_by
from projectors.decoding import Decoder
from projectors.fold_workers import FoldWorkers
from projectors.generations import Generations, Live
from projectors.joint_writes import JointWrites
from projectors.live import Applied, LiveMember
from projectors.projection import Projection, Row
from projectors.tables import read_tables
from projectors.writing import Writer
from schemas.registry import Registry

LOOK_SECONDS = 1.0

Kinds = Mapping[str, type[Projection[Row]]]


class LiveProjections:
    """The members that the live generations mean. Follows the database; `of` and `generation` never wait."""

    def __init__(
        self,
        kinds: Kinds,
        registry: Registry,
        generations: Generations,
        checkpoints: Checkpoints,
        *,
        applied: Callable[[Applied], None] = lambda _applied: None,
        epoch_changed: Callable[[str, int], None] = lambda _projection, _generation: None,
        workers: FoldWorkers | None = None,
    ) -> None:
        self._kinds = kinds
        self._registry = registry
        self._generations = generations
        self._checkpoints = checkpoints
        self._applied = applied
        self._epoch_changed = epoch_changed
        self._workers = workers
        self._group = group_of(kinds)
        self._number = 0
        self._live: dict[str, Live] = {}
        self._writers: dict[tuple[str, int], Writer] = {}
        self._decoders: dict[int, Decoder] = {}
        self._joint: dict[int, JointWrites] = {}
        self._look = asyncio.Event()

    @property
    def live(self) -> Mapping[str, Live]:
        """The live generations that this program folds."""
        return self._live

    def generation(self) -> int:
        """Return a number that changes whenever the members do."""
        return self._number

    def of(self, partition: int) -> Sequence[Member]:
        """Return the members in one partition."""
        decoder = self._decoders.get(partition)
        if decoder is None:
            decoder = self._decoders[partition] = Decoder(
                self._registry, [kind() for kind in self._kinds.values()]
            )
            self._joint[partition] = JointWrites(self._checkpoints)
        return [
            LiveMember(
                self._kinds[name](), live.generation, partition, decoder, self._checkpoints,
                self._writers[name, live.generation], era=live.era, applied=self._applied, workers=self._workers,
                joint=self._joint[partition],
            )
            for name, live in self._live.items()
        ]  # fmt: skip

    async def pass_over(self, idle: Sequence[Member], page: Page) -> Collection[Checkpoint]:
        """Move checkpoints together with what the page means to the other projections."""
        joint = self._joint[page.partition]
        checkpoints = [member.checkpoint for member in idle]
        return await joint.pass_over(checkpoints, page.end, recorded_at_of(page))

    async def epoch_changed(self, member: Member) -> str:
        """Have the projection built anew: what it rests on is not in the log any more."""
        self._epoch_changed(member.checkpoint.consumer, member.checkpoint.generation)
        return "it is built anew from the log"

    async def open(self) -> None:
        """Make the first generation of projections that have none, and see what is live."""
        for kind in self._kinds.values():
            await self._generations.open_first(kind)
        await self.look()

    async def look(self) -> None:
        """See what is live."""
        found = await self._generations.live()
        alive = await self._generations.alive_groups()
        live = {
            name: found[name]
            for name, kind in self._kinds.items()
            if name in found
            and found[name].version == kind.version
            and not found[name].paused
            and is_folded_by(self._group, name, kind.version, alive)
        }
        if live == self._live:
            return
        for name, one in live.items():
            if (name, one.generation) not in self._writers:
                schema = self._generations.schema_of(name, one.generation)
                tables = await read_tables(self._checkpoints.pool, self._kinds[name], schema)
                self._writers[name, one.generation] = Writer(name, one.generation, tables, self._checkpoints)
        self._live = live
        self._number += 1
        log.info("live generations", generations={name: one.generation for name, one in live.items()})

    async def follow(self, listen_url: str, stop: asyncio.Event) -> None:
        """Look whenever something is said to have changed, and now and then, until `stop`."""
        async with Listener([listen_url], self._generations.channel, lambda _payload: self._look.set()):
            while not stop.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._look.wait()
                self._look.clear()
                try:
                    await self.look()
                except NO_REPLY as error:
                    log.warning("live generations not read", error=repr(error))
