"""
Documents: one row by its key, out of Redis where that is new enough, else from the tables, else from the log.

The last is for a request that asks for more than the tables have: where the document is made from one stream, that
is folded once the wait is over, or at once where events of the key are parked, since waiting would not help. A few
folds go on at a time, and only of streams that are not long; others are told that the read side is behind.
"""

from typing import Protocol

import orjson

from infra.documents import DOCUMENT_SECONDS, Kind, Mark, Place, decode, digest_of
from query_api.answers import Answer, Asked, Prefixes, least
from query_api.cache import Cache, CacheAway, document_value, mark_of
from query_api.flights import Flights
from query_api.query import DocumentQuery
from query_api.statements import Head, Statement, document_statement
from query_api.tables import Generations, Tables
from query_api.turns import Loaded, load_in_turn
from schemas.envelope import CommitMark

NO_DIGEST = "0" * 16
GONE_SECONDS_MAX = 60
"""How long it is kept that a row is not there: whoever tries names must not fill the cache with them."""


class Folder(Protocol):
    """What folds a document from the log: `query_api.as_of.LogFolder`."""

    async def fold_now(self, query: type[DocumentQuery], asked: Asked) -> Answer | None:
        """Return the document as the log's head has it; None where that is too much to do now."""
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
        self._places: dict[tuple[int, str], Place] = {}

    async def read(self, asked: Asked, at_least: int) -> Answer:
        """Return the newest document there is: one that reflects `at_least` if that can be had now."""
        if self._cache is not None and (answer := await self._cached(self._cache, asked, at_least)):
            return answer
        key = self._key(asked)
        answer = await self._flights.join(
            (asked.tenant, asked.partition, key, at_least), lambda: self._load_in_turn(asked, key, at_least)
        )
        if answer.is_held_up and answer.position < at_least:
            return await self.read_log(asked) or answer
        return answer

    async def read_log(self, asked: Asked) -> Answer | None:
        """Return the document folded from its stream as the log has it; None where it has none, or not now."""
        return await self._folder.fold_now(self.query, asked) if self.query.stream else None

    def _key(self, asked: Asked) -> tuple[str, ...]:
        return tuple([asked.path[name] for name in self.query.path_names])

    def _place(self, generation: int, era: str) -> Place:
        place = self._places.get((generation, era))
        if place is None:
            place = self._places[generation, era] = Place(
                self._tables.namespace, self.query.projection.name, generation, era
            )
        return place

    async def _cached(self, cache: Cache, asked: Asked, at_least: int) -> Answer | None:
        side = self._tables.side
        ((name, generation),) = side.sound_generations(
            self.projections, asked.partition
        ) or await side.generations(self.projections, asked.partition)
        if not side.trusts_cache(name, generation, asked.partition):
            return None
        place = self._place(generation, side.era)
        keys = (
            place.mark(asked.partition),
            place.last_applied(asked.partition, asked.tenant),
            place.document(asked.partition, asked.tenant, self._key(asked)),
        )
        try:
            mark_value, last_value, value = await cache.get(keys)
        except CacheAway:
            return None
        mark, document = mark_of(mark_value), decode(value)
        if mark is None or document is None or document.kind is Kind.PARKED or not is_told(last_value, mark):
            return None
        reflected = document.reflects(mark)
        floor = side.floor(name, generation, asked.partition)
        if reflected is None or reflected[0] < max(at_least, asked.arrived, floor):
            return None
        body = document.data if document.kind is Kind.THERE else None
        return Answer(body, document.digest, *reflected, is_hit=True)

    async def _load_in_turn(self, asked: Asked, key: tuple[str, ...], at_least: int) -> Answer:
        cache, known = self._cache, self._tables.side.known_generations(self.projections)
        if cache is None or known is None:
            return (await self._load(asked, key, at_least))[0]
        turn = self._place(known[0][1], self._tables.side.era).turn(asked.partition, asked.tenant, key)
        return await load_in_turn(
            cache,
            turn,
            lambda: self._load(asked, key, at_least),
            lambda: self._cached(cache, asked, at_least),
        )

    async def _load(self, asked: Asked, key: tuple[str, ...], at_least: int) -> Loaded:
        era = (
            self._tables.side.era
        )  # before the read: what is read in one era is never kept as of a later one
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
        digest = NO_DIGEST if data is None else digest_of(data)
        answer = Answer(data, digest, position, hash_prefix, is_held_up=is_held_up)
        if self._cache is None or head.parked:
            return answer, False
        self._keep(self._cache, asked, key, era, head, data)
        return answer, not head.tenant_parked

    def _keep(
        self, cache: Cache, asked: Asked, key: tuple[str, ...], era: str, head: Head, data: bytes | None
    ) -> None:
        place = self._place(head.generation, era)
        as_of = CommitMark(head.position, bytes.fromhex(head.hash_prefix))
        seconds = (
            self.query.cache_seconds if data is not None else min(self.query.cache_seconds, GONE_SECONDS_MAX)
        )
        values = {place.document(asked.partition, asked.tenant, key): document_value(as_of, data)}
        cache.fill(place, asked.partition, as_of, values, seconds=seconds)
        if not head.tenant_parked:
            position = document_value(as_of, b"%d" % head.tenant_position)
            last = {place.last_applied(asked.partition, asked.tenant): position}
            cache.fill(place, asked.partition, as_of, last, seconds=DOCUMENT_SECONDS)

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
