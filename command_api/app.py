"""
The command API's process, put together: the only place on the write side that knows what is real.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

from command_api.batch_route import BatchRoute
from command_api.decider import Decider, Rules
from command_api.openapi import openapi_of
from command_api.pipeline import Pipeline
from command_api.routes import CommandRoutes
from event_store.housekeeping import HOUSE_SECONDS
from event_store.log import EventLog
from event_store.postgres import PostgresLog
from infra.auth import Authenticator, make_authenticator
from infra.domains import Domain, definitions, load_domains, load_registry
from infra.edge import Edge
from infra.http import Router
from infra.problems import ProblemTypes
from infra.rate import RateLimiter
from infra.service_routes import add_service_routes
from infra.settings import Settings
from infra.telemetry import log
from schemas.errors import BadDefinition, ServiceError


def rules_of(domains: Sequence[Domain]) -> Rules:
    """Return the deciders of some domains."""
    return Rules([decider() for decider in definitions(domains, "command_api", Decider)])


@dataclass
class CommandApi:
    """The command API: an ASGI application, and the pipeline behind it."""

    edge: Edge
    pipeline: Pipeline
    authenticator: Authenticator

    async def close(self) -> None:
        """Finish what waits, and give back what is held."""
        await self.pipeline.close()
        await self.authenticator.close()


def make_command_api(
    settings: Settings,
    event_log: EventLog,
    *,
    pipeline: Pipeline | None = None,
    limiter: RateLimiter | None = None,
) -> CommandApi:
    """Return the command API of the configured domains over a log."""
    domains = load_domains(settings.domains)
    registry = load_registry(domains)
    authenticator = make_authenticator(settings)
    pipeline = pipeline or Pipeline(event_log, rules_of(domains), registry)
    limiter = limiter or RateLimiter(settings.rate_limit)
    problems = ProblemTypes(registry.rejections.values())
    router = Router()
    CommandRoutes(pipeline, authenticator, limiter).add_to(router, registry)
    router.add("POST", "/v1/commands", BatchRoute(pipeline, authenticator, registry, limiter))
    edge = Edge(router, cors_origins=settings.cors_origins)
    add_service_routes(
        router,
        ready=lambda: _missing(edge, event_log),
        problems=problems,
        openapi=lambda: openapi_of(registry, problems),
    )
    return CommandApi(edge, pipeline, authenticator)


async def _missing(edge: Edge, event_log: EventLog) -> Mapping[str, str]:
    if edge.draining:
        return {"process": "is about to end"}
    try:
        await event_log.heads()
    except ServiceError as error:
        return {"store": error.title()}
    except Exception as error:
        log.warning("store unusable", error=repr(error))
        return {"store": f"cannot be used ({type(error).__name__}); is it migrated?"}
    return {}


@asynccontextmanager
async def command_api(settings: Settings) -> AsyncIterator[CommandApi]:
    """
    Keep the command API over PostgreSQL for a block.

    Raises:
        BadDefinition: No PostgreSQL is named, and none runs here.
    """
    if settings.store_url is None:
        raise BadDefinition("EVERFOLD_STORE_URL", "is not set; `everfold up` starts a PostgreSQL of its own")
    async with PostgresLog(settings.store_urls, settings.namespace) as event_log:
        api = make_command_api(settings, event_log)
        house = asyncio.create_task(_keep_house(event_log, settings), name="housekeeping")
        try:
            yield api
        finally:
            house.cancel()
            with suppress(asyncio.CancelledError):
                await house
            await api.close()


async def _keep_house(event_log: PostgresLog, settings: Settings) -> None:
    """Make the tables for the events to come, where no relay does: who writes needs them."""
    kept = timedelta(hours=settings.idempotency_hours)
    while True:
        for partition in event_log.partitions:
            try:
                await event_log.keep_house(partition, keys_kept=kept)
            except Exception as error:
                log.warning("house not kept", partition=partition, error=repr(error))
        await asyncio.sleep(HOUSE_SECONDS)
