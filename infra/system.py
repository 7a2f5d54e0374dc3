"""
The whole system on one machine: services, migrations, and every role as a process of its own.

`everfold up` keeps one running until it is told to stop; the demonstration and the acceptance tests use the
same for as long as they last.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from infra.auth import issue_development_token
from infra.data_directory import STOPPING, data_directory
from infra.embedded.errors import ServerDidNotStart
from infra.embedded.ports import LOOPBACK
from infra.embedded.priority import PATIENT, PROMPT
from infra.embedded.process import Program
from infra.readiness import wait_until_ready
from infra.roles import (
    COMMAND_API,
    FOLLOWERS,
    HEALTH_PORT_SETTING,
    PORT_SETTINGS,
    QUERY_API,
    command_line,
    environment_of,
    port_of,
    roles_of,
)
from infra.running import noted
from infra.services import start_services
from infra.settings import PREFIX, Settings
from infra.supervisor import Say, Supervisor, say_on_error_output

MIGRATE_SECONDS_MAX = 120.0
TOKEN_TTL_SECONDS = 12 * 3600
DEMO_TENANT, DEMO_SUBJECT, ADMIN = "demo", "demo-admin", "admin"


@dataclass(frozen=True)
class RunningSystem:
    """A system that runs, and what it takes to talk to it."""

    settings: Settings
    """With the address of every service and the ports of both APIs filled in."""
    supervisor: Supervisor
    ports: Mapping[str, int]
    """Of every role: the APIs' own, and where the others answer `/readyz` and `/metrics`."""

    @property
    def command_url(self) -> str:
        """Where commands go."""
        return self.url_of(COMMAND_API)

    @property
    def query_url(self) -> str:
        """Where queries go."""
        return self.url_of(QUERY_API)

    def url_of(self, role: str) -> str:
        """Return where a role answers."""
        return f"http://{LOOPBACK}:{self.ports[role]}"

    def token(self, tenant: str | None = DEMO_TENANT, roles: Sequence[str] = (ADMIN,)) -> str:
        """Return a token of the development issuer."""
        return issue_development_token(
            self.settings, tenant=tenant, roles=roles, subject=DEMO_SUBJECT, ttl_seconds=TOKEN_TTL_SECONDS
        )

    def environment(self) -> Mapping[str, str]:
        """Return what a further process needs to take part: one of the command line's, for instance."""
        return environment_of(self.settings)

    async def start_role(self, role: str) -> None:
        """Start a role, one that was stopped for instance, and wait until it is ready."""
        await self.supervisor.start(self.program_of(role))
        await wait_until_ready(self.supervisor, {role: self.url_of(role)})

    async def stop_role(self, role: str) -> None:
        """Stop a role in an orderly way."""
        await self.supervisor.stop(role)

    def program_of(self, role: str) -> Program:
        """Return how a role is run here."""
        setting = PORT_SETTINGS.get(role, HEALTH_PORT_SETTING)
        ports = {f"{PREFIX}{setting.upper()}": str(self.ports[role])}
        priority = PATIENT if role in FOLLOWERS else PROMPT
        environment = {**self.environment(), **ports}
        return Program(role, command_line(role), environment=environment, priority=priority)


@asynccontextmanager
async def running_system(
    settings: Settings, *, say: Say = say_on_error_output
) -> AsyncIterator[RunningSystem]:
    """
    Run everything for a block: what the settings do not name is started, and stopped at the end.

    Ports that are 0 are chosen.

    Raises:
        DataDirectoryTaken: Another Everfold runs on the same data.
        PortTaken: Another program listens where an API should.
        ServerDidNotStart: Something did not come up; it says what it said last.
    """
    with data_directory(settings.data_dir, say) as directory:
        settings = settings.model_copy(update={"data_dir": directory.folder})
        roles = roles_of(settings)
        ports = {role: await port_of(role, number, settings) for number, role in enumerate(roles)}
        settings = settings.model_copy(
            update={setting: ports[role] for role, setting in PORT_SETTINGS.items()}
        )
        supervisor = Supervisor(directory.folder / "logs", say)
        try:
            settings = await start_services(settings, supervisor, say)
            system = RunningSystem(settings, supervisor, ports)
            await _migrate(system, say)
            for role in roles:
                await supervisor.start(system.program_of(role))
            await wait_until_ready(supervisor, {role: system.url_of(role) for role in roles}, say)
            with noted(settings):
                yield system
        finally:
            directory.mark(STOPPING)
            await supervisor.stop(*(role for role in roles if role in supervisor.children))
            await supervisor.stop()


async def _migrate(system: RunningSystem, say: Say) -> None:
    """Bring the databases up to date, as a person would."""
    started = time.monotonic()
    program = Program("migrate", command_line("migrate"), environment=system.environment())
    process = await asyncio.create_subprocess_exec(
        *program.command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        **program.arguments(),
    )
    try:
        async with asyncio.timeout(MIGRATE_SECONDS_MAX):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise ServerDidNotStart("migrate", " | ".join(said.decode(errors="replace").splitlines()[-5:]))
    say(f"{'migrate':<12} done after {time.monotonic() - started:.1f} s")
