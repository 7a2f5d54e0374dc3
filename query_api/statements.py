"""
Makes the statement of a read: a query's own SQL and the head that says what it rests on, in one snapshot.

Generation and checkpoint come back with the rows, so a reader knows exactly what it has been served, by whichever
server. Named parameters become `$1 …`; names of schemas are filled in, never values.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from infra.sql import load_sql
from query_api.query import DocumentQuery, ListQuery

_NAME = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)\b")
_COMMENT = re.compile(r"--[^\n]*")


class Statement(NamedTuple):
    """SQL with positional parameters, and their names in order."""

    sql: str
    names: tuple[str, ...]

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the parameters' values in order."""
        return [values[name] for name in self.names]


@dataclass(frozen=True, slots=True)
class Head:
    """What one projection's part of an answer rests on."""

    projection: str
    generation: int
    position: int
    """The checkpoint in the tenant's partition."""
    hash_prefix: str
    tenant_position: int
    """The tenant's own last applied position."""
    parked: int
    """The position of the first event that is parked for the rows read; 0: none is."""
    tenant_parked: int
    """The same for any row of the tenant."""
    revision: int = 0
    """How often rows of the tenant's partition have changed without an event: mended, released, scrubbed."""
    followed_to: int = -1
    """The partition in which the tenant's last event was applied; -1: not said."""


def parse_heads(text: str | None) -> dict[str, Head]:
    """Return what `head.sql` says, by projection."""
    heads = {}
    for part in (text or "").split(";"):
        if part:
            name, generation, position, hash_prefix, *numbers = part.split(",")
            heads[name] = Head(
                name,
                int(generation),
                int(position),
                hash_prefix,
                *map(int, numbers),
            )
    return heads


def schema_of(namespace: str, projection: str, generation: int) -> str:
    """Return the schema of a generation's tables."""
    return f"{namespace}_{projection.replace('-', '_')}_{generation}"


def positional(sql: str) -> Statement:
    """Return a statement with `:name`s as a statement with `$n`s; comments go."""
    names: list[str] = []

    def place(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    return Statement(_NAME.sub(place, _COMMENT.sub("", sql)).strip(), tuple(names))


def head_sql(namespace: str) -> str:
    """Return the statement that makes a head."""
    return _COMMENT.sub("", load_sql("query_api", "sql/head.sql", namespace=namespace)).strip()


def scoped(sql: str, namespace: str) -> str:
    """
    Return a read that first names its tenant (`:tenant`) to the database, whose row security shows no other's rows.

    The name lasts until the end of the transaction, which is this statement. It is there before anything is read:
    the read depends on it (LATERAL) and is fenced off (OFFSET), so the only plan is a nested loop with the name's one
    row outside, whose inside is not begun before, and whose order is the read's.
    """
    return (
        f"SELECT answer.* FROM set_config('{namespace}.tenants', ARRAY[:tenant::text]::text, true) AS scope (tenants)\n"
        f"CROSS JOIN LATERAL (\nSELECT * FROM (\n{sql}\n) AS read WHERE scope.tenants IS NOT NULL OFFSET 0\n) AS answer"
    )


def document_statement(namespace: str, query: type[DocumentQuery], generation: int) -> Statement:
    """Return the read of one document: columns `head` and `doc`."""
    columns = query.projection.tables[query.table][1]
    schema = schema_of(namespace, query.projection.name, generation)
    where = " AND ".join(
        f"{column} = :{name}" for column, name in zip(columns, query.path_names, strict=True)
    )
    return positional(
        scoped(
            f"SELECT ({head_sql(namespace)}) AS head,\n"
            f"    (SELECT doc FROM {schema}.{query.table} WHERE tenant = :tenant AND {where}) AS doc",
            namespace,
        )
    )


def rows_statement(
    namespace: str,
    query: type[ListQuery],
    generations: tuple[tuple[str, int], ...],
    given: tuple[str, ...],
) -> Statement:
    """
    Return the read of some rows of a plain list by their keys (`:key_0 …`, arrays), where the filters hold for them.

    Columns `head`, `doc`, `position` and the key's. There is always a row; `doc` is null in it where none is found.
    """
    key = query.projection.tables[query.table][1]
    numbers = range(len(key))
    conditions = [query.filters[name] for name in given]
    conditions += [f"{column} = wanted.key_{number}" for number, column in zip(numbers, key, strict=True)]
    source = query.source.replace("{filters}", " AND ".join(f"({condition})" for condition in conditions))
    columns = ", ".join(f"body.{column}" for column in ("doc", "position", *key))
    arrays = ", ".join(f":key_{number}::text[]" for number in numbers)
    names = ", ".join(f"key_{number}" for number in numbers)
    each = ""
    if query.each in given:
        each = f"CROSS JOIN (SELECT DISTINCT unnest(:{query.each}::text[])) AS each (value)\n"
    statement = (
        f"SELECT head.head, {columns}\n"
        f"FROM ({head_sql(namespace)}) AS head (head)\n"
        f"LEFT JOIN LATERAL (\nSELECT body.* FROM unnest({arrays}) AS wanted ({names})\n{each}"
        f"CROSS JOIN LATERAL ({without_comments(source)}) AS body\n) AS body ON true"
    )
    return positional(scoped(_with_schemas(statement, namespace, generations), namespace))


class Order(NamedTuple):
    """One column of an order."""

    column: str
    falls: bool


def orders_of(query: type[ListQuery], sort: str) -> tuple[Order, ...]:
    """Return the columns that an order sorts by."""
    parts = [column.split() for column in query.sorts[sort]]
    return tuple(Order(part[0], part[-1].upper() == "DESC") for part in parts)


def list_statement(
    namespace: str,
    query: type[ListQuery],
    generations: tuple[tuple[str, int], ...],
    given: tuple[str, ...],
    sort: str,
    after: bool,
    more: Sequence[str] = (),
    walk: str | None = None,
) -> Statement:
    """
    Return the read of a page: columns `head`, `doc`, those sorted by, any `more`, and `frame`.

    `given` names the filters that hold, `walk` the one of them whose walk is taken, `after` says whether the page
    follows another (`:after_0 …`). There is always a row; `doc` is null in it where the page is empty.
    """
    orders = orders_of(query, sort)
    columns = ", ".join(f"body.{name}" for name in dict.fromkeys([*(o.column for o in orders), *more]))
    order_by = ", ".join(f"body.{order.column}{' DESC' if order.falls else ''}" for order in orders)
    conditions = [query.filters[name] for name in given if name in query.filters and name != walk]
    source = query.walks[walk].sql if walk else query.source
    if "{filters}" in source:
        source = source.replace(
            "{filters}", " AND ".join(f"({condition})" for condition in conditions) or "true"
        )
        conditions = []
    if after:
        conditions.append(_beyond(orders, as_row=walk is None))
    where = " AND ".join(f"({condition})" for condition in conditions) or "true"
    frame = "NULL::bytea"
    if query.frame:
        _, key = query.projection.tables.get(query.frame, (None, query.path_names))
        match = " AND ".join(
            f"{column} = :{name}" for column, name in zip(key, query.path_names, strict=True)
        )
        schema = "{" + query.projection.name.replace("-", "_") + "}"
        frame = f"(SELECT doc FROM {schema}.{query.frame} WHERE tenant = :tenant AND {match})"
    page = (
        f"SELECT body.doc, {columns} FROM ({without_comments(source)}) AS body WHERE {where}\n"
        f"ORDER BY {order_by} LIMIT :page_rows::integer"
    )
    if query.each in given:
        page = (
            f"SELECT body.* FROM (SELECT DISTINCT unnest(:{query.each}::text[])) AS each (value)\n"
            f"CROSS JOIN LATERAL (\n{page}\n) AS body\n"
            f"ORDER BY {order_by} LIMIT :page_rows::integer"
        )
    statement = (
        f"SELECT head.head, body.doc, {columns}, {frame} AS frame\n"
        f"FROM ({head_sql(namespace)}) AS head (head)\n"
        f"LEFT JOIN LATERAL (\n{page}\n) AS body ON true\n"
        f"ORDER BY {order_by}"
    )
    return positional(scoped(_with_schemas(statement, namespace, generations), namespace))


def computed_statement(namespace: str, source: str, generations: tuple[tuple[str, int], ...]) -> Statement:
    """Return the read of a computed object: columns `head` and `doc`."""
    statement = (
        f"SELECT head.head, body.doc FROM ({head_sql(namespace)}) AS head (head)\n"
        f"LEFT JOIN LATERAL ({without_comments(source)}) AS body ON true LIMIT 1"
    )
    return positional(scoped(_with_schemas(statement, namespace, generations), namespace))


def _beyond(orders: Sequence[Order], *, as_row: bool) -> str:
    """
    Return the condition that a row comes after the values `:after_0 …` in an order.

    Where all columns go one way it may be one comparison of rows, which an index serves from its exact place on. A
    filter that bounds the first column, too, is then what PostgreSQL begins with: a walk has its bounds apart.
    """
    if as_row and len({order.falls for order in orders}) == 1:
        columns = ", ".join(f"body.{order.column}" for order in orders)
        values = ", ".join(f":after_{number}" for number in range(len(orders)))
        return f"({columns}) {'<' if orders[0].falls else '>'} ({values})"
    alternatives = []
    for index, order in enumerate(orders):
        equal = [f"body.{earlier.column} = :after_{number}" for number, earlier in enumerate(orders[:index])]
        beyond = f"body.{order.column} {'<' if order.falls else '>'} :after_{index}"
        alternatives.append(" AND ".join([*equal, beyond]))
    first = orders[0]
    bound = f"body.{first.column} {'<=' if first.falls else '>='} :after_0"
    return f"{bound} AND ({' OR '.join(f'({alternative})' for alternative in alternatives)})"


def _with_schemas(sql: str, namespace: str, generations: tuple[tuple[str, int], ...]) -> str:
    for projection, generation in generations:
        placeholder = "{" + projection.replace("-", "_") + "}"
        sql = sql.replace(placeholder, schema_of(namespace, projection, generation))
    return sql


def without_comments(sql: str) -> str:
    """Return a statement as it can stand inside of another."""
    return _COMMENT.sub("", sql).strip().rstrip(";")
