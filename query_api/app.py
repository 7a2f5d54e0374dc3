"""
The query API's process, put together: the only place on the read side that knows what is real.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp

from event_store.log import EventLog
from event_store.postgres import PostgresLog
from event_store.status import read_status
from infra.auth import Authenticator, make_authenticator
from infra.domains import Domain, definitions, load_domains, load_registry
from infra.edge import Edge
from infra.http import Handler, Reply, Request, Router, json_reply
from infra.problems import ProblemTypes
from infra.redis import RedisCache
from infra.service_routes import add_service_routes
from infra.settings import Settings
from query_api.answers import Reader
from query_api.applied import ReadSide
from query_api.as_of import LogFolder
from query_api.cache import Cache
from query_api.cursor import Cursors, cursor_key
from query_api.documents import DocumentReader
from query_api.endpoint import Endpoint
from query_api.freshness import History
from query_api.history import GetHistory, HistoryReader
from query_api.openapi import Described, openapi_of
from query_api.pages import PageReader
from query_api.parameters import Parameters, PastParameters
from query_api.preferences import check_accept
from query_api.query import ComputedQuery, DocumentQuery, ListQuery, Query
from query_api.replicas import PRIMARY_SECONDS_MAX, Server, Servers
from query_api.tables import Tables
from schemas.errors import StoreUnavailable
from schemas.registry import Registry

OPERATOR = "operator"


@dataclass(frozen=True)
class Parts:
    """What the routes of the query API stand on."""

    settings: Settings
    registry: Registry
    log: EventLog
    servers: Servers
    stores: Mapping[int, Server]
    side: ReadSide
    cache: Cache | None
    authenticator: Authenticator


@dataclass(frozen=True)
class QueryApi:
    """The query API: an ASGI application, and what it stands on."""

    edge: Edge
    parts: Parts


def queries_of(domains: Sequence[Domain]) -> list[type[Query]]:
    """Return the queries of some domains, and the engine's own."""
    found: list[type[Query]] = definitions(domains, "query_api", Query)
    return [*found, GetHistory]


def make_query_api(parts: Parts, queries: Sequence[type[Query]]) -> QueryApi:
    """Return the query API of some queries."""
    router = Router()
    edge = Edge(router, cors_origins=parts.settings.cors_origins)
    problems = ProblemTypes(parts.registry.rejections.values())
    described: list[Described] = []
    make = _readers(parts)
    history = History(parts.log)
    folder = LogFolder(parts.log, history, parts.registry)
    for query in queries:
        parameters = parameters_of(query)
        described.append((query, parameters))
        endpoint = Endpoint(
            query,
            make(query, history, folder),
            parameters,
            authenticator=parts.authenticator,
            history=history,
            side=parts.side,
            past=folder,
        )
        _add(router, f"/v1/{query.route}", endpoint)
    _add(router, "/v1/status", _status(parts))
    add_service_routes(
        router,
        ready=lambda: _missing(edge, parts.servers),
        problems=problems,
        openapi=lambda: openapi_of(described, problems),
    )
    return QueryApi(edge, parts)


def parameters_of(query: type[Query]) -> type[Parameters]:
    """Return what a query's route may be asked with."""
    if issubclass(query, ListQuery):
        return query.page_parameters
    if issubclass(query, DocumentQuery):
        return PastParameters if query.stream else Parameters
    return query.parameters


def _readers(parts: Parts) -> Callable[[type[Query], History, LogFolder], Reader]:
    tables = Tables(parts.servers, parts.side, parts.settings.namespace)
    cursors = Cursors(cursor_key(parts.settings.namespace, parts.settings.read_url_or_store))

    def make(query: type[Query], history: History, folder: LogFolder) -> Reader:
        if issubclass(query, DocumentQuery):
            return DocumentReader(query, tables, parts.cache, history, folder)
        if issubclass(query, ListQuery | ComputedQuery):
            return PageReader(query, tables, parts.cache, history, cursors)
        return HistoryReader(parts.stores, parts.settings.namespace, cursors)

    return make


def _add(router: Router, path: str, handler: Handler) -> None:
    async def options(_request: Request) -> ASGIApp:
        return Reply(204, b"", [(b"allow", b"GET, HEAD, OPTIONS")])

    router.add("GET", path, handler)
    router.add("OPTIONS", path, options)


def _status(parts: Parts) -> Handler:
    async def status(request: Request) -> ASGIApp:
        principal = await parts.authenticator.authenticate(request.headers.get(b"authorization"))
        principal.require(OPERATOR)
        check_accept(request.headers.get(b"accept"))
        settings = parts.settings
        return json_reply(
            await read_status(
                parts.log, parts.servers.primary, settings.namespace, uses_broker=settings.uses_broker
            )
        )

    return status


async def _missing(edge: Edge, servers: Servers) -> Mapping[str, str]:
    if edge.draining:
        return {"process": "is about to end"}
    try:
        await servers.can_read()
    except StoreUnavailable as error:
        return {"read tables": error.title()}
    return {}


@asynccontextmanager
async def query_api(settings: Settings, *, log: EventLog | None = None) -> AsyncIterator[QueryApi]:
    """Keep the query API over PostgreSQL and Redis for a block."""
    domains = load_domains(settings.domains)
    async with AsyncExitStack() as stack:
        read_url = settings.read_url_or_store
        servers = Servers(read_url, settings.replica_urls)
        stack.push_async_callback(servers.close)
        stores = {
            partitions: Server(url, "store", statement_seconds_max=PRIMARY_SECONDS_MAX)
            for partitions, url in settings.store_urls.items()
        }
        for store in stores.values():
            stack.push_async_callback(store.close)
        authenticator = make_authenticator(settings)
        stack.push_async_callback(authenticator.close)
        if log is None:
            log = await stack.enter_async_context(PostgresLog(settings.store_urls, settings.namespace))
        parts = Parts(
            settings,
            load_registry(domains),
            log,
            servers,
            {partition: store for partitions, store in stores.items() for partition in partitions},
            await stack.enter_async_context(
                ReadSide(servers.primary, settings.namespace, listen_url=read_url)
            ),
            await _open_cache(stack, settings),
            authenticator,
        )
        yield make_query_api(parts, queries_of(domains))


async def _open_cache(stack: AsyncExitStack, settings: Settings) -> Cache | None:
    if settings.redis_url is None:
        return None
    redis = await stack.enter_async_context(RedisCache(settings.redis_url.get_secret_value()))
    return await stack.enter_async_context(Cache(redis))
