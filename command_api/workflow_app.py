"""
The workflow process, put together: a consumer of the log whose effects go back through a pipeline of its own, and
out into the world.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from dotenv import dotenv_values

from command_api.app import rules_of
from command_api.channels import read_channels
from command_api.courier import Courier
from command_api.outgoing import OutgoingMessages
from command_api.pipeline import Pipeline
from command_api.timekeeper import Timekeeper
from command_api.workflow import Workflow
from command_api.workflow_runner import Surroundings, WorkflowMembers
from command_api.workflow_store import open_workflows, release_mended
from event_store.broker import BrokerFeeds
from event_store.checkpoints import Checkpoints
from event_store.role import ConsumerRole
from event_store.sealed_log import opened_feeds
from event_store.servers import LogRoles
from event_store.standing import GuardedLog, Standing
from event_store.startup import check_start
from event_store.vault import open_sealer, sealed
from event_store.wake import HeadWatch
from infra.domains import Domain, definitions, load_domains, load_registry
from infra.garbage import collect_seldom
from infra.governor import Governor
from infra.health import serve_health
from infra.pools import open_pool
from infra.settings import Settings
from infra.telemetry import log
from schemas.envelope import BEGINNING

GROUP = "workflows"
CONNECTIONS_MAX = 8
COURIER_CONNECTIONS_MAX = 2
"""Of its own, so that many deliveries that end at once keep no page waiting; none is opened before there is one."""
BATCH_COMMANDS_MAX = 1_000
"""Workflows wait for whole rounds, not for single answers, so large batches cost nobody time."""
TENANT_COMMANDS_MAX = 20_000
"""More than all workflows together ever have waiting for one tenant (see `CALLS_AT_ONCE_MAX`)."""


def workflows_of(domains: Sequence[Domain], environment: Mapping[str, str]) -> Sequence[tuple[Workflow, str]]:
    """Return the workflows of some domains with their settings, each with its domain's name."""
    return [
        (workflow.from_environment(environment), domain.name)
        for domain in domains
        for workflow in definitions([domain], "command_api", Workflow)
    ]


def domain_variables() -> Mapping[str, str]:
    """Return the variables that domains take their settings from: the environment's, else those of `.env`."""
    written = {name: value for name, value in dotenv_values(".env").items() if value is not None}
    return {**written, **os.environ}


@dataclass
class WorkflowProcess:
    """This process's share of all workflows."""

    role: ConsumerRole
    timekeeper: Timekeeper
    courier: Courier
    workflows: Sequence[Workflow]
    standing: Standing

    async def run(self, stop: asyncio.Event) -> None:
        """React to events, fire timers and deliver until `stop`, once the log is known to be the right one."""
        if not await self.standing.wait_until_verified(stop):
            return
        timers = asyncio.create_task(self.timekeeper.run(), name="timekeeper")
        delivering = asyncio.create_task(self.courier.run(stop), name="courier")
        try:
            await self.role.run(stop)
        finally:
            timers.cancel()
            if not stop.is_set():
                delivering.cancel()
            await asyncio.gather(timers, delivering, return_exceptions=True)


@asynccontextmanager
async def open_workflow_process(
    settings: Settings, environment: Mapping[str, str]
) -> AsyncIterator[WorkflowProcess]:
    """Connect to the log, the checkpoints and, where one is configured, the broker."""
    domains = load_domains(settings.domains)
    registry = load_registry(domains)
    workflows = workflows_of(domains, environment)
    kinds = [workflow for workflow, _ in workflows]
    channels = read_channels(settings.channels_file, settings.mode)
    urls = list(settings.store_urls.values())
    governor = Governor(settings.database_connections, CONNECTIONS_MAX)
    async with AsyncExitStack() as stack:
        feed = settings.role_of("feed")
        roles = LogRoles(settings.role_of("appender"), feed, settings.role_of("keeper"))
        stored = await stack.enter_async_context(GuardedLog(settings, roles=roles))
        sealer = await stack.enter_async_context(open_sealer(settings, registry, stored))
        event_log = sealed(stored, sealer, registry)
        pool = await stack.enter_async_context(
            await open_pool(
                settings.read_url_or_store,
                name="workflow",
                size_max=CONNECTIONS_MAX,
                role=feed,
                governor=governor,
            )
        )
        watch = await stack.enter_async_context(HeadWatch(urls, settings.namespace))

        async def prepare(partition: int) -> None:
            """Of several servers of the log one may be away: its partitions are opened when they are worked on."""
            head = await event_log.head(partition)
            marks = {partition: head.mark if head else BEGINNING}
            await open_workflows(pool, settings.namespace, workflows, marks)
            for name in await release_mended(pool, settings.namespace, kinds, partition):
                log.info(
                    "what failed before is tried again by a newer version", workflow=name, partition=partition
                )

        pipeline = Pipeline(
            event_log, rules_of(domains), registry, sealer=sealer, batch_commands_max=BATCH_COMMANDS_MAX
        )
        stack.push_async_callback(pipeline.close)
        timekeeper = Timekeeper(pool, settings.namespace)
        checkpoints = Checkpoints(pool, settings.namespace, event_log.residences_of)
        told = {notice.channel for workflow in kinds for notice in workflow.notices}
        desk = await stack.enter_async_context(
            await open_pool(
                settings.read_url_or_store,
                name="courier",
                size_min=0,
                size_max=COURIER_CONNECTIONS_MAX,
                role=feed,
            )
        )
        courier = Courier(OutgoingMessages(desk, settings.namespace), channels, told, stored.standing)
        around = Surroundings(
            event_log,
            pipeline,
            registry,
            pool,
            settings.namespace,
            checkpoints,
            timekeeper,
            sealer,
            courier.told,
        )
        feeds = None
        if settings.uses_broker:
            url = settings.broker_url.get_secret_value()
            feeds = await stack.enter_async_context(
                BrokerFeeds(url, settings.namespace, GROUP, stored, watch)
            )
        role = ConsumerRole(
            log=event_log,
            pool=pool,
            namespace=settings.namespace,
            group=GROUP,
            members=WorkflowMembers(kinds, around),
            watch=watch,
            feed_of=opened_feeds(feeds.feed_of, event_log) if feeds else None,
            prepare=prepare,
            shared_by=governor.share_among,
        )
        yield WorkflowProcess(role, timekeeper, courier, kinds, stored.standing)


async def run_workflows(settings: Settings, stop: asyncio.Event) -> None:
    """Run this process's share of the workflows, with its health, until `stop`."""
    await check_start(settings, "appender", "feed", "keeper")
    async with (
        open_workflow_process(settings, domain_variables()) as process,
        serve_health(
            settings.health_port,
            process.standing.ready_with(process.role.ready),
            host=settings.host,
            facts=process.role.facts,
        ),
    ):
        log.info(
            "workflows run",
            workflows=[workflow.name for workflow in process.workflows],
            broker=settings.uses_broker,
        )
        collect_seldom()
        await process.run(stop)
