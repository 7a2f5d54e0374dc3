"""
Ends a process in order: the signals that ask it to end set an event, and its work looks at that.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import uvloop


def run_until_stopped(work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a process's work; SIGTERM and SIGINT set the event that it is given."""

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await work(stop)

    uvloop.run(run())
