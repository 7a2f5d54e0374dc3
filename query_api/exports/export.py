"""
An export over HTTP: what is asked for by `Accept`, and the answer, made while it is sent, at the client's pace.

Every page reflects what the first one does, at least, as the pages of a list that a client walks do; pages are not
kept in the cache. Where one cannot be had, the connection is cut, so a file that is whole is known to be.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson
from starlette.types import Receive, Scope, Send

from infra.telemetry import Counter
from query_api.answers import Answer, Asked
from query_api.exports.columns import Column, columns_of, item_view
from query_api.exports.formats import ENDINGS, Writer, writers
from query_api.freshness import token_of
from query_api.parameters import PAGE_ITEMS_MAX, error
from query_api.preferences import ranges_of
from query_api.query import ComputedQuery, DocumentQuery, Query
from schemas.errors import Invalid, Overloaded

PART_PAGES = 10
EXPORTS_AT_ONCE = 8
OWN_PARAMETERS = ("limit", "cursor")

EXPORTED = Counter("everfold_exports_total", "Lists that were exported", ["query", "format"])


class Pages(Protocol):
    """What reads a list's pages past the cache."""

    async def page(self, asked: Asked, at_least: int) -> Answer:
        """Return a page that reflects a position at least, if that can be had."""
        ...


def wanted_format(accept: bytes | None) -> str | None:
    """Return the format that a request would rather have than JSON; None where it would not."""
    if accept is None or (b"csv" not in accept and b"parquet" not in accept):
        return None
    weights = ranges_of(accept)
    offered = [(weights.get(name, 0.0), name) for name in writers()]
    weight, name = max(offered, default=(0.0, ""))
    as_json = max(weights.get(other, 0.0) for other in ("application/json", "application/*", "*/*"))
    return name if weight > 0 and weight >= as_json else None


def can_be_exported(query: type[Query]) -> bool:
    """Say whether a query answers with a list."""
    return not issubclass(query, DocumentQuery | ComputedQuery)


class Exporter:
    """Exports one list."""

    at_once = 0
    """Exports that are under way in this process."""

    def __init__(self, query: type[Query], reader: Pages) -> None:
        self._query, self._reader = query, reader
        self._columns: Sequence[Column] = columns_of(item_view(query))
        self._formats: Mapping[str, Callable[[Sequence[Column]], Writer]] = writers()

    async def export(self, asked: Asked, given: Sequence[str], media_type: str, at_least: int) -> "Export":
        """
        Return the answer of an export, with its first page read.

        Raises:
            Invalid: A page was asked for.
            Overloaded: So many are under way as may be.
        """
        if wrong := [name for name in OWN_PARAMETERS if name in given]:
            raise Invalid([error(name, "an export is the whole list") for name in wrong])
        if Exporter.at_once >= EXPORTS_AT_ONCE:
            raise Overloaded(waiting=Exporter.at_once)
        asked = replace(asked, parameters={**asked.parameters, "limit": PAGE_ITEMS_MAX})
        first = await self._reader.page(asked, at_least)
        EXPORTED.labels(self._query.name, ENDINGS[media_type]).inc()
        name = f"{self._query.route.rpartition('/')[2]}.{ENDINGS[media_type]}"
        headers = [
            (b"content-type", media_type.encode() + (b"; charset=utf-8" if "text" in media_type else b"")),
            (b"content-disposition", f'attachment; filename="{name}"'.encode()),
            (
                b"everfold-position",
                token_of(asked.tenant, first.place(asked), first.position, first.hash_prefix),
            ),
            (b"vary", b"Accept"),
        ]
        return Export(self, asked, first, self._formats[media_type](self._columns), headers)

    async def items(self, asked: Asked, first: Answer) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """Return a list's items, page by page."""
        page = first
        while True:
            yield orjson.loads(page.body or b'{"items":[]}')["items"]
            if not page.next_cursor:
                return
            asked = replace(asked, parameters={**asked.parameters, "cursor": page.next_cursor})
            page = await self._reader.page(asked, first.position)


@dataclass(slots=True)
class Export:
    """An export's answer (ASGI)."""

    exporter: Exporter
    asked: Asked
    first: Answer
    writer: Writer
    headers: list[tuple[bytes, bytes]]
    status: int = 200

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        Exporter.at_once += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.headers})
            if scope["method"] != "HEAD":
                async for part in self._parts():
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            Exporter.at_once -= 1

    async def _parts(self) -> AsyncIterator[bytes]:
        items: list[Mapping[str, Any]] = []
        pages = 0
        async for page in self.exporter.items(self.asked, self.first):
            items += page
            pages += 1
            if pages % PART_PAGES == 0 and items:
                yield await asyncio.to_thread(self.writer.part, items)
                items = []
        if items:
            yield await asyncio.to_thread(self.writer.part, items)
        yield await asyncio.to_thread(self.writer.end)
