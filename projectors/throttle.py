"""
Keeps work on events to a rate, over all partitions that are worked on at once.
"""

import asyncio


class Throttle:
    """At most so many events a second; None: as fast as it goes."""

    def __init__(self, events_per_second_max: float | None) -> None:
        self._rate = events_per_second_max
        self._free_at = 0.0

    async def took(self, events: int) -> None:
        """Take note that events were worked on, and wait for as long as the rate says that this takes."""
        if self._rate is None:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + events / self._rate
        await asyncio.sleep(self._free_at - now)
