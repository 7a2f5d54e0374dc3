"""
Lists and computed objects: out of Redis under everything that they depend on, else from the tables.

A page is a function of the generations, the tenant's own last applied positions and the question; so it is kept
under exactly these, and there is nothing to invalidate: one tenant's writes do not miss another's pages, and a
flushed Redis revives nothing. The positions stand in Redis like documents, and come with the marks that say up to
where they are true.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from infra.documents import DOCUMENT_SECONDS, Kind, Place, decode, digest_of, pack, unpack
from query_api.answers import Answer, Asked, Prefixes, least
from query_api.cache import Cache, CacheAway, document_value, mark_of
from query_api.cursor import Cursors, scope_of
from query_api.documents import NO_DIGEST
from query_api.flights import Flights
from query_api.query import ComputedQuery, ListQuery
from query_api.statements import Head, Statement, computed_statement, list_statement, orders_of
from query_api.tables import Generations, Tables
from query_api.turns import Loaded, load_in_turn
from schemas.envelope import CommitMark

GUESSES_MAX = 4_096
PAGE_FORMAT = 2
"""Part of every page's key, so that a program meets only pages that it can read."""
_PLAIN, _PACKED = b"d", b"z"
_HEADER_CHARACTERS = 1 + 16 + 4

Rows = Sequence[Any]


class Question(NamedTuple):
    """A request in the form that its page is stored and its statement made by."""

    asked: Asked
    sort: str
    given: tuple[str, ...]
    """The parameters that have a value."""
    after: Sequence[Any]
    """The values of the last row of the page before."""
    scope: bytes
    digest: str


class Body(NamedTuple):
    """An answer made from rows."""

    data: bytes | None
    next_cursor: str = ""


class PageReader:
    """Answers one `ListQuery` or `ComputedQuery`."""

    def __init__(
        self,
        query: type[ListQuery] | type[ComputedQuery],
        tables: Tables,
        cache: Cache | None,
        history: Prefixes,
        cursors: Cursors,
    ) -> None:
        self.query = query
        self.projections = tuple(sorted(projection.name for projection in query.reads))
        self._tables = tables
        self._cache = cache if query.cache_seconds else None
        self._history = history
        self._cursors = cursors
        self._flights: Flights[Answer] = Flights()
        self._statements: dict[Any, Statement] = {}
        self._guesses: OrderedDict[str, str] = OrderedDict()
        """The key of each question's last page: most likely that of its next, so it is asked for together with all
        that says whether it is."""
        self._signature = _signature(query)

    async def read(self, asked: Asked, at_least: int) -> Answer:
        """Return the newest page there is: one that reflects `at_least` if that can be had now."""
        question = self._question(asked)
        if self._cache is not None and (answer := await self._cached(self._cache, question, at_least)):
            return answer
        return await self._flights.join(
            (asked.tenant, question.digest, at_least), lambda: self._load_in_turn(question, at_least)
        )

    async def page(self, asked: Asked, at_least: int) -> Answer:
        """Return a page out of the tables, and keep it nowhere: of lists that are walked to their end."""
        return (await self._load(self._question(asked), at_least, keeps=False))[0]

    async def read_log(self, _asked: Asked) -> Answer | None:
        """Return None: it is made of more than one stream."""
        return None

    def _question(self, asked: Asked) -> Question:
        parameters = dict(asked.parameters)
        cursor = parameters.pop("cursor", None)
        sort = parameters.get("sort", "")
        limit = parameters.pop("limit", 0)
        said = {**asked.path, **parameters}
        given = tuple(name for name, value in said.items() if value not in (None, ()))
        scope = scope_of(asked.tenant, self.query.name, sort, {name: said[name] for name in given})
        after = self._cursors.read(scope, cursor) if cursor else ()
        data = scope + orjson.dumps([limit, cursor, asked.partition])
        return Question(asked, sort, given, after, scope, blake2b(data, digest_size=16).hexdigest())

    async def _cached(self, cache: Cache, question: Question, at_least: int) -> Answer | None:
        side, asked = self._tables.side, question.asked
        generations = side.sound_generations(self.projections, asked.partition) or await side.generations(
            self.projections, asked.partition
        )
        if not all(side.trusts_cache(*generation, asked.partition) for generation in generations):
            return None
        era = side.era
        places = [Place(self._tables.namespace, *generation, era) for generation in generations]
        keys: list[str] = []
        for place in places:
            keys += place.mark(asked.partition), place.last_applied(asked.partition, asked.tenant)
        guess = self._guesses.get(question.digest, "")
        try:
            *values, page = await cache.get([*keys, guess or keys[0]])
            tenant_positions, reflected = [], []
            for place, mark_value, value in zip(places, values[::2], values[1::2], strict=True):
                mark, last = mark_of(mark_value), decode(value)
                if mark is None or last is None or last.kind is not Kind.THERE:
                    return None
                known = last.reflects(mark)
                floor = side.floor(place.projection, place.generation, asked.partition)
                if known is None or known[0] < max(at_least, asked.arrived, floor):
                    return None
                reflected.append(known)
                tenant_positions.append(int(last.data))
            key = self._page_key(question, era, generations, tenant_positions)
            if key != guess:
                (page,) = await cache.get([key])
                self._guess(question, key)
        except CacheAway:
            return None
        if page is None:
            return None
        return decode_page(page, *min(reflected))

    def _guess(self, question: Question, key: str) -> None:
        self._guesses[question.digest] = key
        if len(self._guesses) > GUESSES_MAX:
            self._guesses.popitem(last=False)

    def _page_key(
        self, question: Question, era: str, generations: Generations, tenant_positions: Sequence[int]
    ) -> str:
        places = ",".join(
            f"{generation}.{position}"
            for (_, generation), position in zip(generations, tenant_positions, strict=True)
        )
        return f"{self._tables.namespace}:l:{self._signature}:{era}:{places}:{question.digest}"

    async def _load_in_turn(self, question: Question, at_least: int) -> Answer:
        cache = self._cache
        if cache is None:
            return (await self._load(question, at_least))[0]
        turn = f"{self._tables.namespace}:f:{self._signature}:{self._tables.side.era}:{question.digest}"
        return await load_in_turn(
            cache,
            turn,
            lambda: self._load(question, at_least),
            lambda: self._cached(cache, question, at_least),
        )

    async def _load(self, question: Question, at_least: int, *, keeps: bool = True) -> Loaded:
        asked = question.asked
        era = (
            self._tables.side.era
        )  # before the read: what is read in one era is never kept as of a later one
        values = {**asked.path, **asked.parameters, "page_rows": asked.parameters.get("limit", 0) + 1}
        values |= {f"after_{number}": value for number, value in enumerate(question.after)}
        rows, heads = await self._tables.read(
            self.projections,
            lambda generations: self._statement(question, generations),
            values,
            asked,
            at_least,
        )
        body = self._body(question, rows)
        position, hash_prefix, is_held_up = await least(heads, asked.partition, self._history)
        digest = NO_DIGEST if body.data is None else digest_of(body.data)
        answer = Answer(
            body.data, digest, position, hash_prefix, next_cursor=body.next_cursor, is_held_up=is_held_up
        )
        is_parked = any(head.tenant_parked for head in heads.values())
        if not keeps or self._cache is None or body.data is None or is_parked:
            return answer, False
        self._keep(self._cache, question, era, heads, answer)
        return answer, True

    def _keep(
        self, cache: Cache, question: Question, era: str, heads: Mapping[str, Head], answer: Answer
    ) -> None:
        asked = question.asked
        for head in heads.values():
            place = Place(self._tables.namespace, head.projection, head.generation, era)
            as_of = CommitMark(head.position, bytes.fromhex(head.hash_prefix))
            value = document_value(as_of, b"%d" % head.tenant_position)
            cache.fill(
                place,
                asked.partition,
                as_of,
                {place.last_applied(asked.partition, asked.tenant): value},
                seconds=DOCUMENT_SECONDS,
            )
        generations = tuple((name, heads[name].generation) for name in self.projections)
        positions = [heads[name].tenant_position for name in self.projections]
        key = self._page_key(question, era, generations, positions)
        cache.put_page(key, encode_page(answer), seconds=self.query.cache_seconds)

    def _statement(self, question: Question, generations: Generations) -> Statement:
        walk = self._walk(question, generations)
        key = (generations, question.given, question.sort, bool(question.after), walk)
        statement = self._statements.get(key)
        if statement is None:
            namespace = self._tables.namespace
            if issubclass(self.query, ListQuery):
                sort = question.sort or next(iter(self.query.sorts))
                statement = list_statement(
                    namespace,
                    self.query,
                    generations,
                    question.given,
                    sort,
                    bool(question.after),
                    walk=walk,
                )
            else:
                statement = computed_statement(namespace, self.query.source, generations)
            self._statements[key] = statement
        return statement

    def _walk(self, question: Question, generations: Generations) -> str | None:
        if not issubclass(self.query, ListQuery) or not self.query.walks:
            return None
        name = self.query.projection.name
        version = self._tables.side.version(name, dict(generations)[name])
        return self.query.walk_of(question.given, question.sort or next(iter(self.query.sorts)), version)

    def _body(self, question: Question, rows: Rows) -> Body:
        if not issubclass(self.query, ListQuery):
            return Body(_bytes(rows[0]["doc"]))
        frame = _bytes(rows[0]["frame"])
        if self.query.frame and frame is None:
            return Body(None)
        limit = question.asked.parameters["limit"]
        found = [row for row in rows if row["doc"] is not None]
        next_cursor = ""
        if len(found) > limit:
            found = found[:limit]
            orders = orders_of(self.query, question.sort or next(iter(self.query.sorts)))
            next_cursor = self._cursors.make(question.scope, [found[-1][order.column] for order in orders])
        start = b"{" if frame is None else frame.rstrip()[:-1] + b","
        items = b",".join([_bytes(row["doc"]) or b"" for row in found])
        following = b'"' + next_cursor.encode() + b'"' if next_cursor else b"null"
        return Body(start + b'"items":[' + items + b'],"next":' + following + b"}", next_cursor)


def _bytes(doc: Any) -> bytes | None:
    return doc.encode() if isinstance(doc, str) else doc


def encode_page(answer: Answer) -> bytes:
    """Return a page as it is kept."""
    cursor, body = answer.next_cursor.encode(), answer.body or b""
    packed = pack(body)
    kind = _PLAIN if packed is None else _PACKED
    return kind + answer.digest.encode() + f"{len(cursor):04x}".encode() + cursor + (packed or body)


def decode_page(value: bytes, position: int, hash_prefix: str) -> Answer | None:
    """Return a kept page; None where it cannot be read."""
    digest = value[1:17].decode()
    end = _HEADER_CHARACTERS + int(value[17:_HEADER_CHARACTERS], 16)
    cursor = value[_HEADER_CHARACTERS:end].decode()
    body = unpack(value[end:]) if value[:1] == _PACKED else value[end:]
    if body is None:
        return None
    return Answer(body, digest, position, hash_prefix, is_hit=True, next_cursor=cursor)


def _signature(query: type[ListQuery] | type[ComputedQuery]) -> str:
    """Return what stands for the declaration, so that another release's pages are not taken for this one's."""
    parts: list[Any] = [PAGE_FORMAT, query.name, query.route, query.source]
    if issubclass(query, ListQuery):
        parts += [dict(query.filters), {name: list(columns) for name, columns in query.sorts.items()}]
        parts += [
            query.table,
            query.frame,
            query.each,
            {name: list(walk) for name, walk in query.walks.items()},
        ]
    return blake2b(orjson.dumps(parts), digest_size=8).hexdigest()
