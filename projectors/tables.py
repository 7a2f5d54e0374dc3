"""
A generation's tables as SQL: statements that load, write and delete many rows in one call each.

Values go as one array per column. Types that asyncpg sends in binary form go as they are; all others (json, arrays,
ranges …) go as text, which PostgreSQL casts to the column's own type, read from its catalog.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from event_store.checkpoints import Connection
from infra.sql import load_sql
from projectors.folding import Change, Place
from projectors.projection import Projection
from schemas.errors import BadDefinition

BINARY_TYPES = frozenset(
    {
        "text", "character varying", "bytea", "bigint", "integer", "smallint", "boolean", "double precision",
        "numeric", "date", "timestamp with time zone", "uuid",
    }
)  # fmt: skip
RECKONED = ("tenant", "doc", "position", "commit_hash")
"""The columns that every table has, besides its key, and that are not taken from the row."""

Convert = Callable[[Any], Any]


@dataclass(frozen=True)
class Column:
    """A column, and how its values travel."""

    name: str
    type: str
    is_array: bool

    @property
    def is_binary(self) -> bool:
        """Whether values go in PostgreSQL's binary form."""
        return self.type.split("(")[0] in BINARY_TYPES

    @property
    def parameter_type(self) -> str:
        """The element type of the array that carries the values."""
        return self.type.split("(")[0] if self.is_binary else "text"

    @property
    def cast(self) -> str:
        """What makes a column's value from an element."""
        return "" if self.is_binary else f"::{self.type}"

    def convert(self, value: Any) -> Any:
        """Return a row's value as it travels."""
        if value is None or self.is_binary:
            return value
        if self.is_array:
            return array_literal(value)
        if isinstance(value, bytes):
            return value.decode()
        if self.type in ("json", "jsonb") and not isinstance(value, str):
            return orjson.dumps(value, default=_plain).decode()
        return str(value)


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

    @cached_property
    def is_text_document(self) -> bool:
        """Whether the document is kept as json rather than as bytes."""
        return next(column for column in self.columns if column.name == "doc").type != "bytea"

    # -- statements; `first` is the number of their first parameter ---------------------------------------

    def upsert(self, first: int = 1) -> str:
        """Return the statement that writes rows, one array per column."""
        names = ", ".join(f'"{column.name}"' for column in self.columns)
        values = ", ".join(f'r."{column.name}"{column.cast}' for column in self.columns)
        others = [column.name for column in self.columns if column.name not in ("tenant", *self.key)]
        updates = ", ".join(f'"{name}" = excluded."{name}"' for name in others)
        keys = ", ".join(f'"{column.name}"' for column in self._key_columns)
        return (
            f"INSERT INTO {self.full_name} ({names}) SELECT {values} FROM {_unnest(self.columns, first)} "
            f"AS r ({names}) ON CONFLICT ({keys}) DO UPDATE SET {updates}"
        )

    def delete(self, first: int = 1) -> str:
        """Return the statement that deletes rows, one array per key column."""
        return f"DELETE FROM {self.full_name} AS t USING {self._keys_given(first)}"

    @cached_property
    def load(self) -> str:
        """Return the statement that reads rows by key: their numbers in what was asked, and their documents."""
        numbered = _unnest(self._key_columns, 1) + " WITH ORDINALITY"
        names = ", ".join(f'"{column.name}"' for column in self._key_columns)
        return (
            f"SELECT k.number, t.doc FROM {numbered} AS k ({names}, number) "
            f"JOIN {self.full_name} AS t ON {self._keys_equal('k')}"
        )

    def _keys_given(self, first: int) -> str:
        names = ", ".join(f'"{column.name}"' for column in self._key_columns)
        return f"{_unnest(self._key_columns, first)} AS k ({names}) WHERE {self._keys_equal('k')}"

    def _keys_equal(self, alias: str) -> str:
        return " AND ".join(
            f't."{column.name}" = {alias}."{column.name}"{column.cast}' for column in self._key_columns
        )

    # -- arguments ----------------------------------------------------------------------------------------

    def key_arguments(self, places: Sequence[Place]) -> list[list[Any]]:
        """Return the arguments that name rows."""
        arrays: list[list[Any]] = [[place.tenant for place in places]]
        arrays += [[place.key[number] for place in places] for number in range(len(self.key))]
        return [
            array if column.is_binary else [column.convert(value) for value in array]
            for column, array in zip(self._key_columns, arrays, strict=True)
        ]

    def row_arguments(self, rows: Sequence[tuple[Place, Any, bytes, Change]]) -> list[list[Any]]:
        """Return the arguments that write rows: place, row, document, and where its last event stands."""
        return [self._column_values(column, rows) for column in self.columns]

    def _column_values(self, column: Column, rows: Sequence[tuple[Place, Any, bytes, Change]]) -> list[Any]:
        name = column.name
        values: list[Any]
        if name == "tenant":
            values = [place.tenant for place, _, _, _ in rows]
        elif name in self.key:
            number = self.key.index(name)
            values = [place.key[number] for place, _, _, _ in rows]
        elif name == "doc":
            values = [document for _, _, document, _ in rows]
        elif name == "position":
            values = [change.position for _, _, _, change in rows]
        elif name == "commit_hash":
            values = [change.commit_hash for _, _, _, change in rows]
        else:
            values = [getattr(row, name) for _, row, _, _ in rows]
        return values if column.is_binary else [column.convert(value) for value in values]

    async def load_rows(self, connection: Connection, places: Sequence[Place]) -> dict[Place, Any]:
        """Return rows by place; None where there is none."""
        found: dict[Place, Any] = dict.fromkeys(places)
        for number, document in await connection.fetch(self.load, *self.key_arguments(places)):
            found[places[number - 1]] = self.row.decode(_bytes(document))  # type: ignore[attr-defined]
        return found


def _unnest(columns: Sequence[Column], first: int) -> str:
    arrays = ", ".join(
        f"${first + number}::{column.parameter_type}[]" for number, column in enumerate(columns)
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
