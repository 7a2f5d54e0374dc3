"""
The relay process, put together.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta

from event_store.checkpoints import Checkpoints
from event_store.cloud_events import CloudEvents
from event_store.housekeeping import keep_house
from event_store.leases import LeasedWork, Leases, process_identity
from event_store.opening import open_log
from event_store.relay import GROUPS, CloudEventsRelay, GroupRelay, Publisher, relay_partition
from event_store.relayed_pages import RelayedPages
from event_store.servers import LogRoles
from event_store.standing import Standing
from event_store.startup import check_start
from event_store.wake import HeadWatch
from infra.domains import load_domains, load_registry
from infra.garbage import collect_seldom
from infra.health import serve_health
from infra.pools import open_pool
from infra.settings import Settings
from infra.telemetry import log as logger

LEASE_GROUP = "relay"
CONNECTIONS_MAX = 4


async def run_relay(settings: Settings, stop: asyncio.Event) -> None:
    """Relay this process's share of the partitions, and keep house, until `stop`; without a broker only the latter."""
    await check_start(settings, "feed", "keeper")
    registry = load_registry(load_domains(settings.domains))
    async with AsyncExitStack() as stack:
        feed = settings.role_of("feed")
        roles = LogRoles(feed, feed, settings.role_of("keeper"))
        log = await stack.enter_async_context(open_log(settings, roles))
        pool = await stack.enter_async_context(
            await open_pool(settings.read_url_or_store, name="relay", size_max=CONNECTIONS_MAX, role=feed)
        )
        urls = list(settings.store_urls.values())
        watch = await stack.enter_async_context(HeadWatch(urls, settings.namespace))
        checkpoints = Checkpoints(pool, settings.namespace)
        publisher = Publisher(settings.broker_url.get_secret_value(), settings.namespace)
        stack.push_async_callback(publisher.close)
        messages = CloudEvents(registry, settings.namespace)
        keys_kept = timedelta(hours=settings.idempotency_hours)

        async def work(partition: int) -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(keep_house(log, partition, keys_kept=keys_kept))
                if settings.uses_broker:
                    pages = RelayedPages(log)
                    relays = [
                        GroupRelay(publisher, log, checkpoints, watch, group, partition, pages=pages)
                        for group in GROUPS
                    ]
                    outside = CloudEventsRelay(publisher, log, checkpoints, watch, partition, messages)
                    tasks.create_task(relay_partition([*relays, outside]))

        leases = Leases(pool, settings.namespace, LEASE_GROUP, log.partitions, holder=process_identity())
        leased = LeasedWork(leases, work)

        async def ready() -> Mapping[str, str]:
            return {} if leased.ready else {"leases": "could not be renewed: the database does not answer"}

        standing = await stack.enter_async_context(Standing(settings, log))
        health = serve_health(settings.health_port, standing.ready_with(ready), host=settings.host)
        await stack.enter_async_context(health)
        if not await standing.wait_until_verified(stop):
            return
        logger.info("relay works", broker=settings.uses_broker)
        collect_seldom()
        await leased.run(stop)
