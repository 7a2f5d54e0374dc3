"""
How long a follower lets a page grow, so that it does not cost more than what it brings.

Each page costs a follower a transaction, whatever is in it. Under load every commit would become a page of its
own, and followers would take from appends the processor time that makes them few. So a page buys some milliseconds
of patience, and each of its events half a millisecond, up to a bound: at a hundred events a second pages begin to
grow, below that they shrink back to nothing, and a lone event is never held.
"""

PAGE_SECONDS = 0.010
"""
What a page buys at the least. Reading it, its transactions and telling others take less; but pages that follow each
other faster make two cores busy at some hundred commands a second, and then everybody waits for a processor: with 4 ms
it took twice as long from a commit to its row (`python -m tests.bench.pipeline`).
"""
SECONDS_AN_EVENT = 0.0005
PATIENCE_SECONDS_MAX = 0.5


class Pace:
    """One follower's patience."""

    __slots__ = ("_next_at", "_page_seconds")

    def __init__(self, page_seconds: float = PAGE_SECONDS) -> None:
        self._next_at = 0.0
        self._page_seconds = page_seconds

    def took(self, events: int, now: float) -> None:
        """Note that a page was taken."""
        self._next_at = now + min(PATIENCE_SECONDS_MAX, max(self._page_seconds, events * SECONDS_AN_EVENT))

    def wait_seconds(self, now: float) -> float:
        """Return how long to wait before the next page is read; nothing once the work on the last took as long."""
        return max(0.0, self._next_at - now)
