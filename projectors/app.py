"""
The projector process, put together: the only place that knows what is real.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from event_store.broker import BrokerFeeds
from event_store.checkpoints import Checkpoints
from event_store.log import EventLog
from event_store.postgres import PostgresLog
from event_store.role import ConsumerRole
from event_store.wake import HeadWatch
from infra.documents import DocumentWriter
from infra.domains import definitions, load_domains, load_registry
from infra.garbage import collect_seldom
from infra.health import serve_health
from infra.pools import COMMAND_SECONDS_MAX, open_pool
from infra.redis import RedisCache
from infra.settings import Settings
from infra.telemetry import log as logger
from projectors.documents import DocumentQueue
from projectors.generations import Generations
from projectors.projection import Projection, Row
from projectors.runner import Kinds, LiveProjections
from projectors.upkeep import Upkeep
from schemas.registry import Registry

GROUP = "projections"
CONNECTIONS_MAX = 12
PAGE_EVENTS_MAX = 8_000
"""A row is written once for a page, however often the page touches it: large pages catch up with fewer writes."""
TOOL_STATEMENT_SECONDS_MAX = 3600.0
"""A comparison of whole tables takes as long as they are large."""


@dataclass(frozen=True)
class ReadSide:
    """What everything that works on read tables needs."""

    settings: Settings
    kinds: Kinds
    registry: Registry
    log: PostgresLog
    pool: "asyncpg.Pool[Any]"
    generations: Generations
    checkpoints: Checkpoints


@asynccontextmanager
async def open_read_side(
    settings: Settings, *, name: str, statement_seconds_max: float = TOOL_STATEMENT_SECONDS_MAX
) -> AsyncIterator[ReadSide]:
    """Connect to the log and the read tables, with the loaded domains' projections."""
    domains = load_domains(settings.domains)
    found: list[type[Projection[Row]]] = definitions(domains, "projectors", Projection)
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(PostgresLog(settings.store_urls, settings.namespace))
        pool = await stack.enter_async_context(
            await open_pool(
                settings.read_url_or_store,
                name=name,
                size_max=CONNECTIONS_MAX,
                command_seconds_max=statement_seconds_max,
            )
        )
        yield ReadSide(
            settings,
            {kind.name: kind for kind in found},
            load_registry(domains),
            log,
            pool,
            Generations(pool, settings.namespace),
            Checkpoints(pool, settings.namespace),
        )


async def run_projector(settings: Settings, stop: asyncio.Event) -> None:
    """Keep this process's share of all projections up to date until `stop`."""
    async with AsyncExitStack() as stack:
        side = await stack.enter_async_context(
            open_read_side(settings, name="projector", statement_seconds_max=COMMAND_SECONDS_MAX)
        )
        watch = await stack.enter_async_context(
            HeadWatch(list(settings.store_urls.values()), settings.namespace)
        )
        documents = await _open_documents(stack, settings)
        upkeep = Upkeep(side.kinds, side.registry, side.log, side.generations, side.checkpoints)
        members = LiveProjections(
            side.kinds,
            side.registry,
            side.generations,
            side.checkpoints,
            applied=documents.put if documents else lambda _applied: None,
            epoch_changed=upkeep.rebuild,
        )
        await members.open()
        feeds = await _open_feeds(stack, settings, side.log, watch)
        role = ConsumerRole(
            log=side.log,
            pool=side.pool,
            namespace=settings.namespace,
            group=GROUP,
            members=members,
            watch=watch,
            feed_of=feeds.feed_of if feeds else None,
            page_events_max=PAGE_EVENTS_MAX,
        )
        await stack.enter_async_context(serve_health(settings.health_port, role.ready, host=settings.host))
        logger.info("projector works", projections=sorted(side.kinds), broker=settings.uses_broker)
        collect_seldom()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(role.run(stop))
            tasks.create_task(members.follow(settings.read_url_or_store, stop))
            tasks.create_task(upkeep.run(stop))


async def _open_documents(stack: AsyncExitStack, settings: Settings) -> DocumentQueue | None:
    if settings.redis_url is None:
        return None
    redis = await stack.enter_async_context(RedisCache(settings.redis_url.get_secret_value()))
    return await stack.enter_async_context(DocumentQueue(DocumentWriter(redis, settings.namespace)))


async def _open_feeds(
    stack: AsyncExitStack, settings: Settings, log: EventLog, watch: HeadWatch
) -> BrokerFeeds | None:
    if not settings.uses_broker:
        return None
    return await stack.enter_async_context(
        BrokerFeeds(
            settings.broker_url.get_secret_value(),
            settings.namespace,
            GROUP,
            log,
            watch,
            page_events_max=PAGE_EVENTS_MAX,
        )
    )
