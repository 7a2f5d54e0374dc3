"""
A limit on how fast one caller may ask, kept in each process: a bucket that fills at a steady rate.

It guards a process against one caller; fairness between tenants is the pipeline's business. Without a
configured rate there is no limit.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from infra.problems import Headers
from schemas.errors import RateLimited

CALLERS_MAX = 50_000


@dataclass(eq=False)
class TooManyRequests(RateLimited, slug=RateLimited.slug):
    """Too many requests for now."""

    limit_per_second: float = 0.0
    wait_seconds: float = 1.0

    @property
    def headers(self) -> Headers:
        """The RateLimit headers (IETF draft, ratelimit-headers-10) that tell a client how to behave."""
        wait = max(1, math.ceil(self.wait_seconds))
        limit = math.ceil(self.limit_per_second)
        return [
            (b"ratelimit-policy", b'"caller";q=%d;w=1' % limit),
            (b"ratelimit", b'"caller";r=0;t=%d' % wait),
        ]


class RateLimiter:
    """Lets each caller ask so many times a second, and so many at once after a pause."""

    def __init__(
        self,
        per_second: float | None = None,
        *,
        burst: int | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = 1 / per_second if per_second else 0.0
        self._per_second = per_second or 0.0
        self._slack = self._interval * ((burst or math.ceil(per_second or 1)) - 1)
        self._now = now
        self._due: OrderedDict[tuple[str, ...], float] = OrderedDict()

    def take(self, *caller: str, cost: int = 1) -> None:
        """
        Count a request.

        Raises:
            RateLimited: There were too many.
        """
        if not self._interval:
            return
        now = self._now()
        due = max(self._due.get(caller, now), now)
        if due - now > self._slack:
            raise TooManyRequests(limit_per_second=self._per_second, wait_seconds=due - now - self._slack)
        self._due[caller] = due + self._interval * cost
        self._due.move_to_end(caller)
        while len(self._due) > CALLERS_MAX:
            self._due.popitem(last=False)
