"""
Reads the documents that streams are told of: all that match, a page at a time, or some by their keys.

Each read says what it rests on: the position that all of it reflects, and which life of the rows it is of.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from projectors.projection import Key
from query_api.answers import Asked
from query_api.live.marks import Life
from query_api.live.subscription import Watched, key_text
from query_api.statements import Head, Statement, list_statement, orders_of, rows_statement
from query_api.tables import Generations, Tables
from schemas.errors import StoreUnavailable

PAGE_ROWS = 500
KEYS_PER_READ_MAX = 1_000
READS_AT_ONCE = 6
TRIES_MAX, TRY_SECONDS = 20, 0.05


class Row(NamedTuple):
    """A row as it was read."""

    key: str
    document: bytes
    position: int
    """Of the last event that changed it."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What one read has found."""

    life: Life
    position: int
    """All events up to here are reflected."""
    hash_prefix: str
    rows: Sequence[Row]


class LiveReader:
    """Reads rows for streams; bounded, so that a thousand streams that begin leave room for others."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._statements: dict[Any, Statement] = {}
        self._turns = asyncio.Semaphore(READS_AT_ONCE)

    async def by_key(self, watched: Watched, keys: Sequence[Key], at_least: int) -> Rows:
        """
        Return those of some rows that are there and match.

        Raises:
            StoreUnavailable: Nobody can answer.
        """
        found: list[Row] = []
        first: Rows | None = None
        for start in range(0, len(keys), KEYS_PER_READ_MAX):
            part = keys[start : start + KEYS_PER_READ_MAX]
            columns = {f"key_{number}": list(values) for number, values in enumerate(zip(*part, strict=True))}
            read, _ = await self._read(watched, columns, at_least, by_key=True)
            found += read.rows
            if first is None or read.life != first.life:
                first = read
        assert first is not None  # nobody asks for no keys
        return Rows(first.life, first.position, first.hash_prefix, found)

    async def pages(self, watched: Watched, at_least: int) -> AsyncIterator[Rows]:
        """
        Return all rows that match, a page at a time, in the list's own order; a row that moves may be in none or two.

        Raises:
            StoreUnavailable: Nobody can answer.
        """
        sort = next(iter(watched.query.sorts))
        orders = orders_of(watched.query, sort)
        after: dict[str, Any] = {}
        while True:
            page, last = await self._read(watched, after, at_least, by_key=False)
            yield page
            if len(page.rows) < PAGE_ROWS:
                return
            at_least = page.position
            after = {f"after_{number}": last[order.column] for number, order in enumerate(orders)}

    async def _read(
        self, watched: Watched, more: Mapping[str, Any], at_least: int, *, by_key: bool
    ) -> tuple[Rows, Any]:
        side = self._tables.side
        asked = Asked(watched.tenant, watched.partition, {}, {}, watched.arrived)
        values = {**watched.parameters, **more, "page_rows": PAGE_ROWS}
        for _ in range(TRIES_MAX):
            era, revision = side.era, side.applied(watched.projection, watched.partition).revision
            async with self._turns:
                found, heads = await self._tables.read(
                    (watched.projection,),
                    lambda generations: self._statement(watched, generations, bool(more), by_key),
                    values,
                    asked,
                    at_least,
                )
            head: Head = heads[watched.projection]
            if head.revision >= revision and side.era == era:
                rows = [_row(watched, row, head.position) for row in found if row["doc"] is not None]
                return Rows(
                    Life.of(era, head, watched.partition), head.position, head.hash_prefix, rows
                ), found[-1]
            await asyncio.sleep(TRY_SECONDS)  # a replica that has yet to hear of rows that were mended
        raise StoreUnavailable

    def _statement(
        self, watched: Watched, generations: Generations, goes_on: bool, by_key: bool
    ) -> Statement:
        query, namespace = watched.query, self._tables.namespace
        kind = (query.route, generations, watched.given, goes_on, by_key)
        statement = self._statements.get(kind)
        if statement is None:
            if by_key:
                statement = rows_statement(namespace, query, generations, watched.given)
            else:
                sort = next(iter(query.sorts))
                more = ("position", *watched.key_columns)
                statement = list_statement(namespace, query, generations, watched.given, sort, goes_on, more)
            self._statements[kind] = statement
        return statement


def _row(watched: Watched, row: Any, position: int) -> Row:
    """
    Return a row that was read at a position.

    One that nothing has changed since its tenant moved here says a position of where that was; what counts is that it
    is no later than the read.
    """
    doc = row["doc"]
    document = doc.encode() if isinstance(doc, str) else doc
    return Row(
        key_text([row[column] for column in watched.key_columns]), document, min(row["position"], position)
    )
