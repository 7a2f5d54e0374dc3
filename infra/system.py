"""
The whole system on one machine: services, migrations, and every role as a process of its own.

`everfold up` keeps one running until it is told to stop; the demonstration and the acceptance tests use the
same for as long as they last. The roles are started by name, so nothing of theirs is imported here.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from pydantic import SecretStr

from infra.auth import issue_development_token
from infra.data_directory import STOPPING, data_directory
from infra.embedded.errors import PortTaken, ServerDidNotStart
from infra.embedded.ports import LOOPBACK, free_port, is_free
from infra.embedded.process import Program
from infra.running import noted
from infra.services import start_services
from infra.settings import PREFIX, Settings
from infra.supervisor import Say, Supervisor, say_on_error_output

COMMAND_API, QUERY_API, RELAY, PROJECTOR, WORKFLOW = (
    "command-api",
    "query-api",
    "relay",
    "projector",
    "workflow",
)
PORT_SETTINGS = {COMMAND_API: "command_port", QUERY_API: "query_port"}
MIGRATE_SECONDS_MAX = 120.0
READY_SECONDS_MAX = 60.0
PORT_SECONDS_MAX = 3.0
POLL_SECONDS = 0.1
STARTS_MAX = 3
USED_WRONGLY = 2
TOKEN_TTL_SECONDS = 12 * 3600
DEMO_TENANT, DEMO_SUBJECT, ADMIN = "demo", "demo-admin", "admin"


@dataclass(frozen=True)
class RunningSystem:
    """A system that runs, and what it takes to talk to it."""

    settings: Settings
    """With the address of every service filled in."""
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
        await wait_until_ready(self, [role])

    async def stop_role(self, role: str) -> None:
        """Stop a role in an orderly way."""
        await self.supervisor.stop(role)

    def program_of(self, role: str) -> Program:
        """Return how a role is run here."""
        setting = PORT_SETTINGS.get(role, "health_port")
        ports = {f"{PREFIX}{setting.upper()}": str(self.ports[role])}
        return Program(role, command_line(role), environment={**self.environment(), **ports})


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
        ports = {role: await _port_of(role, number, settings) for number, role in enumerate(roles)}
        supervisor = Supervisor(directory.folder / "logs", say)
        try:
            settings = await start_services(settings, supervisor, say)
            system = RunningSystem(settings, supervisor, ports)
            await _migrate(system, say)
            for role in roles:
                await supervisor.start(system.program_of(role))
            await wait_until_ready(system, roles, say)
            with noted(settings):
                yield system
        finally:
            directory.mark(STOPPING)
            await supervisor.stop(*(role for role in roles if role in supervisor.children))
            await supervisor.stop()


def roles_of(settings: Settings) -> list[str]:
    """Return the roles that a system needs: no relay where there is no broker to relay to."""
    return [COMMAND_API, QUERY_API, *([RELAY] if settings.uses_broker else []), PROJECTOR, WORKFLOW]


def command_line(*arguments: str) -> Sequence[str]:
    """Return how the command line is run as another process."""
    return [sys.executable, "-m", "infra.cli", *arguments]


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the variables that make another process's settings equal to these."""
    variables = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        match value:
            case None:
                continue
            case SecretStr():
                text = value.get_secret_value()
            case tuple():
                text = ",".join(value)
            case _:
                text = str(value)
        variables[PREFIX + name.upper()] = text
    return variables


async def _port_of(role: str, number: int, settings: Settings) -> int:
    """Return the port of a role; those without an API count up from the given one."""
    setting = PORT_SETTINGS.get(role, "health_port")
    wanted: int | None = getattr(settings, setting)
    if not wanted:
        return free_port()
    port = wanted if role in PORT_SETTINGS else wanted + number - len(PORT_SETTINGS)
    deadline = time.monotonic() + PORT_SECONDS_MAX  # that of a role which was killed is free in a moment
    while not is_free(port, settings.host):
        if time.monotonic() > deadline:
            raise PortTaken(port, PREFIX + setting.upper())
        await asyncio.sleep(POLL_SECONDS)
    return port


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
        said, _ = await asyncio.wait_for(process.communicate(), MIGRATE_SECONDS_MAX)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise ServerDidNotStart("migrate", " | ".join(said.decode(errors="replace").splitlines()[-5:]))
    say(f"{'migrate':<12} done after {time.monotonic() - started:.1f} s")


async def wait_until_ready(system: RunningSystem, roles: Sequence[str], say: Say = lambda line: None) -> None:
    """
    Wait until roles say that they are ready.

    Raises:
        ServerDidNotStart: One keeps ending, was used wrongly, or is not ready in time.
    """
    started = time.monotonic()
    waiting = list(roles)
    async with httpx2.AsyncClient(timeout=POLL_SECONDS * 20) as client:
        while waiting:
            for role in list(waiting):
                answer = await _readiness(client, system.url_of(role))
                if answer is None:
                    waiting.remove(role)
                    say(f"{role:<12} ready after {time.monotonic() - started:.1f} s")
                else:
                    _give_up_if_hopeless(system.supervisor, role, answer, time.monotonic() - started)
            await asyncio.sleep(POLL_SECONDS if waiting else 0)


async def _readiness(client: httpx2.AsyncClient, url: str) -> str | None:
    """Return None for ready, else why not."""
    try:
        response = await client.get(f"{url}/readyz")
    except httpx2.TransportError:
        return "it does not answer yet"
    return None if response.status_code == 200 else response.text.strip()


def _give_up_if_hopeless(supervisor: Supervisor, role: str, answer: str, waited_seconds: float) -> None:
    child = supervisor.children[role]
    if child.last_status == USED_WRONGLY or child.restarts >= STARTS_MAX:
        raise ServerDidNotStart(role, child.last_words())
    if waited_seconds > READY_SECONDS_MAX:
        raise ServerDidNotStart(role, f"{answer}; its last words: {child.last_words()}")


def log_file_of(settings: Settings, role: str) -> Path:
    """Return where a role's output goes under `everfold up`."""
    return settings.data_dir / "logs" / f"{role}.log"
