"""
Worker processes that take whole partitions of a build off its process, so that a build uses more than one processor.

A partition is folded by one process from its checkpoint on, as the build itself would; the checkpoint, which only who
knows it can move, is what both agree by. So a worker may die at any moment: what it has not done the build does itself,
and there it meets the error, if there is one. Bulk alone is handed out; catching up and the swap stay with the build.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, MutableSequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, contextmanager, suppress
from multiprocessing import get_context

import uvloop

from infra.embedded.process import end_with_parent
from infra.garbage import collect_seldom
from infra.settings import Settings
from projectors.build import Build, Stretch, Workshop
from projectors.read_side import ReadSide, open_read_side

LOOK_SECONDS = 0.2


class BuildWorkers:
    """So many worker processes; they start with their first stretch."""

    def __init__(self, settings: Settings, number: int, role: str | None = None) -> None:
        context = get_context("spawn")
        self.number = number
        self._reached: MutableSequence[int] = context.RawArray("q", settings.partitions)
        self._executor = ProcessPoolExecutor(
            number, mp_context=context, initializer=_begin, initargs=(settings, role, self._reached)
        )

    async def fold(self, stretch: Stretch, reached: Callable[[int], None]) -> int:
        """Have a worker fold a stretch, and tell meanwhile how far it is; return how many events that took."""
        self._reached[stretch.partition] = 0
        work = asyncio.get_running_loop().run_in_executor(self._executor, _fold, stretch)
        while not work.done():
            await asyncio.wait([work], timeout=LOOK_SECONDS)
            if position := self._reached[stretch.partition]:
                reached(position)
        return await work

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        processes = list((self._executor._processes or {}).keys())
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


@contextmanager
def workers_of(side: ReadSide) -> Iterator[BuildWorkers | None]:
    """Have the workers that the settings name for a block; None where a build is to do without."""
    if side.settings.build_workers == 1:
        yield None
        return
    workers = BuildWorkers(side.settings, side.settings.build_workers, side.role)
    try:
        yield workers
    finally:
        workers.close()


# -- in a worker ----------------------------------------------------------------------------------------------


class _Worker:
    """What a worker process keeps from one stretch to the next."""

    def __init__(self, settings: Settings, role: str | None, reached: MutableSequence[int]) -> None:
        self.reached = reached
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._settings, self._role = settings, role
        self._stack = AsyncExitStack()
        self._side: ReadSide | None = None

    async def fold(self, stretch: Stretch) -> int:
        if self._side is None:
            opening = open_read_side(self._settings, name="build worker", role=self._role)
            self._side = await self._stack.enter_async_context(opening)
        side = self._side
        shop = Workshop(side.opened, side.registry, side.generations, side.checkpoints)
        build = Build(
            shop,
            side.kinds[stretch.projection],
            events_per_second_max=stretch.events_per_second_max,
            progress=self._progress,
        )
        return await build.fold_stretch(stretch)

    def _progress(self, _projection: str, partition: int, position: int) -> None:
        self.reached[partition] = position


_workers: list[_Worker] = []
"""The one of this process."""


def _begin(settings: Settings, role: str | None, reached: MutableSequence[int]) -> None:
    end_with_parent(signal.SIGKILL)
    _workers.append(_Worker(settings, role, reached))
    collect_seldom()


def _fold(stretch: Stretch) -> int:
    (worker,) = _workers
    return worker.runner.run(worker.fold(stretch))
