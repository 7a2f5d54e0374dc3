"""
The query API's process, put together: the only place on the read side that knows what is real.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp

from event_store.log import EventLog
from event_store.opening import open_log
from event_store.postgres import PostgresLog
from event_store.sealed_log import opened_events
from event_store.servers import LogRoles
from event_store.standing import Standing
from event_store.status import read_status
from event_store.vault import open_sealer, sealed
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
from query_api.live.changes import Changes
from query_api.live.endpoint import STOPPING, LiveEndpoint
from query_api.live.hub import Caps, Hub
from query_api.live.marks import Marks
from query_api.live.reading import LiveReader
from query_api.live.subscription import live_views
from query_api.live.tickets import Tickets
from query_api.openapi import Described, openapi_of
from query_api.operations import OPERATOR, OperationRoutes
from query_api.pages import PageReader
from query_api.parameters import Parameters, PastParameters
from query_api.preferences import check_accept
from query_api.query import ComputedQuery, DocumentQuery, ListQuery, Query
from query_api.replicas import PRIMARY_SECONDS_MAX, Server, Servers
from query_api.tables import Tables
from query_api.vetting import Vetting
from schemas.errors import StoreUnavailable
from schemas.registry import Registry


@dataclass(frozen=True)
class Parts:
    """What the routes of the query API stand on."""

    settings: Settings
    registry: Registry
    log: EventLog
    opened: EventLog
    """The log with its personal fields readable."""
    servers: Servers
    stores: Mapping[int, Server]
    side: ReadSide
    cache: Cache | None
    authenticator: Authenticator
    standing: Standing | None = None


@dataclass(frozen=True)
class QueryApi:
    """The query API: an ASGI application, and what it stands on."""

    edge: Edge
    parts: Parts
    hub: Hub


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
    history = History(parts.log, lambda: parts.side.era)
    folder = LogFolder(parts.opened, history, parts.registry)
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
    hub = make_hub(parts, queries, history)
    edge.on_drain.append(lambda: hub.end_all(STOPPING))
    LiveEndpoint(
        hub,
        authenticator=parts.authenticator,
        tickets=Tickets(parts.servers.primary, parts.settings.namespace),
        history=history,
        side=parts.side,
    ).add_to(router)
    OperationRoutes(parts.servers.primary, parts.settings.namespace, parts.authenticator).add_to(router)
    add_service_routes(
        router,
        ready=lambda: _missing(edge, parts),
        problems=problems,
        openapi=lambda: openapi_of(described, problems),
    )
    return QueryApi(edge, parts, hub)


def make_hub(parts: Parts, queries: Sequence[type[Query]], history: History) -> Hub:
    """Return what serves live streams of the lists that can be followed."""
    views = live_views(queries)
    cursors = Cursors(cursor_key("live", parts.settings.namespace, parts.settings.read_url_or_store))
    reader = LiveReader(Tables(parts.servers, parts.side, parts.settings.namespace))
    changes = Changes(parts.opened, parts.registry, views)
    settings = parts.settings
    caps = Caps(settings.live_streams_per_subject, settings.live_streams_per_tenant, settings.live_streams)
    return Hub(views, parts.side, changes, reader, Marks(cursors), caps, history.home_of)


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
        return HistoryReader(
            parts.stores, parts.log, parts.settings.namespace, cursors, opened_events(parts.opened)
        )

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


async def _missing(edge: Edge, parts: Parts) -> Mapping[str, str]:
    if edge.draining:
        return {"process": "is about to end"}
    if parts.standing is not None and (missing := parts.standing.missing()):
        return missing
    try:
        await parts.servers.can_read()
    except StoreUnavailable as error:
        return {"read tables": error.title()}
    return {}


@asynccontextmanager
async def query_api(settings: Settings, *, log: PostgresLog | None = None) -> AsyncIterator[QueryApi]:
    """Keep the query API over PostgreSQL and Redis for a block."""
    domains = load_domains(settings.domains)
    async with AsyncExitStack() as stack:
        read_url = settings.read_url_or_store
        role = settings.role_of("query")
        servers = Servers(read_url, settings.replica_urls, role=role)
        stack.push_async_callback(servers.close)
        stores = {
            partitions: Server(url, "store", statement_seconds_max=PRIMARY_SECONDS_MAX, role=role)
            for partitions, url in settings.store_urls.items()
        }
        for store in stores.values():
            stack.push_async_callback(store.close)
        authenticator = make_authenticator(settings)
        stack.push_async_callback(authenticator.close)
        if log is None:
            log = await stack.enter_async_context(open_log(settings, LogRoles(role, role)))
        registry = load_registry(domains)
        sealer = await stack.enter_async_context(open_sealer(settings, registry, log))
        opened = sealed(log, sealer, registry)
        cache = await _open_cache(stack, settings)
        vetting = Vetting(log, cache, settings.namespace)
        standing = await stack.enter_async_context(Standing(settings, log))
        parts = Parts(
            settings,
            registry,
            log,
            opened,
            servers,
            {partition: store for partitions, store in stores.items() for partition in partitions},
            await stack.enter_async_context(
                ReadSide(
                    servers.primary,
                    settings.namespace,
                    listen_url=read_url,
                    vetting=vetting,
                    require=standing.require,
                )
            ),
            cache,
            authenticator,
            standing,
        )
        api = make_query_api(parts, queries_of(domains))
        stack.push_async_callback(api.hub.close)
        yield api


async def _open_cache(stack: AsyncExitStack, settings: Settings) -> Cache | None:
    if settings.redis_url is None:
        return None
    redis = await stack.enter_async_context(RedisCache(settings.redis_url.get_secret_value()))
    return await stack.enter_async_context(Cache(redis))
