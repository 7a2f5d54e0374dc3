"""
How far a process's consumers are behind the log, measured against the log itself and never against what they believe.

A head that cannot be read is no head that stands still: as long as it is not seen, the lag in seconds grows with the
time. `/readyz` and `/metrics` tell the same figures.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from event_store.log import EventLog
from infra.telemetry import Gauge
from schemas.envelope import CommitMark

MEASURE_SECONDS = 2.0
UNSEEN_SECONDS_MAX = 15.0
"""A process that has seen no head of its partitions for so long cannot do its work."""

EVENTS = Gauge("everfold_lag_events", "Events that a consumer is behind", ["consumer", "partition"])
SECONDS = Gauge("everfold_lag_seconds", "Age of the oldest event not taken yet", ["consumer", "partition"])
HEAD = Gauge("everfold_head_position", "The log's last position", ["partition"])
UNSEEN = Gauge("everfold_head_unseen_seconds", "Time since the log's head was last read", ["partition"])
STILL = Gauge("everfold_head_still_seconds", "Time since the log's head was last seen to move", ["partition"])

Place = tuple[str, int, int]
"""A consumer, a partition, and the position that it has reached there."""


@dataclass
class _Head:
    """What is known of a partition's head."""

    position: int
    seen_at: float
    moved_at: float


@dataclass(frozen=True)
class Lag:
    """How far a consumer is behind in a partition."""

    events: int
    seconds: float


class LagMeter:
    """Measures the lag of one process's consumers."""

    def __init__(self, log: EventLog, clock: Callable[[], float] = time.time) -> None:
        self._log = log
        self._clock = clock
        self._heads: dict[int, _Head] = {}
        self._lags: dict[tuple[str, int], Lag] = {}

    async def measure(self, places: Sequence[Place]) -> None:
        """Read the heads, and set the figures of some consumers; those of others are forgotten."""
        await self._look({partition for _, partition, _ in places})
        lags = {}
        for consumer, partition, position in places:
            lags[consumer, partition] = await self._lag(partition, position)
        for gone in self._lags.keys() - lags.keys():
            EVENTS.remove(gone[0], str(gone[1]))
            SECONDS.remove(gone[0], str(gone[1]))
        for (consumer, partition), lag in lags.items():
            EVENTS.labels(consumer, str(partition)).set(lag.events)
            SECONDS.labels(consumer, str(partition)).set(lag.seconds)
        self._lags = lags

    async def _look(self, partitions: Iterable[int]) -> None:
        """Read the heads; one that does not answer is as it was, and not seen."""
        found: Mapping[int, CommitMark] = {}
        with suppress(Exception):  # whatever it was, it is said by how long the head was not seen
            found = await self._log.reachable_heads()
        now = self._clock()
        for partition in partitions:
            head = self._heads.setdefault(partition, _Head(0, now, now))
            if partition in found:
                if found[partition].position != head.position:
                    head.position, head.moved_at = found[partition].position, now
                head.seen_at = now
            HEAD.labels(str(partition)).set(head.position)
            UNSEEN.labels(str(partition)).set(now - head.seen_at)
            STILL.labels(str(partition)).set(now - head.moved_at)
        for partition in self._heads.keys() - set(partitions):
            del self._heads[partition]
            for gauge in (HEAD, UNSEEN, STILL):
                gauge.remove(str(partition))

    async def _lag(self, partition: int, position: int) -> Lag:
        head = self._heads[partition]
        unseen_seconds = self._clock() - head.seen_at
        events = max(0, head.position - position)
        seconds = unseen_seconds if unseen_seconds > MEASURE_SECONDS else 0.0
        if events:
            seconds = max(seconds, await self._age(partition, position + 1))
        return Lag(events, round(seconds, 3))

    async def _age(self, partition: int, position: int) -> float:
        try:
            commit = await self._log.commit_of(partition, position)
        except Exception:  # whatever it was: the time that the head is not seen will speak for it
            return 0.0
        return max(0.0, self._clock() - commit.recorded_at.timestamp()) if commit else 0.0

    def missing(self) -> Mapping[str, str]:
        """Return what a role cannot work without: at least one of its partitions' heads."""
        unseen = [self._clock() - head.seen_at for head in self._heads.values()]
        if unseen and min(unseen) > UNSEEN_SECONDS_MAX:
            return {"log": f"its heads have not been read for {min(unseen):.0f} s"}
        return {}

    def document(self) -> dict[str, Any]:
        """Return the figures, by consumer and partition."""
        found: dict[str, Any] = {}
        for (consumer, partition), lag in sorted(self._lags.items()):
            figures = {"events": lag.events, "seconds": lag.seconds}
            found.setdefault(consumer, {})[str(partition)] = figures
        return found
