"""
A generation's tables as SQL: statements that load, write and delete many rows in one call each.

A column's values travel as one text, one after the other, which PostgreSQL takes apart and casts to the type in its
catalog: for short values that costs the projector a sixth of what arrays in the driver's binary form do.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any
from uuid import UUID

import orjson

from event_store.checkpoints import Connection
from infra.sql import load_sql
from projectors.decoding import Decoded
from projectors.folding import Place
from projectors.projection import Projection
from schemas.errors import BadDefinition, ServiceError

BETWEEN, NOTHING = "\x1f", "\x1e"
"""What stands between two values, and for one that is null. No value may hold them; JSON and ids never do."""
COMPARABLE_TYPES = frozenset(
    {
        "text", "character varying", "bytea", "bigint", "integer", "smallint", "boolean", "double precision",
        "numeric", "date", "timestamp with time zone", "uuid",
    }
)  # fmt: skip
"""Types of which the driver gives back the value that a row has."""
COPYABLE: Mapping[str, Callable[[str], Any]] = {
    "text": str, "character varying": str, "bytea": str.encode, "bigint": int, "integer": int, "smallint": int,
    "boolean": lambda text: text == "true", "double precision": float, "numeric": Decimal, "uuid": UUID,
    "date": date.fromisoformat, "timestamp with time zone": datetime.fromisoformat,
}  # fmt: skip
"""Types that are copied in binary form, and what makes a value of one where a row holds it as text."""
RECKONED = ("tenant", "doc", "position", "commit_hash")
"""The columns that every table has, besides its key, and that are not taken from the row."""


@dataclass(eq=False)
class UnwritableValue(ServiceError):
    """A value holds a control character (US or RS), which separates values on their way to the database."""

    column: str


@dataclass(frozen=True)
class Column:
    """A column, and how its values travel."""

    name: str
    type: str
    is_array: bool

    @property
    def is_comparable(self) -> bool:
        """Whether a stored value can be compared with a row's as it is, rather than as text."""
        return self.type.split("(")[0] in COMPARABLE_TYPES

    @property
    def cast(self) -> str:
        """What makes a column's value from a piece of text, `{}`."""
        if self.type == "bytea":
            return "convert_to({}, 'UTF8')" if self.name == "doc" else "decode({}, 'hex')"
        return "{}" if self.type == "text" else f"{{}}::{self.type}"

    def joined(self, values: Sequence[Any]) -> str:
        """
        Return values as they travel. The first piece is none: it tells no values from one that is empty.

        Raises:
            UnwritableValue: A value holds what stands between values.
        """
        text = self._join(values)
        if text.count(BETWEEN) != len(values) or (
            NOTHING in text and any(NOTHING in value for value in values if isinstance(value, str))
        ):
            raise UnwritableValue(self.name)
        return text

    def _join(self, values: Sequence[Any]) -> str:
        try:
            if self.name == "doc":
                return (BETWEEN.encode()).join((b"", *values)).decode()
            if self.type == "bytea":
                return BETWEEN.join(("", *map(bytes.hex, values)))
            if self.type == "bigint" and None not in values:
                return BETWEEN.join(("", *map(str, values)))
            return BETWEEN.join(("", *values))
        except TypeError:  # not all of them are what is usual
            return BETWEEN.join(("", *map(self._text, values)))

    def _text(self, value: Any) -> str:
        if value is None:
            return NOTHING
        if isinstance(value, str):
            return value
        if isinstance(value, bytes):
            return value.hex() if self.type == "bytea" and self.name != "doc" else value.decode()
        if self.is_array:
            return array_literal(value)
        if self.type in ("json", "jsonb"):
            return orjson.dumps(value, default=_plain).decode()
        return str(value)

    def comparable(self, value: Any) -> Any:
        """Return a row's value as a stored one is read for comparing."""
        return value if value is None or self.is_comparable else self._text(value)

    @property
    def is_copyable(self) -> bool:
        """Whether values can be sent in the driver's binary form, which is what `COPY` is fast with."""
        return (
            self.type.split("(")[0] in COPYABLE if not self.is_array else self.type in ("text[]", "bigint[]")
        )

    def copied(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return values in the types that the driver sends: a row may hold a day or a time as text."""
        if self.is_array:
            return [None if value is None else list(value) for value in values]
        convert = COPYABLE[self.type.split("(")[0]]
        return [value if value is None or type(value) is not str else convert(value) for value in values]


def array_literal(values: Iterable[Any]) -> str:
    """Return a list as PostgreSQL's text form of an array."""
    parts = []
    for value in values:
        if value is None:
            parts.append("NULL")
        else:
            text = str(value).replace("\\", "\\\\").replace('"', '\\"')
            parts.append(f'"{text}"')
    return "{" + ",".join(parts) + "}"


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"{type(value).__name__} has no JSON form")
    return dump(mode="json")


Written = tuple[Place, Any, bytes, Decoded]
"""A row to be written: its place, itself, its document, and the last event folded into it."""


@dataclass(frozen=True)
class Table:
    """One table of one generation."""

    schema: str
    name: str
    row: type
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def full_name(self) -> str:
        """The table's name with its schema."""
        return f'"{self.schema}"."{self.name}"'

    @cached_property
    def _key_columns(self) -> list[Column]:
        by_name = {column.name: column for column in self.columns}
        return [by_name[name] for name in ("tenant", *self.key)]

    # -- statements; `first` is the number of their first parameter ---------------------------------------

    def upsert(self, first: int = 1) -> str:
        """Return the statement that writes rows, one parameter per column."""
        names = _names(self.columns)
        values = ", ".join(column.cast.format(f'r."{column.name}"') for column in self.columns)
        others = [column.name for column in self.columns if column.name not in ("tenant", *self.key)]
        updates = ", ".join(f'"{name}" = excluded."{name}"' for name in others)
        return (
            f"INSERT INTO {self.full_name} ({names}) SELECT {values} FROM {_pieces(self.columns, first)} "
            f"AS r ({names}) ON CONFLICT ({_names(self._key_columns)}) DO UPDATE SET {updates}"
        )

    def delete(self, first: int = 1) -> str:
        """Return the statement that deletes rows, one parameter per key column."""
        given = f"{_pieces(self._key_columns, first)} AS k ({_names(self._key_columns)})"
        return f"DELETE FROM {self.full_name} AS t USING {given} WHERE {self._keys_equal}"

    @cached_property
    def load(self) -> str:
        """Return the statement that reads rows by key: their numbers in what was asked, and their documents."""
        given = f"{_pieces(self._key_columns, 1)} WITH ORDINALITY AS k ({_names(self._key_columns)}, number)"
        return f"SELECT k.number, t.doc FROM {given} JOIN {self.full_name} AS t ON {self._keys_equal}"

    @cached_property
    def _keys_equal(self) -> str:
        pairs = (
            (f't."{column.name}"', column.cast.format(f'k."{column.name}"')) for column in self._key_columns
        )
        return " AND ".join(f"{ours} = {given}" for ours, given in pairs)

    # -- arguments ----------------------------------------------------------------------------------------

    def key_arguments(self, places: Sequence[Place]) -> list[str]:
        """Return the arguments that name rows."""
        columns: list[list[str]] = [[place.tenant for place in places]]
        columns += [[place.key[number] for place in places] for number in range(len(self.key))]
        return [column.joined(values) for column, values in zip(self._key_columns, columns, strict=True)]

    def row_arguments(self, rows: Sequence[Written]) -> list[str]:
        """Return the arguments that write rows."""
        return [column.joined(self._column_values(column, rows)) for column in self.columns]

    @cached_property
    def is_copyable(self) -> bool:
        """Whether rows can be sent with `COPY` in binary form."""
        return all(column.is_copyable for column in self.columns)

    def copied_rows(self, rows: Sequence[Written]) -> Iterable[tuple[Any, ...]]:
        """Return rows as `COPY` sends them."""
        columns = [column.copied(self._column_values(column, rows)) for column in self.columns]
        return zip(*columns, strict=True)

    def comparable_rows(self, rows: Sequence[Written]) -> Iterable[tuple[Any, ...]]:
        """Return rows as they must be read back with `as_written`."""
        columns = [map(column.comparable, self._column_values(column, rows)) for column in self.columns]
        return zip(*columns, strict=True)

    @cached_property
    def as_written(self) -> str:
        """Return what to select so that stored rows can be compared with folded ones."""
        return ", ".join(
            f'"{column.name}"' if column.is_comparable else f'"{column.name}"::text AS "{column.name}"'
            for column in self.columns
        )

    def _column_values(self, column: Column, rows: Sequence[Written]) -> list[Any]:
        name = column.name
        if name == "tenant":
            return [place.tenant for place, _, _, _ in rows]
        if name in self.key:
            number = self.key.index(name)
            return [place.key[number] for place, _, _, _ in rows]
        if name == "doc":
            return [document for _, _, document, _ in rows]
        if name == "position":
            return [source.stream.position for _, _, _, source in rows]
        if name == "commit_hash":
            return [source.commit_hash for _, _, _, source in rows]
        return [getattr(row, name) for _, row, _, _ in rows]

    async def load_rows(self, connection: Connection, places: Sequence[Place]) -> dict[Place, Any]:
        """Return rows by place; None where there is none."""
        row_class: Any = self.row
        documents = await self.load_documents(connection, places)
        return {
            place: None if document is None else row_class.decode(document)
            for place, document in documents.items()
        }

    async def load_documents(
        self, connection: Connection, places: Sequence[Place]
    ) -> dict[Place, bytes | None]:
        """Return rows' documents by place; None where there is none."""
        found: dict[Place, bytes | None] = dict.fromkeys(places)
        for number, document in await connection.fetch(self.load, *self.key_arguments(places)):
            found[places[number - 1]] = _bytes(document)
        return found


def _names(columns: Sequence[Column]) -> str:
    return ", ".join(f'"{column.name}"' for column in columns)


def _pieces(columns: Sequence[Column], first: int) -> str:
    """Return the set of rows that texts, one per column, are taken apart into."""
    arrays = ", ".join(
        f"(string_to_array(${first + number}::text, E'\\x1f', E'\\x1e'))[2:]"
        for number in range(len(columns))
    )
    return f"unnest({arrays})"


def _bytes(document: bytes | str) -> bytes:
    return document.encode() if isinstance(document, str) else document


async def read_tables(
    connection: Connection, projection: type[Projection[Any]], schema: str
) -> Mapping[str, Table]:
    """
    Return a generation's tables by name, as the database's catalog describes them.

    Raises:
        BadDefinition: A table is missing, or lacks a column that it must have.
    """
    columns: dict[str, list[Column]] = {}
    for row in await connection.fetch(load_sql("projectors", "sql/columns.sql"), schema):
        columns.setdefault(row["table_name"], []).append(Column(row["name"], row["type"], row["is_array"]))
    tables = {}
    for name, (row_class, key) in projection.tables.items():
        there = {column.name for column in columns.get(name, ())}
        if lacking := {*RECKONED, *key} - there:
            raise BadDefinition(
                f"table {name} of projection {projection.name}", f"has no {', '.join(sorted(lacking))}"
            )
        tables[name] = Table(schema, name, row_class, tuple(key), tuple(columns[name]))
    return tables
