"""
One projection's rows in one partition while events are folded into them. Pure: rows come in, changed rows go out.

A row that cannot be folded is set aside: the event that failed is parked with its error, and every later event of
the same key behind it, in order. All other keys go on.
"""

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from projectors.decoding import Decoded
from projectors.projection import Key, Projection, Stream
from schemas import Event
from schemas.envelope import RecordedEvent

TRIES_MAX = 3
ERROR_CHARACTERS_MAX = 2_000
WHOLE_STREAM = "*"
"""The table's name where an event's keys could not be told: then its whole stream waits."""


class Place(NamedTuple):
    """Which row: of a table, of a tenant, with a key."""

    table: str
    tenant: str
    key: Key


class Step(NamedTuple):
    """One event's effect on one row."""

    place: Place
    method: Callable[[Any, Event, Stream], Any]
    event: Event
    source: Decoded


class Parked(NamedTuple):
    """An event that waits, at a row; `error` is None where it only waits behind another."""

    place: Place
    event: RecordedEvent
    error: str | None


class Change(NamedTuple):
    """Where a row's last event stands."""

    position: int
    commit_hash: bytes


@dataclass
class Folding:
    """The rows of one projection that are at hand, and what has happened to them since they were last written."""

    projection: Projection[Any]
    complete: bool = False
    """Whether a row that is not at hand does not exist: true from the beginning of the log on."""
    rows: dict[Place, Any] = field(default_factory=dict)
    changes: dict[Place, Change] = field(default_factory=dict)
    tenants: dict[str, int] = field(default_factory=dict)
    """The last folded position of each tenant."""
    parked: set[Place] = field(default_factory=set)
    """Rows that have parked events."""
    parking: list[Parked] = field(default_factory=list)
    skipped: set[tuple[int, Place]] = field(default_factory=set)
    """What an operator has left out, by position and row."""
    only: Place | None = None
    """Fold this row alone."""
    bad: Mapping[Place, str] = field(default_factory=dict)
    """Rows that the database has refused, and why: their events are to be parked."""

    def plan(self, decoded: Sequence[Decoded]) -> list[Step]:
        """Return the steps that events mean, in order."""
        steps: list[Step] = []
        whens, handlers = self.projection.whens, self._handlers
        parked, skipped, only = self.parked, self.skipped, self.only
        for source in decoded:
            for event in source.events:
                for mark in whens.get(event.type, ()):
                    tenant = source.stream.tenant
                    if parked and Place(WHOLE_STREAM, tenant, (source.stream.name,)) in parked:
                        self._park(Place(WHOLE_STREAM, tenant, (source.stream.name,)), source, None)
                        continue
                    try:
                        keys = [tuple(key) for key in mark.keys(event, source.stream)]
                    except Exception as error:
                        self._park(Place(WHOLE_STREAM, tenant, (source.stream.name,)), source, error)
                        continue
                    for key in keys:
                        place = Place(mark.table, tenant, key)
                        if (only is not None and place != only) or (
                            skipped and (source.stream.position, place) in skipped
                        ):
                            continue
                        method = handlers[mark.method]
                        if mark.takes_key:
                            method = partial(method, key=key)
                        steps.append(Step(place, method, event, source))
        return steps

    def missing(self, steps: Iterable[Step]) -> dict[str, set[Place]]:
        """Return the rows that steps need and that are not at hand, by table."""
        missing: dict[str, set[Place]] = {}
        if not self.complete:
            rows = self.rows
            for step in steps:
                if step.place not in rows:
                    missing.setdefault(step.place.table, set()).add(step.place)
        return missing

    def fold(self, steps: Iterable[Step]) -> None:
        """Fold steps into the rows at hand."""
        rows, changes, tenants = self.rows, self.changes, self.tenants
        for place, method, event, source in steps:
            stream = source.stream
            tenants[place.tenant] = stream.position
            if place in self.parked or place in self.bad:
                self._park(place, source, self.bad.get(place))
                continue
            row = rows.get(place)
            try:
                folded = method(row, event, stream)
            except Exception as error:
                if not self._try_again(place, method, event, stream):
                    self._park(place, source, error)
                    continue
                folded = rows[place]
            if folded is row:
                continue
            rows[place] = folded
            changes[place] = Change(stream.position, source.commit_hash)

    def settled(self, rows_max: int) -> None:
        """Take note that all changes are written, and keep no more than some rows, those used last."""
        rows = self.rows
        if len(rows) > rows_max // 2:
            for place in self.changes:
                if place in rows:
                    rows[place] = rows.pop(place)
        while len(rows) > rows_max:
            del rows[next(iter(rows))]
            self.complete = False
        self.changes, self.tenants, self.parking, self.bad = {}, {}, [], {}

    def forget(self) -> None:
        """Drop all rows and changes: the tables may not be as they were left."""
        self.complete = False
        for collection in (self.rows, self.changes, self.tenants, self.parked, self.parking):
            collection.clear()
        self.bad = {}

    def __post_init__(self) -> None:
        self._handlers = {
            mark.method: getattr(self.projection, mark.method)
            for marks in self.projection.whens.values()
            for mark in marks
        }

    def _try_again(self, place: Place, method: Callable[..., Any], event: Event, stream: Stream) -> bool:
        for _ in range(TRIES_MAX - 1):
            try:
                self.rows[place] = method(self.rows.get(place), event, stream)
            except Exception:  # the first failure is the one that is told
                continue
            return True
        return False

    def _park(self, place: Place, source: Decoded, error: Exception | str | None) -> None:
        first = place not in self.parked
        self.parked.add(place)
        self.tenants[place.tenant] = source.stream.position
        text = describe(error) if isinstance(error, Exception) else error
        if not self.parking or (self.parking[-1].place, self.parking[-1].event) != (place, source.source):
            self.parking.append(Parked(place, source.source, text if first else None))


def describe(error: BaseException) -> str:
    """Return an error in a line, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"[:ERROR_CHARACTERS_MAX]
