"""
One load in flight for each key: who asks for the same meanwhile shares its answer.

The load is a task of its own, so a request that is cancelled neither ends it for the others nor leaves half an
answer on a connection.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Flights(Generic[Result]):
    """Loads that are under way, by key."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[Result]] = {}

    async def join(self, key: Hashable, load: Callable[[], Awaitable[Result]]) -> Result:
        """Return the result of the load with this key, which is started if none is under way."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.ensure_future(_run(load))
            task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    def _landed(self, key: Hashable, task: "asyncio.Task[Result]") -> None:
        self._tasks.pop(key, None)
        if not task.cancelled():
            task.exception()  # an error that nobody waits for any more is nobody's

    def __len__(self) -> int:
        return len(self._tasks)


async def _run(load: Callable[[], Awaitable[Result]]) -> Result:
    return await load()
