"""
Waiting for whichever comes first, and work that is taken up again and again until a process ends.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from infra.telemetry import log


async def first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Wait until one of some waits is over; the others are given up, and ended when this returns."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def keep_at(
    step: Callable[[], Awaitable[float]],
    stop: asyncio.Event,
    *,
    what: str,
    retry_seconds: float,
    passing: tuple[type[Exception], ...] = (),
    wake: asyncio.Event | None = None,
) -> None:
    """
    Take steps until `stop`, which cuts one that is under way short.

    A step returns for how many seconds to rest after it, which `wake` shortens. One that fails is told as `what` and
    taken again: errors that are `passing`, of a server that is away for instance, in a line, all others in full.
    """

    async def again_and_again() -> None:
        while not stop.is_set():
            seconds = retry_seconds
            try:
                seconds = await step()
            except passing as error:
                log.warning(f"{what}: not now", error=repr(error))
            except Exception as error:
                log.exception(f"{what}: failed, trying again", error=repr(error))
            await _rest(seconds, wake)

    await first_of(again_and_again(), stop.wait())


async def _rest(seconds: float, wake: asyncio.Event | None) -> None:
    if wake is None:
        await asyncio.sleep(seconds)
        return
    await asyncio.sleep(
        0
    )  # steps that never wait, with news after each, must not keep all others from running
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()
    wake.clear()
