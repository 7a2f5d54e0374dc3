"""
Waiting for whichever comes first, and work that is taken up again and again until a process ends.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from infra.telemetry import log

T = TypeVar("T")

_going_on: set[asyncio.Task[Any]] = set()
"""Held here, since the event loop does not hold what it runs."""


async def first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Wait until one of some waits is over; the others are given up, and ended when this returns."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def apart(work: Coroutine[Any, Any, T]) -> T:
    """
    Wait for work that a cancellation of the caller does not reach: it goes on to its end, which nobody waits for.

    For clients that lose a cancellation, or break more over it than the call: the caller's own is never lost. The
    work must have an end in itself.
    """
    task = asyncio.create_task(work)
    _going_on.add(task)
    task.add_done_callback(_going_on.discard)
    return await asyncio.shield(task)


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
