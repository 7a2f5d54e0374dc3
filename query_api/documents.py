"""
Documents: one row by its key, out of Redis where that is new enough, else from the tables, else from the log.

The last is for a document whose key has parked events: its row is older than the checkpoint says, so a request
that asks for freshness is answered by folding the document's one stream, where it has one.
"""

from typing import Protocol

import orjson

from infra.documents import Kind, Mark, Place, decode
from query_api.answers import Answer, Asked, Prefixes, least
from query_api.cache import Cache, CacheAway, document_value, mark_of
from query_api.flights import Flights
from query_api.query import DocumentQuery
from query_api.statements import Statement, document_statement
from query_api.tables import Generations, Tables
from schemas.envelope import CommitMark

NO_DIGEST = "0" * 16


class Folder(Protocol):
    """What folds a document from the log: `query_api.as_of.LogFolder`."""

    async def fold_now(self, query: type[DocumentQuery], asked: Asked) -> Answer:
        """Return the document as the log's head has it."""
        ...


class DocumentReader:
    """Answers one `DocumentQuery`."""

    def __init__(
        self,
        query: type[DocumentQuery],
        tables: Tables,
        cache: Cache | None,
        history: Prefixes,
        folder: Folder,
    ) -> None:
        self.query = query
        self.projections: tuple[str, ...] = (query.projection.name,)
        self._tables = tables
        self._cache = cache if query.is_cached() else None
        self._history = history
        self._folder = folder
        self._flights: Flights[Answer] = Flights()
        self._statements: dict[Generations, Statement] = {}
        self._places: dict[int, Place] = {}

    async def read(self, asked: Asked, at_least: int) -> Answer:
        """Return the newest document there is: one that reflects `at_least` if that can be had now."""
        if self._cache is not None and (answer := await self._cached(self._cache, asked, at_least)):
            return answer
        key = self._key(asked)
        answer = await self._flights.join(
            (asked.tenant, key, at_least), lambda: self._load(asked, key, at_least)
        )
        if answer.is_held_up and answer.position < at_least and self.query.stream:
            return await self._folder.fold_now(self.query, asked)
        return answer

    def _key(self, asked: Asked) -> tuple[str, ...]:
        return tuple([asked.path[name] for name in self.query.path_names])

    def _place(self, generation: int) -> Place:
        place = self._places.get(generation)
        if place is None:
            place = self._places[generation] = Place(
                self._tables.namespace, self.query.projection.name, generation
            )
        return place

    async def _cached(self, cache: Cache, asked: Asked, at_least: int) -> Answer | None:
        side = self._tables.side
        ((name, generation),) = side.known_generations(self.projections) or await side.generations(
            self.projections
        )
        place = self._place(generation)
        keys = (
            place.mark(asked.partition),
            place.last_applied(asked.tenant),
            place.document(asked.tenant, self._key(asked)),
        )
        try:
            mark_value, last_value, value = await cache.get(keys)
        except CacheAway:
            return None
        mark, document = mark_of(mark_value), decode(value)
        if mark is None or document is None or document.kind is Kind.PARKED or not is_told(last_value, mark):
            return None
        reflected = document.reflects(mark)
        if reflected is None or reflected[0] < max(at_least, side.floor(name, generation, asked.partition)):
            return None
        body = document.data if document.kind is Kind.THERE else None
        return Answer(body, document.digest, *reflected, is_hit=True)

    async def _load(self, asked: Asked, key: tuple[str, ...], at_least: int) -> Answer:
        rows, heads = await self._tables.read(
            self.projections,
            self._statement,
            dict(asked.path),
            asked,
            at_least,
            table_name=self.query.table,
            key=orjson.dumps(key).decode(),
        )
        head = heads[self.projections[0]]
        data: bytes | None = rows[0]["doc"]
        position, hash_prefix, is_held_up = await least(heads, asked.partition, self._history)
        if data is None:
            return Answer(None, NO_DIGEST, position, hash_prefix, is_held_up=is_held_up)
        as_of = CommitMark(head.position, bytes.fromhex(head.hash_prefix))
        value = document_value(as_of, data)
        if self._cache is not None and not head.parked:
            place = self._place(head.generation)
            values = {place.document(asked.tenant, key): value}
            if not head.tenant_parked:
                last = document_value(as_of, b"%d" % head.tenant_position)
                values[place.last_applied(asked.tenant)] = last
            self._cache.fill(place, asked.partition, as_of, values)
        digest = decode(value).digest  # type: ignore[union-attr]  # it was encoded a moment ago
        return Answer(data, digest, position, hash_prefix, is_held_up=is_held_up)

    def _statement(self, generations: Generations) -> Statement:
        statement = self._statements.get(generations)
        if statement is None:
            statement = document_statement(self._tables.namespace, self.query, generations[0][1])
            self._statements[generations] = statement
        return statement


def is_told(last_value: bytes | None, mark: Mark) -> bool:
    """
    Say whether the cache knows of all events of the tenant up to its mark.

    It does not where events of the tenant are parked: their rows may be any.
    """
    return (
        last_value is not None
        and last_value[:1] == Kind.THERE.value
        and int(last_value[1:17], 16) >= mark.start
    )
