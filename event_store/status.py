"""
What the system is doing: heads, how far the relay and each consumer are, what is being built, what waits for what.

Everything is read from the tables that the roles keep, so it is true whether or not a role runs.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from event_store.log import EventLog
from infra.sql import load_sql
from schemas.messages import format_instant


class Fetches(Protocol):
    """A way to read the database of the read tables: a pool, or a server of the query API."""

    async def fetch(self, sql: str, /) -> Sequence[Any]:
        """Run one statement."""
        ...


OUTSIDE = "cloudevents"
"""The relay to other programs goes at its own pace, and holds up none of ours."""


@dataclass
class _Place:
    """One consumer's generation over all partitions."""

    positions: dict[int, int] = field(default_factory=dict)
    waiting_for: str | None = None
    parked: int = 0


async def read_status(log: EventLog, pool: Fetches, namespace: str, *, uses_broker: bool) -> dict[str, Any]:
    """Return the document of `everfold status --json` and of `GET /v1/status`."""
    sql = partial(load_sql, "event_store", namespace=namespace)
    rows = await pool.fetch(sql("sql/queries/status_checkpoints.sql"))
    projections = await pool.fetch(sql("sql/queries/status_projections.sql"))
    heads = {partition: mark.position for partition, mark in (await log.heads()).items()}
    places: dict[tuple[str, str, int], _Place] = {}
    for row in rows:
        place = places.setdefault((row["kind"], row["consumer"], row["generation"]), _Place())
        place.positions[row["partition"]] = row["position"]
        place.waiting_for = place.waiting_for or row["waiting_for"]
        place.parked += row["parked"]
    lags = _Lags(log, heads)
    documents = [await _projection(row, places, lags) for row in projections]
    workflows = [
        {"name": name, **await lags.of(place), "waiting_for": place.waiting_for, "dead_letters": place.parked}
        for (kind, name, _), place in sorted(places.items())
        if kind == "workflow"
    ]
    relays = [place for (kind, name, _), place in places.items() if kind == "relay" and name != OUTSIDE]
    return {
        "partitions": [
            {"partition": partition, "head": head, "relayed": _relayed(relays, partition, head, uses_broker)}
            for partition, head in sorted(heads.items())
        ],
        "projections": documents,
        "workflows": workflows,
        "dead_letters": sum(document["dead_letters"] for document in [*documents, *workflows]),
    }


def worst_lag_seconds(status: Mapping[str, Any]) -> float:
    """Return the lag of the consumer that is furthest behind."""
    return max((one["lag_seconds"] for one in [*status["projections"], *status["workflows"]]), default=0.0)


def _relayed(relays: Sequence[_Place], partition: int, head: int, uses_broker: bool) -> int:
    """Return how far all of our own groups have been relayed to; without a broker there is nothing to relay."""
    if not uses_broker:
        return head
    return min((place.positions.get(partition, 0) for place in relays), default=0)


async def _projection(
    row: Mapping[str, Any], places: Mapping[tuple[str, str, int], _Place], lags: "_Lags"
) -> dict[str, Any]:
    place = places.get(("projection", row["name"], row["generation"]), _Place())
    building = None
    if row["building"] is not None:
        built = places.get(("projection", row["name"], row["building"]), _Place())
        building = {
            "generation": row["building"],
            "version": row["building_version"],
            "since": format_instant(row["building_since"]),
            "lag_events": lags.events(built),
        }
    state = "paused" if row["paused"] else "waiting" if place.waiting_for else "live"
    return {
        "name": row["name"],
        "version": row["version"],
        "generation": row["generation"],
        "state": state,
        **await lags.of(place),
        "positions": {str(partition): position for partition, position in sorted(place.positions.items())},
        "building": building,
        "waiting_for": place.waiting_for,
        "dead_letters": place.parked,
    }


class _Lags:
    """How far places are behind the heads; each first missing commit is looked up once."""

    def __init__(self, log: EventLog, heads: Mapping[int, int]) -> None:
        self._log = log
        self._heads = heads
        self._ages: dict[tuple[int, int], float] = {}

    def events(self, place: _Place) -> int:
        return sum(
            max(0, head - place.positions.get(partition, 0)) for partition, head in self._heads.items()
        )

    async def of(self, place: _Place) -> dict[str, Any]:
        missing = [
            (partition, place.positions.get(partition, 0) + 1)
            for partition, head in self._heads.items()
            if place.positions.get(partition, 0) < head
        ]
        ages = await asyncio.gather(*(self._age(*one) for one in missing))
        return {"lag_events": self.events(place), "lag_seconds": round(max(ages, default=0.0), 3)}

    async def _age(self, partition: int, position: int) -> float:
        if (partition, position) not in self._ages:
            commit = await self._log.commit_of(partition, position)
            age = max(0.0, time.time() - commit.recorded_at.timestamp()) if commit else 0.0
            self._ages[partition, position] = age
        return self._ages[partition, position]
