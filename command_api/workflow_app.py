"""
The workflow process, put together: a consumer of the log whose effects go back through a pipeline of its own.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from dotenv import dotenv_values

from command_api.app import rules_of
from command_api.pipeline import Pipeline
from command_api.timekeeper import Timekeeper
from command_api.workflow import Workflow
from command_api.workflow_runner import Surroundings, WorkflowMembers
from command_api.workflow_store import open_workflows
from event_store.broker import BrokerFeeds
from event_store.checkpoints import Checkpoints
from event_store.postgres import PostgresLog
from event_store.role import ConsumerRole
from event_store.wake import HeadWatch
from infra.domains import Domain, definitions, load_domains, load_registry
from infra.garbage import collect_seldom
from infra.health import serve_health
from infra.pools import open_pool
from infra.settings import Settings
from infra.telemetry import log

GROUP = "workflows"
CONNECTIONS_MAX = 8
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
    workflows: Sequence[Workflow]

    async def run(self, stop: asyncio.Event) -> None:
        """React to events and fire timers until `stop`."""
        timers = asyncio.create_task(self.timekeeper.run(), name="timekeeper")
        try:
            await self.role.run(stop)
        finally:
            timers.cancel()
            await asyncio.gather(timers, return_exceptions=True)


@asynccontextmanager
async def open_workflow_process(
    settings: Settings, environment: Mapping[str, str]
) -> AsyncIterator[WorkflowProcess]:
    """Connect to the log, the checkpoints and, where one is configured, the broker."""
    domains = load_domains(settings.domains)
    registry = load_registry(domains)
    workflows = workflows_of(domains, environment)
    urls = list(settings.store_urls.values())
    async with AsyncExitStack() as stack:
        event_log = await stack.enter_async_context(PostgresLog(settings.store_urls, settings.namespace))
        pool = await stack.enter_async_context(
            await open_pool(settings.read_url_or_store, name="workflow", size_max=CONNECTIONS_MAX)
        )
        watch = await stack.enter_async_context(HeadWatch(urls, settings.namespace))
        await open_workflows(pool, settings.namespace, workflows, await event_log.heads())
        pipeline = Pipeline(event_log, rules_of(domains), registry, batch_commands_max=BATCH_COMMANDS_MAX)
        stack.push_async_callback(pipeline.close)
        timekeeper = Timekeeper(pool, settings.namespace)
        checkpoints = Checkpoints(pool, settings.namespace)
        around = Surroundings(
            event_log, pipeline, registry, pool, settings.namespace, checkpoints, timekeeper
        )
        feeds = None
        if settings.uses_broker:
            url = settings.broker_url.get_secret_value()
            feeds = await stack.enter_async_context(
                BrokerFeeds(url, settings.namespace, GROUP, event_log, watch)
            )
        role = ConsumerRole(
            log=event_log,
            pool=pool,
            namespace=settings.namespace,
            group=GROUP,
            members=WorkflowMembers([workflow for workflow, _ in workflows], around),
            watch=watch,
            feed_of=feeds.feed_of if feeds else None,
        )
        yield WorkflowProcess(role, timekeeper, [workflow for workflow, _ in workflows])


async def run_workflows(settings: Settings, stop: asyncio.Event) -> None:
    """Run this process's share of the workflows, with its health, until `stop`."""
    async with (
        open_workflow_process(settings, domain_variables()) as process,
        serve_health(settings.health_port, process.role.ready, host=settings.host),
    ):
        log.info(
            "workflows run",
            workflows=[workflow.name for workflow in process.workflows],
            broker=settings.uses_broker,
        )
        collect_seldom()
        await process.run(stop)
