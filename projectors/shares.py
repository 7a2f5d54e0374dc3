"""
One worker's share of a projection in a partition: the rows whose keys fall to it. Runs in a process of its own.

A worker does no I/O: rows that it lacks are handed in, changed rows are handed back, and whoever leads writes those of
all workers with the checkpoint in one transaction. So what a worker remembers can be thrown away at any moment, and
the number of workers may change between any two pages. Every worker reads every event in order and takes the steps of
its own keys, so the events of a key are folded in their order, by one worker.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple
from zlib import crc32

from event_store.log import Page
from infra.domains import definitions, load_domains, load_registry
from infra.embedded.process import end_with_parent
from infra.garbage import collect_seldom
from projectors.decoding import Decoder
from projectors.folding import Folding, Place, Step, describe
from projectors.projection import Projection
from schemas.registry import Registry

SHARES_REMEMBERED_MAX = 256
EVENTS_AT_ONCE = 1_000
"""What is folded in one go: folds remember what they work out about so many events."""


class Whose(NamedTuple):
    """Which projection in which partition."""

    projection: str
    generation: int
    partition: int


class Asked(NamedTuple):
    """What a worker is to fold."""

    whose: Whose
    token: str
    """Another one than before: forget what is remembered, nobody knows whether it was written."""
    number: int
    shares: int
    """The share is the one with this number, of so many."""
    page: Page
    parked: Sequence[Place]
    skipped: Sequence[tuple[int, Place]]
    bad: Mapping[Place, str]
    complete: bool
    """Whether there are no rows yet: where a share is begun, it lacks none then."""
    rows_max: int


class Folded(NamedTuple):
    """What has become of a share's rows; documents by place, None where the row is gone."""

    rows: Mapping[Place, bytes | None]
    positions: Mapping[Place, int]
    """Of the last event folded into each row."""
    tenants: Mapping[str, int]
    parking: Sequence[tuple[Place, int, str | None]]
    """Place, position and error of the events that are set aside."""
    parked: Sequence[Place]
    refused: Mapping[Place, str]
    """Rows that have no JSON form."""


class _Share:
    """What one worker remembers of one projection in one partition."""

    def __init__(self, asked: Asked, registry: Registry, kind: type[Projection[Any]]) -> None:
        self.token = asked.token
        projection = kind()
        self.row_classes = {name: row for name, (row, _) in kind.tables.items()}
        self._decoder = Decoder(registry, [projection])
        self.folding = Folding(projection, complete=asked.complete)
        self.folding.parked, self.folding.skipped = set(asked.parked), set(asked.skipped)
        self._steps: list[list[Step]] = []
        self._asked = asked

    def plan(self, asked: Asked) -> dict[str, set[Place]]:
        """Take up a page, and return the rows that are lacking for it, by table."""
        if self._steps:
            self.folding.settled(asked.rows_max)
        self._asked = asked
        self.folding.bad = asked.bad
        events = self._decoder.decode(asked.page).events
        self._steps = []
        missing: dict[str, set[Place]] = {}
        for start in range(0, len(events), EVENTS_AT_ONCE):
            steps = [
                step
                for step in self.folding.plan(events[start : start + EVENTS_AT_ONCE])
                if self._own(step[0])
            ]
            self._steps.append(steps)
            for table, places in self.folding.missing(steps).items():
                missing.setdefault(table, set()).update(places)
        return missing

    def fold(self, rows: Mapping[Place, bytes | None]) -> Folded:
        """Fold the page that was planned."""
        folding = self.folding
        for place, document in rows.items():
            row_class: Any = self.row_classes[place.table]
            folding.rows[place] = None if document is None else row_class.decode(document)
        for steps in self._steps:
            folding.fold(steps)
        refused: dict[Place, str] = {}
        documents: dict[Place, bytes | None] = {}
        for place in folding.changes:
            row = folding.rows.get(place)
            try:
                documents[place] = None if row is None else row.encode()
            except Exception as error:  # what a row's own method raises parks the row, and nothing else
                refused[place] = describe(error)
        return Folded(
            documents,
            {place: source.stream.position for place, source in folding.changes.items()},
            folding.tenants,
            [(one.place, one.event.position, one.error) for one in folding.parking if self._own(one.place)],
            [place for place in folding.parked if self._own(place)],
            refused,
        )

    def _own(self, place: Place) -> bool:
        return share_of(place, self._asked.shares) == self._asked.number


def share_of(place: Place, count: int) -> int:
    """Return which of so many workers has a row."""
    return crc32("\x1f".join((place.tenant, place.table, *map(str, place.key))).encode()) % count


_shares: dict[Whose, _Share] = {}
"""Those used last."""


def begin(domains: tuple[str, ...]) -> None:
    """Be a worker: end with whoever leads, and know the domains before the first page."""
    from signal import SIGKILL

    end_with_parent(SIGKILL)
    _known(domains)
    collect_seldom()


@cache
def _known(domains: tuple[str, ...]) -> tuple[Registry, Mapping[str, type[Projection[Any]]]]:
    loaded = load_domains(domains)
    kinds: list[type[Projection[Any]]] = definitions(loaded, "projectors", Projection)
    return load_registry(loaded), {kind.name: kind for kind in kinds}


def plan(domains: tuple[str, ...], asked: Asked) -> dict[str, set[Place]]:
    """Take up a share of a page, and return the rows that are lacking for it, by table."""
    share = _shares.pop(asked.whose, None)
    if share is None or share.token != asked.token:
        registry, kinds = _known(domains)
        share = _Share(asked, registry, kinds[asked.whose.projection])
    _shares[asked.whose] = share
    if len(_shares) > SHARES_REMEMBERED_MAX:
        del _shares[next(iter(_shares))]
    return share.plan(asked)


def fold(whose: Whose, rows: Mapping[Place, bytes | None]) -> Folded:
    """Fold the share that was planned last."""
    return _shares[whose].fold(rows)
