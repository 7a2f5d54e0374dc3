"""
What everything that works on read tables stands on: the log, the database of the tables, and the projections.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from event_store.checkpoints import Checkpoints
from event_store.log import EventLog
from event_store.opening import open_log
from event_store.postgres import PostgresLog
from event_store.servers import LogRoles
from event_store.vault import open_sealer, sealed
from infra.domains import definitions, load_domains, load_registry
from infra.governor import Governor
from infra.pools import open_pool
from infra.settings import Settings
from projectors.generations import Generations
from projectors.projection import Projection, Row
from projectors.runner import Kinds
from schemas.registry import Registry

GROUP = "projections"
"""What shares the broker's queues. Leases are shared by those alone who fold the same (binaries.py)."""
CONNECTIONS_MAX = 12
TOOL_STATEMENT_SECONDS_MAX = 3600.0
"""A comparison of whole tables takes as long as they are large."""


@dataclass(frozen=True)
class ReadSide:
    """What everything that works on read tables needs."""

    settings: Settings
    kinds: Kinds
    registry: Registry
    log: PostgresLog
    """The log as it is stored."""
    opened: EventLog
    """The log with its personal fields readable: what is folded."""
    pool: "asyncpg.Pool[Any]"
    generations: Generations
    checkpoints: Checkpoints
    role: str | None = None
    """The database role that all this is done in; None: the account's own."""


@asynccontextmanager
async def open_read_side(
    settings: Settings,
    *,
    name: str,
    statement_seconds_max: float = TOOL_STATEMENT_SECONDS_MAX,
    role: str | None = None,
    governor: Governor | None = None,
) -> AsyncIterator[ReadSide]:
    """Connect to the log and the read tables, with the loaded domains' projections; tools do so as their account."""
    domains = load_domains(settings.domains)
    found: list[type[Projection[Row]]] = definitions(domains, "projectors", Projection)
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(open_log(settings, LogRoles(role, role)))
        registry = load_registry(domains)
        sealer = await stack.enter_async_context(open_sealer(settings, registry, log))
        pool = await stack.enter_async_context(
            await open_pool(
                settings.read_url_or_store,
                name=name,
                size_max=CONNECTIONS_MAX,
                command_seconds_max=statement_seconds_max,
                role=role,
                governor=governor,
            )
        )
        yield ReadSide(
            settings,
            {kind.name: kind for kind in found},
            registry,
            log,
            sealed(log, sealer, registry),
            pool,
            Generations(pool, settings.namespace),
            Checkpoints(pool, settings.namespace, log.residences_of),
            role,
        )
