"""
Keeps the database connections of all processes of a role together within one budget, however many there are.

Each process knows from the leases how many share the work, and takes no more than its share of the budget; what it
does not use any more is closed within seconds. A process alone may take as many as its pool has. However many there
are, each keeps `SHARE_MIN`, without which it could not work: building a generation holds two and works with others.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import asyncpg

SHARE_MIN = 4
IDLE_SECONDS_MAX = 15.0
"""How long a connection of a governed pool stays open unused."""


class Governor:
    """One process's share of a budget of connections."""

    def __init__(self, budget: int, size_max: int) -> None:
        self._budget, self._size_max = budget, size_max
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.share = min(SHARE_MIN, size_max)
        """How many connections may be in use at once; the least, until it is known how many share the budget."""

    def share_among(self, processes: int) -> None:
        """Take note of how many processes share the budget, this one included."""
        self.share = max(SHARE_MIN, min(self._size_max, self._budget // max(1, processes)))
        self._wake()

    async def enter(self) -> None:
        """Wait until one more connection may be used; whoever waits longest is next."""
        if self._used < self.share and not self._waiting:
            self._used += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # its turn had come already
            raise

    def leave(self) -> None:
        """Say that a connection is not used any more."""
        self._used -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._used < self.share:
            turn = self._waiting.popleft()
            if not turn.done():
                self._used += 1
                turn.set_result(None)


if TYPE_CHECKING:
    _Pool = asyncpg.Pool[asyncpg.Record]
else:
    _Pool = asyncpg.Pool


class GovernedPool(_Pool):
    """A pool that uses no more connections at once than its governor allows."""

    governor: Governor
    held: set[int]
    """What is in use, by identity: a connection that was lost meanwhile is given back too."""

    async def _acquire(self, timeout: float | None) -> Any:
        await self.governor.enter()
        try:
            connection = await super()._acquire(timeout)  # type: ignore[misc]  # every way to one goes through it
        except BaseException:
            self.governor.leave()
            raise
        self.held.add(id(connection))
        return connection

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        """Give a connection back, and its place in the share with it."""
        try:
            await super().release(connection, timeout=timeout)
        finally:
            if id(connection) in self.held:
                self.held.remove(id(connection))
                self.governor.leave()
