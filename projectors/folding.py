"""
One projection's rows in one partition while events are folded into them. Pure: rows come in, changed rows go out.

A row that cannot be folded is set aside: the event that failed is parked with its error, and every later event of
the same key behind it, in order. All other keys go on.
"""

import traceback
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from infra.sql import storable
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


Method = Callable[..., Any]
"""Of row, event and stream, and of the key where it asks for it."""
Step = tuple[Place, Method, Event, Decoded, bool, bool]
"""One event's effect on one row; the last two say that the row is made by it, and that the method asks for the key."""
FAILED = object()
_new = tuple.__new__


class Parked(NamedTuple):
    """An event that waits, at a row; `error` is None where it only waits behind another."""

    place: Place
    event: RecordedEvent
    error: str | None


@dataclass
class Folding:
    """The rows of one projection that are at hand, and what has happened to them since they were last written."""

    projection: Projection[Any]
    complete: bool = False
    """Whether a row that is not at hand does not exist: true from the beginning of the log on."""
    incomplete: set[str] = field(default_factory=set)
    """Tables of which that is not true any more, because rows were let go."""
    rows: dict[Place, Any] = field(default_factory=dict)
    changes: dict[Place, Decoded] = field(default_factory=dict)
    """By row the last event folded into it."""
    tenants: dict[str, int] = field(default_factory=dict)
    """The last folded position of each tenant."""
    parked: set[Place] = field(default_factory=set)
    """Rows that have parked events."""
    parking: list[Parked] = field(default_factory=list)
    skipped: set[tuple[int, Place]] = field(default_factory=set)
    """What an operator has left out, by position and row."""
    made: list[Place] = field(default_factory=list)
    """Rows that were made once and for all, and need not be remembered."""
    only: Container[Place] | None = None
    """Fold these rows alone."""
    leaves_out: Collection[str] = frozenset()
    """Tenants whose events are not folded here: theirs stand in several partitions (tenant_fold.py)."""
    bad: Mapping[Place, str] = field(default_factory=dict)
    """Rows that the database has refused, and why: their events are to be parked."""

    def plan(self, decoded: Sequence[Decoded]) -> list[Step]:
        """Return the steps that events mean, in order."""
        steps: list[Step] = []
        plans, leaves_out, add = self._plans, self.leaves_out, steps.append
        for source in decoded:
            stream, events, _, _ = source
            if self.parked and any(event.type in plans for event in events) and self._waits(source):
                continue
            tenant = stream.tenant
            if leaves_out and tenant in leaves_out:
                continue
            for event in events:
                for table, keys_of, method, takes_key, makes_row in plans.get(event.type, ()):
                    try:
                        keys = keys_of(event, stream)
                        if type(keys) is not list:
                            keys = tuple(keys)
                    except Exception as error:
                        self._park(_whole_stream(source), source, error)
                        continue
                    for key in keys:
                        place = _new(Place, (table, tenant, key if type(key) is tuple else tuple(key)))
                        add((place, method, event, source, makes_row, takes_key))
        if self.only is not None or self.skipped:
            return [step for step in steps if self._counts(step)]
        return steps

    def _counts(self, step: Step) -> bool:
        """Say whether a step is to be taken, where only some rows are folded or some events are left out."""
        place, source = step[0], step[3]
        return (self.only is None or place in self.only) and (
            source.stream.position,
            place,
        ) not in self.skipped

    def missing(self, steps: Iterable[Step]) -> dict[str, set[Place]]:
        """Return the rows that steps need and that are not at hand, by table."""
        missing: dict[str, set[Place]] = {}
        rows, incomplete = self.rows, self.incomplete
        if not self.complete or incomplete:
            for place, _, _, _, makes_row, _ in steps:
                if not makes_row and (not self.complete or place.table in incomplete) and place not in rows:
                    missing.setdefault(place.table, set()).add(place)
        return missing

    def fold(self, steps: Iterable[Step]) -> None:
        """Fold steps into the rows at hand; parts are taken by number, as names cost a call each."""
        rows, changes, tenants, parked, bad = self.rows, self.changes, self.tenants, self.parked, self.bad
        for place, method, event, source, makes_row, takes_key in steps:
            stream = source[0]
            tenants[stream[0]] = stream[3]
            if (parked or bad) and (place in parked or place in bad):
                self._park(place, source, bad.get(place))
                continue
            row = None if makes_row else rows.get(place)
            try:
                folded = method(row, event, stream, key=place[2]) if takes_key else method(row, event, stream)
            except Exception as error:
                handler = partial(method, key=place.key) if takes_key else method
                folded = self._try_again(handler, row, event, stream)
                if folded is FAILED:
                    self._park(place, source, error)
                    continue
            if folded is not row:
                rows[place] = folded
                changes[place] = source
                if makes_row:
                    self.made.append(place)

    def settled(self, rows_max: int) -> None:
        """Take note that all changes are written, and keep no more than some rows, those used last."""
        rows = self.rows
        for place in self.made:
            if rows.pop(place, None) is not None:
                self.incomplete.add(place.table)
        if len(rows) > rows_max // 2:
            for place in self.changes:
                if place in rows:
                    rows[place] = rows.pop(place)
        while len(rows) > rows_max:
            place = next(iter(rows))
            del rows[place]
            self.incomplete.add(place.table)
        self.changes, self.tenants, self.parking, self.made, self.bad = {}, {}, [], [], {}

    def forget(self) -> None:
        """Drop all rows and changes: the tables may not be as they were left."""
        self.complete = False
        for collection in (self.rows, self.changes, self.tenants, self.parked, self.parking, self.made):
            collection.clear()
        self.incomplete.clear()
        self.bad = {}

    def __post_init__(self) -> None:
        self._plans = {
            event_type: [
                (mark.table, mark.keys, getattr(self.projection, mark.method), mark.takes_key, mark.makes_row)
                for mark in marks
            ]
            for event_type, marks in self.projection.whens.items()
        }

    def _waits(self, source: Decoded) -> bool:
        """Say whether an event only waits behind one of its stream whose rows could not be told; then it is parked."""
        if _whole_stream(source) not in self.parked:
            return False
        self._park(_whole_stream(source), source, None)
        return True

    @staticmethod
    def _try_again(method: Method, row: Any, event: Event, stream: Stream) -> Any:
        for _ in range(TRIES_MAX - 1):
            with suppress(Exception):  # the first failure is the one that is told
                return method(row, event, stream)
        return FAILED

    def _park(self, place: Place, source: Decoded, error: Exception | str | None) -> None:
        first = place not in self.parked
        self.parked.add(place)
        self.tenants[place.tenant] = source.stream.position
        text = describe(error) if isinstance(error, Exception) else error
        if not self.parking or (self.parking[-1].place, self.parking[-1].event) != (place, source.source):
            self.parking.append(Parked(place, source.source, text if first else None))


def _whole_stream(source: Decoded) -> Place:
    return Place(WHOLE_STREAM, source.stream.tenant, (source.stream.name,))


def describe(error: BaseException) -> str:
    """Return an error in a line, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    return storable(f"{type(error).__name__}: {error}{where}")[:ERROR_CHARACTERS_MAX]
