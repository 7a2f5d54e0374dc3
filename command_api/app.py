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
from event_store.sealing import Sealer
from event_store.servers import LogRoles
from event_store.standing import GuardedLog, Standing
from event_store.vault import has_personal, open_sealer, sealed
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
    standing: Standing | None = None,
    sealer: Sealer | None = None,
) -> CommandApi:
    """Return the command API of the configured domains over a log; `sealer` is what personal fields are sealed with."""
    domains = load_domains(settings.domains)
    registry = load_registry(domains)
    authenticator = make_authenticator(settings)
    if sealer is None and has_personal(registry) and isinstance(event_log, PostgresLog):
        raise BadDefinition(
            "command API", "a domain has personal fields, and nothing is given to seal them with"
        )
    if pipeline is None:
        pipeline = Pipeline(sealed(event_log, sealer, registry), rules_of(domains), registry, sealer=sealer)
    limiter = limiter or RateLimiter(settings.rate_limit)
    problems = ProblemTypes(registry.rejections.values())
    router = Router()
    CommandRoutes(pipeline, authenticator, limiter).add_to(router, registry)
    router.add("POST", "/v1/commands", BatchRoute(pipeline, authenticator, registry, limiter))
    edge = Edge(router, cors_origins=settings.cors_origins)
    add_service_routes(
        router,
        ready=lambda: _missing(edge, event_log, standing),
        problems=problems,
        openapi=lambda: openapi_of(registry, problems),
    )
    return CommandApi(edge, pipeline, authenticator)


async def _missing(edge: Edge, event_log: EventLog, standing: Standing | None) -> Mapping[str, str]:
    if edge.draining:
        return {"process": "is about to end"}
    if standing is not None and (missing := standing.missing()):
        return missing
    try:
        await event_log.reachable_heads()  # what one of several servers has is served without the others
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
        BadDefinition: No PostgreSQL is named, and none runs here; or no master key in production.
    """
    if settings.store_url is None:
        raise BadDefinition("EVERFOLD_STORE_URL", "is not set; `everfold up` starts a PostgreSQL of its own")
    appender = settings.role_of("appender")
    roles = LogRoles(appender, appender, settings.role_of("keeper"))
    registry = load_registry(load_domains(settings.domains))
    async with (
        GuardedLog(settings, roles=roles) as event_log,
        open_sealer(settings, registry, event_log) as sealer,
    ):
        api = make_command_api(settings, event_log, standing=event_log.standing, sealer=sealer)
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
