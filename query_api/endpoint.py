"""
A query over HTTP: who asks, what is asked, how fresh it must be, and what of it the client has already.

The route of a document out of the cache carries most of the traffic, so what a request does not ask for costs it
nothing: parameters, positions and preferences are only looked at where they are given.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl, quote, urlencode

from starlette.types import ASGIApp, Receive, Scope, Send

from infra.auth import Authenticator, Principal
from infra.http import SEND_REPLY, Reply, Request
from infra.telemetry import Counter, Histogram, span
from query_api.answers import Answer, Asked, Reader
from query_api.applied import ReadSide
from query_api.exports.export import Export, Exporter, Pages, can_be_exported, wanted_format
from query_api.freshness import NO_PREFIX, History, read_changed, read_fresh, token_of, with_position
from query_api.parameters import PATH_CHARACTERS_MAX, Parameters, error, parse_parameters
from query_api.preferences import (
    NO_PREFERENCES,
    WAIT_SECONDS_DEFAULT,
    Preferences,
    check_accept,
    etag_of,
    matches,
    parse_prefer,
)
from query_api.query import ANY_ROLE, DocumentQuery, Query
from query_api.tables import TenantMoved
from schemas.errors import Forbidden, Invalid, NotFound, ProjectionBehind, ServiceError
from schemas.position import Position

REQUESTS = Counter("everfold_query_requests_total", "Queries answered", ["query", "status"])
SECONDS = Histogram(
    "everfold_query_seconds",
    "Time that queries took",
    ["query"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30),
)
HITS = Counter("everfold_query_cache_total", "Queries answered from the cache, or not", ["query", "cache"])
VIEWER = "viewer"
"""Named in the problem where no particular role is needed, but any."""

_JSON = (b"content-type", b"application/json")
_PRIVATE = (b"cache-control", b"private, no-cache")
_HIT, _MISS = (b"cache-status", b"everfold; hit"), (b"cache-status", b"everfold; fwd=miss")
_STALE = (b"everfold-stale", b"?1")


class NotModified(Reply):
    """An answer that has no body, nor a length of one."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it (ASGI)."""
        send_reply = scope.get(SEND_REPLY)
        if send_reply is None or not send_reply(self.status, self.headers, b""):
            await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
            await send({"type": "http.response.body", "body": b""})


class PastReader(Protocol):
    """What answers `as_of`: `query_api.as_of.LogFolder`."""

    async def fold_as_of(self, query: type[DocumentQuery], asked: Asked, as_of: str) -> Answer:
        """Return a document as it was."""
        ...


class Endpoint:
    """Answers GET on one query's route."""

    def __init__(
        self,
        query: type[Query],
        reader: Reader,
        parameters: type[Parameters],
        *,
        authenticator: Authenticator,
        history: History,
        side: ReadSide,
        past: PastReader,
    ) -> None:
        self.query = query
        self._reader = reader
        self._parameters = parameters
        self._defaults = defaults_of(parameters)
        self._authenticator = authenticator
        self._history = history
        self._side = side
        self._past = past
        self._has_as_of = issubclass(query, DocumentQuery) and query.stream is not None
        pages = cast(Pages, reader)  # readers of lists are
        self._exporter = Exporter(query, pages) if can_be_exported(query) else None
        self._counts: dict[Any, Any] = {}
        self._seconds = SECONDS.labels(query.name)
        self._hits = HITS.labels(query.name, "hit")
        self._misses = HITS.labels(query.name, "miss")

    async def __call__(self, request: Request) -> ASGIApp:
        """Answer one request."""
        started = time.perf_counter()
        status = 500
        try:
            with span("query", query=self.query.name):
                reply = await self._answer(request)
            status = reply.status
            return reply
        except ServiceError as problem:
            status = int(problem.status)
            raise
        finally:
            count = self._counts.get(status)
            if count is None:
                count = self._counts[status] = REQUESTS.labels(self.query.name, str(status))
            count.inc()
            self._seconds.observe(time.perf_counter() - started)

    async def _answer(self, request: Request) -> Reply | Export:
        headers = request.headers
        principal = await self._authenticator.authenticate(headers.get(b"authorization"))
        tenant = self._tenant_of(principal)
        accept = headers.get(b"accept")
        exported = wanted_format(accept) if self._exporter is not None else None
        if exported is None:
            check_accept(accept)
        self._side.require()
        query_string: bytes = request.scope["query_string"]
        parameters = self._defaults
        if query_string or parameters is None:
            parameters = parse_parameters(self._parameters, query_string)
        home = self._history.known_home(tenant)
        if home is None:
            home = await self._history.home_of(tenant)
        asked = Asked(tenant, home.partition, self._path_of(request), parameters, home.arrived)
        try:
            return await self._respond(request, asked, exported, query_string)
        except TenantMoved:
            home = await self._history.moved_from(tenant, asked.partition)
            asked = replace(asked, partition=home.partition, arrived=home.arrived)
            return await self._respond(request, asked, exported, query_string)

    async def _respond(
        self, request: Request, asked: Asked, exported: str | None, query_string: bytes
    ) -> Reply | Export:
        headers, parameters = request.headers, asked.parameters
        if self._has_as_of and query_string and parameters["as_of"] is not None:
            answer = await self._as_of(asked, headers)
            return self._reply(asked, answer, headers, NO_PREFERENCES, b"")
        token, prefer = headers.get(b"everfold-position"), headers.get(b"prefer")
        if exported is not None:
            return await self._export(asked, exported, query_string, token, parse_prefer(prefer))
        if token is None and prefer is None:
            if asked.arrived:
                await self._arrival(asked)
            answer = await self._reader.read(asked, 0)
            return self._reply(asked, answer, headers, NO_PREFERENCES, query_string, path=request)
        return await self._carefully(request, asked, token, parse_prefer(prefer))

    async def _export(
        self,
        asked: Asked,
        media_type: str,
        query_string: bytes,
        token: bytes | None,
        preferences: Preferences,
    ) -> Export:
        """Answer with the whole list; where a position is given, once the list reflects it."""
        assert self._exporter is not None  # the caller has looked
        at_least = 0
        if token is not None:
            needed = await self._history.parse(token.decode("latin-1"), asked.tenant)
            asked = await self._at(asked, needed)
            fresh = await read_fresh(self._reader, asked, needed, self._side, preferences)
            at_least = fresh.answer.position
        elif asked.arrived:
            await self._arrival(asked)
        given = [name for name, _ in parse_qsl(query_string.decode("ascii"), keep_blank_values=True)]
        return await self._exporter.export(asked, given, media_type, at_least)

    async def _carefully(
        self, request: Request, asked: Asked, token: bytes | None, preferences: Preferences
    ) -> Reply:
        """Answer a request that says how fresh the answer must be, or waits for a change."""
        is_stale = False
        if token is None:
            if asked.arrived:
                await self._arrival(asked)
            answer = await self._reader.read(asked, 0)
        else:
            text = token.decode("latin-1")
            needed = await self._history.parse(text, asked.tenant)
            asked = await self._at(asked, needed)
            answer, is_stale = await read_fresh(self._reader, asked, needed, self._side, preferences)
            await self._history.parse(text, asked.tenant)
        if_none_match = request.headers.get(b"if-none-match")
        waits = preferences.wait_seconds and if_none_match is not None and not is_stale
        if waits and answer.body is not None and matches(if_none_match or b"", etag_of(answer.digest)):
            seconds = float(preferences.wait_seconds or 0)
            answer = await read_changed(self._reader, asked, answer, self._side, seconds)
        return self._reply(
            asked,
            answer,
            request.headers,
            preferences,
            request.scope["query_string"],
            path=request,
            is_stale=is_stale,
        )

    async def _at(self, asked: Asked, needed: Position) -> Asked:
        """Return what is asked where the position is one that it must reflect."""
        if needed.partition != asked.partition:
            home = await self._history.moved_from(asked.tenant, asked.partition)
            asked = replace(asked, partition=home.partition, arrived=home.arrived)
        if asked.arrived:
            await self._arrival(asked)
        return asked

    async def _arrival(self, asked: Asked) -> None:
        """
        Wait until the read models have followed a tenant that moved: before, its positions say nothing of its rows.

        Raises:
            ProjectionBehind: They have not within the usual wait.
        """
        names, partition = self._reader.projections, asked.partition
        if all(self._side.applied(name, partition).position >= asked.arrived for name in names):
            return
        until = asyncio.get_running_loop().time() + WAIT_SECONDS_DEFAULT
        if not await self._side.wait(names, partition, asked.arrived, until):
            token = token_of(asked.tenant, partition, asked.arrived, NO_PREFIX)
            raise ProjectionBehind(token.decode(), float(WAIT_SECONDS_DEFAULT))

    async def _as_of(self, asked: Asked, headers: Mapping[bytes, bytes]) -> Answer:
        assert issubclass(self.query, DocumentQuery)
        if headers.get(b"everfold-position") is not None:
            raise Invalid([error("as_of", "cannot stand beside Everfold-Position")])
        return await self._past.fold_as_of(self.query, asked, asked.parameters["as_of"])

    def _tenant_of(self, principal: Principal) -> str:
        permission = self.query.permission
        if permission != ANY_ROLE:
            principal.require(permission)
        elif not principal.roles:
            raise Forbidden(VIEWER)
        return principal.tenant_or_refuse(permission or VIEWER)

    def _path_of(self, request: Request) -> Mapping[str, str]:
        for value in request.parameters.values():
            if len(value) > PATH_CHARACTERS_MAX or not value.isprintable():
                raise NotFound(self.query.view.__name__)
        return request.parameters

    def _reply(
        self,
        asked: Asked,
        answer: Answer,
        headers: Mapping[bytes, bytes],
        preferences: Preferences,
        query_string: bytes,
        *,
        path: Request | None = None,
        is_stale: bool = False,
    ) -> Reply:
        if answer.body is None:
            raise with_position(NotFound("document"), asked, answer)
        etag = etag_of(answer.digest)
        position = token_of(asked.tenant, answer.place(asked), answer.position, answer.hash_prefix)
        (self._hits if answer.is_hit else self._misses).inc()
        reply_headers = [
            (b"etag", etag),
            (b"everfold-position", position),
            _HIT if answer.is_hit else _MISS,
            _PRIVATE,
        ]
        if preferences is not NO_PREFERENCES and (applied := preferences.applied):
            reply_headers.append((b"preference-applied", applied))
        if is_stale:
            reply_headers.append(_STALE)
        if answer.next_cursor and path is not None:
            reply_headers.append((b"link", next_link(path, query_string, answer.next_cursor)))
        if_none_match = headers.get(b"if-none-match")
        if if_none_match is not None and matches(if_none_match, etag):
            return NotModified(304, b"", reply_headers)
        return Reply(200, answer.body, [_JSON, *reply_headers])


def defaults_of(parameters: type[Parameters]) -> Mapping[str, Any] | None:
    """Return what holds where nothing is given; None where something must be."""
    if any(field.is_required() for field in parameters.model_fields.values()):
        return None
    return parse_parameters(parameters, b"")


def next_link(request: Request, query_string: bytes, cursor: str) -> bytes:
    """Return the Link header that leads to the next page."""
    pairs: Sequence[tuple[str, str]] = [
        pair for pair in parse_qsl(query_string.decode("ascii")) if pair[0] != "cursor"
    ]
    path: bytes = request.scope.get("raw_path") or quote(request.path).encode()
    return b'<%s?%s>; rel="next"' % (path, urlencode([*pairs, ("cursor", cursor)]).encode())
