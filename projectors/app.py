"""
The projector process, put together: the only place that knows what is real.
"""

import asyncio
from contextlib import AsyncExitStack

from event_store.broker import BrokerFeeds
from event_store.log import EventLog
from event_store.role import ConsumerRole
from event_store.sealed_log import opened_feeds
from event_store.standing import Standing
from event_store.startup import check_start
from event_store.wake import HeadWatch
from infra.documents import DocumentWriter
from infra.garbage import collect_seldom
from infra.governor import Governor
from infra.health import serve_health
from infra.pools import COMMAND_SECONDS_MAX
from infra.redis import RedisCache
from infra.settings import Settings
from infra.telemetry import log as logger
from projectors.binaries import group_of
from projectors.cache_history import CacheHistory
from projectors.carrier import Carrier
from projectors.documents import DocumentQueue
from projectors.drift import DriftDetector
from projectors.fold_workers import FoldWorkers
from projectors.read_side import CONNECTIONS_MAX, GROUP, ReadSide, open_read_side
from projectors.releasing import Releasing
from projectors.runner import LiveProjections
from projectors.upkeep import Upkeep

PAGE_EVENTS_MAX = 8_000
"""A row is written once for a page, however often the page touches it: large pages catch up with fewer writes."""


async def run_projector(settings: Settings, stop: asyncio.Event) -> None:
    """Keep this process's share of all projections up to date until `stop`."""
    await check_start(settings, "feed")
    governor = Governor(settings.database_connections, CONNECTIONS_MAX)
    async with AsyncExitStack() as stack:
        side = await stack.enter_async_context(
            open_read_side(
                settings,
                name="projector",
                statement_seconds_max=COMMAND_SECONDS_MAX,
                role=settings.role_of("feed"),
                governor=governor,
            )
        )
        watch = await stack.enter_async_context(
            HeadWatch(list(settings.store_urls.values()), settings.namespace)
        )
        documents = await _open_documents(stack, settings, side)
        workers = None
        if settings.fold_workers > 1:
            workers = FoldWorkers(settings.domains, settings.fold_workers)
            stack.callback(workers.close)
        upkeep = Upkeep(side.kinds, side.registry, side.opened, side.generations, side.checkpoints)
        members = LiveProjections(
            side.kinds,
            side.registry,
            side.generations,
            side.checkpoints,
            applied=documents.put if documents else lambda _applied: None,
            epoch_changed=upkeep.rebuild,
            workers=workers,
        )
        await members.open()
        feeds = await _open_feeds(stack, settings, side.log, watch)
        role = ConsumerRole(
            log=side.opened,
            pool=side.pool,
            namespace=settings.namespace,
            group=group_of(side.kinds),
            members=members,
            watch=watch,
            feed_of=opened_feeds(feeds.feed_of, side.opened) if feeds else None,
            page_events_max=PAGE_EVENTS_MAX,
            shared_by=governor.share_among,
        )
        carrier = Carrier(side)
        standing = await stack.enter_async_context(Standing(settings, side.log))
        ready = standing.ready_with(role.ready)
        await stack.enter_async_context(
            serve_health(settings.health_port, ready, host=settings.host, facts=role.facts)
        )
        if not await standing.wait_until_verified(stop):
            return
        logger.info("projector works", projections=sorted(side.kinds), broker=settings.uses_broker)
        collect_seldom()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(role.run(stop))
            tasks.create_task(members.follow(settings.read_url_or_store, stop))
            tasks.create_task(upkeep.run(stop))
            tasks.create_task(carrier.run(stop))
            tasks.create_task(Releasing(side, lambda: role.partitions).run(stop))
            if settings.drift_sweep_seconds:
                detector = DriftDetector(
                    side, lambda: role.partitions, sweep_seconds=settings.drift_sweep_seconds
                )
                tasks.create_task(detector.run(stop))


async def _open_documents(stack: AsyncExitStack, settings: Settings, side: ReadSide) -> DocumentQueue | None:
    if settings.redis_url is None:
        return None
    redis = await stack.enter_async_context(RedisCache(settings.redis_url.get_secret_value()))
    history = CacheHistory(side.log, side.generations)
    return await stack.enter_async_context(DocumentQueue(DocumentWriter(redis, settings.namespace), history))


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
