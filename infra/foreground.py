"""
The whole system in the foreground of a terminal, until Ctrl-C.

It prints where to send commands and queries, a token, and three lines to try. Logs of everything that runs
lie in the data directory; here stand only the supervisor's own words.
"""

import asyncio
import os
import secrets
import signal
from collections.abc import Sequence

from infra.domains import load_domains
from infra.embedded.process import end_with_parent as end_when_parent_ends
from infra.roles import COMMAND_API, QUERY_API
from infra.settings import Settings
from infra.supervisor import say_on_error_output
from infra.system import DEMO_TENANT, RunningSystem, running_system


def run_in_foreground(settings: Settings, *, end_with_parent: bool = False) -> None:
    """Run everything until told to stop."""
    if end_with_parent:
        end_when_parent_ends(signal.SIGTERM)
    asyncio.run(run_until_told(settings))


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
    facts = {
        "command_url": system.command_url,
        "query_url": system.query_url,
        "token": token,
        "run": secrets.token_hex(3),
    }
    examples = [line for domain in load_domains(system.settings.domains) for line in domain.examples]
    if not examples:
        examples = ["curl {command_url}/readyz", "curl {query_url}/readyz", "curl {query_url}/openapi.json"]
    health = ", ".join(
        f"{role} {system.url_of(role)}" for role in system.ports if role not in (COMMAND_API, QUERY_API)
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
