"""
What the system is doing: heads, how far the relay and each consumer are, what is being built, what waits for what.

Everything is read from the tables that the roles keep, so it is true whether or not a role runs. Of several
servers of the log one may be away: the heads of its partitions are null then, and lags count without them.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from event_store.log import EventLog
from event_store.waits import Fetches, Waits, read_waits
from infra.sql import load_sql
from schemas.errors import StoreUnavailable
from schemas.messages import format_instant

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
    drift = {
        (row["projection"], row["generation"]): row
        for row in await pool.fetch(sql("sql/queries/status_drift.sql"))
    }
    waits = await read_waits(pool, namespace)
    heads = {partition: mark.position for partition, mark in (await log.reachable_heads()).items()}
    places: dict[tuple[str, str, int], _Place] = {}
    for row in rows:
        place = places.setdefault((row["kind"], row["consumer"], row["generation"]), _Place())
        place.positions[row["partition"]] = row["position"]
        place.waiting_for = place.waiting_for or row["waiting_for"]
        place.parked += row["parked"]
    lags = _Lags(log, heads)
    documents = [await _projection(row, places, lags, waits, drift) for row in projections]
    workflows = [
        {
            "name": name,
            **await lags.of(place),
            "waiting_for": place.waiting_for or waits.of(kind, name, 0, lags.behind(place)),
            "dead_letters": place.parked,
            "poison": waits.poison(kind, name, 0),
        }
        for (kind, name, _), place in sorted(places.items())
        if kind == "workflow"
    ]
    relays = {name: place for (kind, name, _), place in sorted(places.items()) if kind == "relay"}
    ours = [place for name, place in relays.items() if name != OUTSIDE]
    moved = await asyncio.gather(*(lags.moved_at(partition) for partition in log.partitions))
    return {
        "partitions": [
            {
                "partition": partition,
                "head": heads.get(partition),
                "relayed": _relayed(ours, partition, heads.get(partition), uses_broker),
                "moved_at": moved_at and format_instant(moved_at),
            }
            for partition, moved_at in zip(log.partitions, moved, strict=True)
        ],
        "projections": documents,
        "workflows": workflows,
        "relays": [
            {"name": name, **await lags.of(place), "waiting_for": place.waiting_for}
            for name, place in relays.items()
            if uses_broker
        ],
        "dead_letters": sum(document["dead_letters"] for document in [*documents, *workflows]),
    }


def worst_lag_seconds(status: Mapping[str, Any]) -> float:
    """Return the lag of the consumer that is furthest behind."""
    return max((one["lag_seconds"] for one in [*status["projections"], *status["workflows"]]), default=0.0)


def partitions_away(status: Mapping[str, Any]) -> Sequence[int]:
    """Return the partitions whose server did not answer: their lag is unknown."""
    return [one["partition"] for one in status["partitions"] if one["head"] is None]


def _relayed(relays: Sequence[_Place], partition: int, head: int | None, uses_broker: bool) -> int | None:
    """Return how far all of our own groups have been relayed to; without a broker there is nothing to relay."""
    if not uses_broker:
        return head
    return min((place.positions.get(partition, 0) for place in relays), default=0)


async def _projection(
    row: Mapping[str, Any],
    places: Mapping[tuple[str, str, int], _Place],
    lags: "_Lags",
    waits: Waits,
    drift: Mapping[tuple[str, int], Any],
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
    name, generation = row["name"], row["generation"]
    waiting_for = place.waiting_for
    if waiting_for is None and (behind := lags.behind(place)):
        waiting_for = (
            "resume: an operator has paused it"
            if row["paused"]
            else waits.of("projection", name, generation, behind, version=row["version"])
        )
    state = "paused" if row["paused"] else "waiting" if waiting_for else "live"
    checked = drift.get((name, generation))
    return {
        "name": row["name"],
        "version": row["version"],
        "generation": row["generation"],
        "state": state,
        **await lags.of(place),
        "positions": {str(partition): position for partition, position in sorted(place.positions.items())},
        "building": building,
        "waiting_for": waiting_for,
        "dead_letters": place.parked,
        "poison": waits.poison("projection", name, generation),
        "drift": checked
        and {
            "since": format_instant(checked["since"]),
            "rows": checked["rows"],
            "differed": checked["differed"],
        },
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

    def behind(self, place: _Place) -> list[int]:
        """Return the partitions in which a place is behind."""
        return [part for part, head in self._heads.items() if place.positions.get(part, 0) < head]

    async def of(self, place: _Place) -> dict[str, Any]:
        """Return how far a place is behind, over all partitions and in each that it is behind in."""
        behind = self.behind(place)
        ages = await asyncio.gather(*(self._age(part, place.positions.get(part, 0) + 1) for part in behind))
        lag = {
            str(part): {
                "events": self._heads[part] - place.positions.get(part, 0),
                "seconds": round(age, 3),
            }
            for part, age in zip(behind, ages, strict=True)
        }
        return {
            "lag_events": self.events(place),
            "lag_seconds": round(max(ages, default=0.0), 3),
            "lag": lag,
        }

    async def moved_at(self, partition: int) -> datetime | None:
        """Return when a partition's head was committed; None where there is none, or it cannot be asked."""
        try:
            commit = await self._log.commit_of(partition, self._heads.get(partition, 0))
        except StoreUnavailable:
            return None
        return commit and commit.recorded_at

    async def _age(self, partition: int, position: int) -> float:
        if (partition, position) not in self._ages:
            try:
                commit = await self._log.commit_of(partition, position)
            except StoreUnavailable:  # it has gone away just now
                commit = None
            age = max(0.0, time.time() - commit.recorded_at.timestamp()) if commit else 0.0
            self._ages[partition, position] = age
        return self._ages[partition, position]
