"""
How long a follower lets a page grow, so that it does not cost more than what it brings.

Each page costs a follower a transaction, whatever is in it. Under load every commit would become a page of its
own, and followers would take from appends the processor time that makes them few. So each event of the last page
buys some patience, up to a bound, the more the scarcer processors are: at a thousand events a second on a busy
machine pages begin to grow; below that, or where processors are free, they shrink back to nothing, and a lone event
is never held.
"""

import os
from collections.abc import Callable
from pathlib import Path

SECONDS_AN_EVENT = 0.001
PATIENCE_SECONDS_MAX = 0.25
SCHEDSTAT = Path("/proc/self/schedstat")
SCARCITY_MAX = 2.0
LATEST_WEIGHT = 0.3

Scarcity = Callable[[], float]
"""How long this process has waited for a processor, lately, for each second that it ran."""


class ProcessorScarcity:
    """Scarcity as Linux counts it (`/proc/pid/schedstat`); elsewhere as much of the one as of the other."""

    def __init__(self, path: Path = SCHEDSTAT) -> None:
        self._file = path.open("rb", buffering=0) if path.exists() else None
        self._ran, self._waited = self._look()
        self._scarcity = 0.0 if self._file else 1.0

    def __call__(self) -> float:
        """Return the scarcity, evened out over the last few calls."""
        ran, waited = self._look()
        if ran > self._ran:
            latest = min(SCARCITY_MAX, (waited - self._waited) / (ran - self._ran))
            self._scarcity += LATEST_WEIGHT * (latest - self._scarcity)
        self._ran, self._waited = ran, waited
        return self._scarcity

    def _look(self) -> tuple[int, int]:
        if self._file is None:
            return 0, 0
        ran, waited, _turns = os.pread(self._file.fileno(), 100, 0).split()
        return int(ran), int(waited)


class Pace:
    """One follower's patience."""

    __slots__ = ("_next_at", "_scarcity")

    def __init__(self, scarcity: Scarcity | None = None) -> None:
        self._scarcity = scarcity or ProcessorScarcity()
        self._next_at = 0.0

    def took(self, events: int, now: float) -> None:
        """Note that a page was taken."""
        self._next_at = now + min(PATIENCE_SECONDS_MAX, events * SECONDS_AN_EVENT * self._scarcity())

    def wait_seconds(self, now: float) -> float:
        """Return how long to wait before the next page is read; nothing once the work on the last took as long."""
        return max(0.0, self._next_at - now)
