"""
What a projection is: a name, a version, rows, and what each event does to a row. Pure; the runner does the rest.

The runner loads the rows that a batch of events touches, folds in memory, and writes back in one upsert, so a
fold can be tested with no database. A row is a frozen dataclass or model. Its table (`table.sql` beside the
fold, created in each generation's own schema as `{schema}.<table>`) has the columns `tenant`, the key's
columns, `doc` (the row as JSON bytes: what readers are served and what the next fold starts from), `position`
(of the last event folded in), `commit_hash`, and any further columns that queries filter or sort by: each is
filled from the row's attribute or property of the same name.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from importlib import resources
from inspect import signature
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar, runtime_checkable

from schemas import Event

Key = tuple[str, ...]


class Stream(NamedTuple):
    """Where a folded event stands."""

    tenant: str
    name: str
    version: int
    position: int
    event_id: str
    recorded_at: datetime
    occurred_at: datetime
    """When it happened for the business (UTC)."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids in the stream's name: `("H1", "R101")` for `rooms/H1/R101`."""
        return _ids_of(self.name)


@lru_cache(maxsize=65_536)
def _ids_of(name: str) -> tuple[str, ...]:
    return tuple(name.split("/")[1:])


@runtime_checkable
class Row(Protocol):
    """One row of a read table."""

    def encode(self) -> bytes:
        """Return the row as JSON bytes: the `doc` column."""
        ...

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the row that `encode` wrote."""
        ...


AnyRow = TypeVar("AnyRow")
Keys = Callable[[Any, Stream], Iterable[Key]]
Handler = TypeVar("Handler", bound=Callable[..., Any])


@dataclass(frozen=True)
class When:
    """One event type's effect on one table's rows."""

    event: type[Event]
    keys: Keys
    table: str
    method: str
    takes_key: bool = False
    """Whether the method asks which row it is about."""
    makes_row: bool = False
    """Whether there is never a row yet, so that none need be looked up."""


def when(
    *events: type[Event],
    keys: Keys = lambda event, stream: (stream.ids,),
    table: str = "rows",
    makes_row: bool = False,
) -> Callable[[Handler], Handler]:
    """
    Mark a method as what some events do to the rows that `keys` names.

    The method is `def received(self, row, event, stream) -> row | None`: `row` is None where there is none yet,
    and a result of None deletes the row. `table` names one of the projection's tables. A method with a parameter
    `key` is told the row's key: where one event is about several rows, that is how they differ. `makes_row` says
    that each event makes rows of its own, which were never there before: the row given is then always None.
    """

    def mark(function: Handler) -> Handler:
        takes_key = "key" in signature(function).parameters
        function.__everfold_when__ = [  # type: ignore[attr-defined]  # a mark on the function itself
            (event, keys, table, takes_key, makes_row) for event in events
        ]
        return function

    return mark


class Projection(Generic[AnyRow]):
    """
    A read model: what rows follow from events.

    `row` is the class of the rows of the table named `rows`; a projection with several tables names them all in
    `tables`. `key` names the key's columns by table, in order. Raise `version` when anything about it changes.
    """

    abstract: ClassVar[bool] = True
    name: ClassVar[str]
    version: ClassVar[int] = 1
    row: ClassVar[type]
    key: ClassVar[tuple[str, ...]] = ()
    tables: ClassVar[dict[str, tuple[type, tuple[str, ...]]]]
    """Row class and key columns by table; `{"rows": (row, key)}` unless given."""
    document: ClassVar[str | None] = "rows"
    """The table whose rows are written through to the cache as documents; None for none."""
    whens: ClassVar[dict[str, tuple[When, ...]]]
    """By event type."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.abstract = "name" not in vars(cls)
        if cls.abstract:
            return
        if "tables" not in vars(cls):
            cls.tables = {"rows": (cls.row, cls.key)}
        whens: dict[str, list[When]] = {}
        for method in dir(cls):
            for event, keys, table, *more in getattr(getattr(cls, method, None), "__everfold_when__", ()):
                whens.setdefault(event.type, []).append(When(event, keys, table, method, *more))
        cls.whens = {event_type: tuple(marks) for event_type, marks in whens.items()}

    @classmethod
    def ddl(cls) -> str:
        """Return the SQL that creates the tables: `table.sql` beside the fold, with `{schema}` to fill in."""
        return resources.files(cls.__module__).joinpath("table.sql").read_text()

    def handler(self, mark: When, key: Key) -> Callable[[Any, Any, Stream], Any]:
        """Return what an event does to the row with this key: a function of row, event and stream."""
        method: Callable[..., Any] = getattr(self, mark.method)
        return partial(method, key=key) if mark.takes_key else method

    def fold(
        self, rows: dict[tuple[str, Key], Any], event: Event, stream: Stream
    ) -> Sequence[tuple[str, Key]]:
        """Fold one event into `rows` (by table and key) in place, and return what it touched."""
        touched = []
        for mark in self.whens.get(event.type, ()):
            for key in mark.keys(event, stream):
                place = (mark.table, tuple(key))
                rows[place] = self.handler(mark, place[1])(rows.get(place), event, stream)
                touched.append(place)
        return touched
