"""
How the whole system stands: heads of the log, and how far everything that follows it is.

One reader for the command line and for `GET /v1/status`, so that both say the same. The shape is contract.md's,
section 2.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from event_store.log import EventLog
from infra.sql import load_sql
from schemas.envelope import CommitMark

Row = Any
Document = dict[str, Any]


class Fetch(Protocol):
    """A way to read the database of the read tables: `asyncpg.Pool.fetch` and its like."""

    async def __call__(self, sql: str, /) -> Sequence[Row]:
        """Run one statement."""
        ...


class Lags:
    """How far behind the heads positions are, in events and in seconds."""

    def __init__(self, log: EventLog, heads: Mapping[int, CommitMark], now: datetime) -> None:
        self._log = log
        self._heads = heads
        self._now = now
        self._seconds: dict[tuple[int, int], float] = {}

    def events(self, positions: Mapping[int, int]) -> int:
        """Return how many events are still to be taken, over all partitions."""
        return sum(
            max(head.position - positions.get(partition, 0), 0) for partition, head in self._heads.items()
        )

    async def seconds(self, positions: Mapping[int, int]) -> float:
        """Return the age of the oldest event that is still to be taken."""
        waits = [
            await self._wait(partition, positions.get(partition, 0))
            for partition, head in self._heads.items()
            if positions.get(partition, 0) < head.position
        ]
        return round(max(waits, default=0.0), 3)

    async def _wait(self, partition: int, position: int) -> float:
        place = partition, position
        if place not in self._seconds:
            commit = await self._log.commit_of(partition, position + 1)
            age = (self._now - commit.recorded_at).total_seconds() if commit else 0.0
            self._seconds[place] = max(age, 0.0)
        return self._seconds[place]


async def read_status(fetch: Fetch, log: EventLog, namespace: str, *, uses_broker: bool) -> Document:
    """
    Return the status document.

    Raises:
        StoreUnavailable: The log does not answer.
    """
    sql = partial(load_sql, "event_store", namespace=namespace)
    projections = await fetch(sql("sql/queries/status_projections.sql"))
    consumers = await fetch(sql("sql/queries/status_consumers.sql"))
    parked = {
        (row["kind"], row["consumer"], row["generation"]): row["events"]
        for row in await fetch(sql("sql/queries/status_parked.sql"))
    }
    heads = await log.heads()
    lags = Lags(log, heads, datetime.now(UTC))
    relayed = _positions(row for row in consumers if row["kind"] == "relay")
    workflows = _positions(row for row in consumers if row["kind"] == "workflow")
    return {
        "partitions": [
            {
                "partition": partition,
                "head": head.position,
                "relayed": min((group.get(partition, 0) for group in relayed.values()), default=head.position)
                if uses_broker
                else head.position,
            }
            for partition, head in sorted(heads.items())
        ],
        "projections": await _projections(projections, parked, lags),
        "workflows": [
            {
                "name": name,
                "lag_events": lags.events(positions),
                "lag_seconds": await lags.seconds(positions),
                "waiting_for": _waiting_for(row for row in consumers if row["consumer"] == name),
                "dead_letters": parked.get(("workflow", name, 0), 0),
            }
            for name, positions in workflows.items()
        ],
        "dead_letters": sum(parked.values()),
    }


async def _projections(
    rows: Sequence[Row], parked: Mapping[tuple[str, str, int], int], lags: Lags
) -> list[Document]:
    by_place: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        by_place[row["name"], row["state"]].append(row)
    found = []
    for name in dict.fromkeys(row["name"] for row in rows):
        live, building = by_place[name, "live"], by_place[name, "building"]
        first = (live or building)[0]
        positions = {row["partition"]: row["position"] for row in live if row["partition"] is not None}
        found.append(
            {
                "name": name,
                "version": first["version"],
                "generation": first["generation"],
                "state": _state(first, is_live=bool(live)),
                "lag_events": lags.events(positions),
                "lag_seconds": await lags.seconds(positions),
                "positions": {str(partition): position for partition, position in positions.items()},
                "building": _building(building, lags) if building else None,
                "waiting_for": _waiting_for(live or building),
                "dead_letters": parked.get(("projection", name, first["generation"]), 0),
            }
        )
    return found


def _state(row: Row, *, is_live: bool) -> str:
    if not is_live:
        return "building"
    return "paused" if row["paused"] else "live"


def _building(rows: Sequence[Row], lags: Lags) -> Document:
    newest = max(row["generation"] for row in rows)
    positions = {
        row["partition"]: row["position"]
        for row in rows
        if row["generation"] == newest and row["partition"] is not None
    }
    return {
        "generation": newest,
        "version": next(row["version"] for row in rows if row["generation"] == newest),
        "lag_events": lags.events(positions),
        "positions": {str(partition): position for partition, position in positions.items()},
    }


def _positions(rows: Any) -> dict[str, dict[int, int]]:
    found: dict[str, dict[int, int]] = {}
    for row in rows:
        found.setdefault(row["consumer"], {})[row["partition"]] = row["position"]
    return found


def _waiting_for(rows: Any) -> str | None:
    return next((row["waiting_for"] for row in rows if row["waiting_for"]), None)
