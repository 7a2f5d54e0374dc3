"""A log with clients, and the workflow process beside it: in this process, or in one of its own that may be killed."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg

from command_api.app import rules_of
from command_api.pipeline import Pipeline
from command_api.requests import Answer, CommandRequest
from command_api.workflow_app import WorkflowProcess, open_workflow_process
from event_store.postgres import PostgresLog
from infra.auth import Principal
from infra.domains import load_domains, load_registry
from infra.settings import Settings, load_settings
from schemas import Command, Event
from schemas.envelope import RecordedEvent

TENANT = "demo"
SECONDS_MAX = 60.0
LOOK_SECONDS = 0.02
CALL_COMMANDS_MAX = 1_000


class World:
    """A log, and clients of it."""

    def __init__(self, settings: Settings, event_log: PostgresLog, pipeline: Pipeline, pool: Any) -> None:
        self.settings, self.log, self.pipeline, self.pool = settings, event_log, pipeline, pool
        self.schema = settings.namespace
        self.registry = load_registry(load_domains(settings.domains))
        self.principal = Principal(TENANT, "tester", ("admin", "clerk", "warehouse", "quality"))

    async def send(
        self, *commands: Command, occurred_at: datetime | None = None, tenant: str = TENANT
    ) -> list[Answer]:
        """Carry out commands as a client, and insist that they are accepted."""
        principal = Principal(tenant, self.principal.subject, self.principal.roles)
        answers: list[Answer] = []
        for first in range(0, len(commands), CALL_COMMANDS_MAX):
            some = commands[first : first + CALL_COMMANDS_MAX]
            requests = [CommandRequest(command, principal, occurred_at=occurred_at) for command in some]
            answers += await self.pipeline.submit_many(requests)
        refused = [answer.error for answer in answers if answer.error is not None]
        assert not refused, refused[0]
        return answers

    async def send_as_system(self, command: Command) -> None:
        """Carry out a command that only workflows may send."""
        answer = await self.pipeline.submit(CommandRequest(command, Principal.system("test", TENANT)))
        assert answer.accepted, answer.error

    async def partition(self, tenant: str = TENANT) -> int:
        """Return where a tenant lives."""
        return await self.log.partition_of(tenant)

    async def recorded(self, *kinds: type[Event], tenant: str = TENANT) -> list[RecordedEvent]:
        """Return a tenant's events of some types, oldest first."""
        partition = await self.partition(tenant)
        head = await self.log.head(partition)
        types = {kind.type for kind in kinds}
        events = await self.log.read_range(partition, 1, head.last_position) if head else ()
        return [event for event in events if event.tenant == tenant and event.type in types]

    async def events(self, *kinds: type[Event], tenant: str = TENANT) -> list[Any]:
        """Return a tenant's events of some types, decoded."""
        return [
            decoded
            for event in await self.recorded(*kinds, tenant=tenant)
            for decoded in self.registry.decode(event.type, event.schema_version, event.data)
        ]

    async def count(self, *kinds: type[Event], tenant: str = TENANT) -> int:
        """Return how many events of some types a tenant has."""
        found: int = await self.fetch(
            f"SELECT count(*) FROM {self.schema}.events WHERE partition = $1 AND tenant = $2 AND type = ANY ($3)",
            await self.partition(tenant), tenant, [kind.type for kind in kinds],
        )  # fmt: skip
        return found

    async def fetch(self, statement: str, *arguments: Any) -> Any:
        """Return one value from the database."""
        return await self.pool.fetchval(statement, *arguments)

    async def until(self, what: Callable[[], Any], *, seconds: float = SECONDS_MAX) -> None:
        """Wait until a coroutine function says so, or fail."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not await what():
            assert asyncio.get_running_loop().time() < deadline, "it did not come to be in time"
            await asyncio.sleep(LOOK_SECONDS)

    async def until_caught_up(
        self, *workflows: str, tenant: str = TENANT, seconds: float = SECONDS_MAX
    ) -> None:
        """Wait until workflows have taken up all that a tenant's partition has, their own effects included."""
        partition = await self.partition(tenant)

        async def caught_up() -> bool:
            behind = await self.fetch(
                f"""
                SELECT count(*) FROM unnest($2::text[]) AS w (name)
                  LEFT JOIN {self.schema}.checkpoints AS c
                    ON c.kind = 'workflow' AND c.consumer = w.name AND c.partition = $1
                 WHERE c.position IS NULL OR c.position < (
                       SELECT max(last_position) FROM {self.schema}.commits WHERE partition = $1)
                """,
                partition, list(workflows),
            )  # fmt: skip
            return bool(behind == 0)

        await self.until(caught_up, seconds=seconds)

    @asynccontextmanager
    async def workflows(self, **environment: str) -> AsyncIterator[WorkflowProcess]:
        """Run the workflows in this process for a block."""
        stop = asyncio.Event()
        async with open_workflow_process(self.settings, environment) as process:
            running = asyncio.create_task(process.run(stop))
            try:
                yield process
            finally:
                stop.set()
                await running


@asynccontextmanager
async def open_world(store_url: str, *, domains: str, **given: Any) -> AsyncIterator[World]:
    """Connect to a migrated database."""
    defaults = {"redis_url": None, "broker_url": "log"}
    settings = load_settings(**(defaults | given), store_url=store_url, domains=domains)
    loaded = load_domains(settings.domains)
    async with (
        PostgresLog(settings.store_urls, settings.namespace) as event_log,
        asyncpg.create_pool(store_url, min_size=1, max_size=4) as pool,
    ):
        pipeline = Pipeline(event_log, rules_of(loaded), load_registry(loaded))
        try:
            yield World(settings, event_log, pipeline, pool)
        finally:
            await pipeline.close()


async def run_until_dead(world: World, failpoints: str, **environment: str) -> int:
    """Run the role as a process of its own that meets a failpoint; return how it ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.cli", "workflow",
        env=environment_of(world, EVERFOLD_FAILPOINTS=failpoints, **environment),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        return await asyncio.wait_for(process.wait(), SECONDS_MAX)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def environment_of(world: World, **more: str) -> dict[str, str]:
    """Return the variables of a process that works on the same log."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EVERFOLD_")}
    store_url = world.settings.store_url
    assert store_url is not None
    return {
        **kept,
        "EVERFOLD_STORE_URL": store_url.get_secret_value(),
        "EVERFOLD_DOMAINS": ",".join(world.settings.domains),
        **more,
    }
