"""
`everfold up`: the whole system on this machine, until Ctrl-C.

It prints where to send commands and queries, a token, and three lines to try. Logs of everything that runs
lie in the data directory; here stand only the supervisor's own words.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from pydantic import SecretStr

from infra.domains import load_domains
from infra.services import RABBITMQ
from infra.settings import Settings, load_settings
from infra.supervisor import say_on_error_output
from infra.system import DEMO_TENANT, RunningSystem, running_system
from schemas.errors import BadDefinition

__all__ = ["RunningSystem", "running_system"]

_PR_SET_PDEATHSIG = 1


def register(app: typer.Typer) -> None:
    """Add `up` to the command line."""

    @app.command()
    def up(
        broker: Annotated[
            str | None,
            typer.Option(help="log (none), rabbitmq (the local one, else an own), or an amqp:// URL."),
        ] = None,
        end_with_parent: Annotated[
            bool, typer.Option("--end-with-parent", hidden=True, help="Stop when the starting process dies.")
        ] = False,
    ) -> None:
        """Run every role and whatever service is not configured, until Ctrl-C."""
        if end_with_parent and sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        asyncio.run(run_until_told(settings_with_broker(broker)))


def settings_with_broker(broker: str | None) -> Settings:
    """
    Return the settings with the asked broker; a RabbitMQ that they name stands for `rabbitmq`.

    Raises:
        BadDefinition: It is none that we know how to use.
    """
    settings = load_settings()
    if broker is None or (broker == RABBITMQ and settings.uses_broker):
        return settings
    if broker not in ("log", RABBITMQ) and not broker.startswith(("amqp://", "amqps://")):
        raise BadDefinition("--broker", f"must be log, {RABBITMQ} or an amqp:// URL, not {broker}")
    return settings.model_copy(update={"broker_url": SecretStr(broker)})


async def run_until_told(settings: Settings) -> None:
    """Keep the system running until SIGINT or SIGTERM, also one that comes while it starts."""
    running = asyncio.create_task(_run(settings))
    loop = asyncio.get_running_loop()
    told: asyncio.Future[str] = loop.create_future()

    def tell(number: signal.Signals) -> None:
        # From here on the same signal ends us at once; the kernel ends our children with us.
        loop.remove_signal_handler(number)
        if not told.done():
            told.set_result(number.name)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, tell, number)
    await asyncio.wait((running, told), return_when=asyncio.FIRST_COMPLETED)
    if told.done():
        say_on_error_output(f"\nStopping everything ({told.result()})…")
        running.cancel()
    try:
        await running
    except asyncio.CancelledError:
        say_on_error_output("Stopped.")


async def _run(settings: Settings) -> None:
    say_on_error_output(
        f"Starting Everfold; data and logs in {settings.data_dir.absolute()} (process {os.getpid()})"
    )
    async with running_system(settings) as system:
        for line in announcement(system):
            print(line, flush=True)
        await asyncio.Event().wait()


def announcement(system: RunningSystem) -> Sequence[str]:
    """Return what a person who just started it wants to know."""
    token = system.token() if system.settings.development_issuer else "$TOKEN"
    facts = {"command_url": system.command_url, "query_url": system.query_url, "token": token}
    examples = [line for domain in load_domains(system.settings.domains) for line in domain.examples]
    if not examples:
        examples = ["curl {command_url}/readyz", "curl {query_url}/readyz", "curl {query_url}/openapi.json"]
    health = ", ".join(
        f"{role} {system.url_of(role)}" for role in system.ports if role not in ("command-api", "query-api")
    )
    return [
        "",
        "Everfold is running. Ctrl-C stops it.",
        "",
        f"Commands   {system.command_url}",
        f"Queries    {system.query_url}",
        f"Health     {health}",
        f"Token      {token}",
        f"           tenant {DEMO_TENANT}, role admin",
        "",
        "Try:",
        *(f"  {line.format(**facts)}" for line in examples),
        "",
    ]
