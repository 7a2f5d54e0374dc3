"""The role `workflow` on the command line."""

import asyncio
import signal

import typer
import uvloop

from command_api.workflow_app import run_workflows
from infra.settings import Settings, load_settings
from infra.telemetry import start_telemetry, stop_telemetry


def register(app: typer.Typer) -> None:
    """Add the role to the command line."""
    app.command("workflow")(workflow_command)


def workflow_command() -> None:
    """React to events: send the commands that follow from them, now or when their time comes."""
    settings = load_settings()
    start_telemetry(role="workflow", level=settings.log_level, otlp_endpoint=settings.otlp_endpoint)
    try:
        uvloop.run(_run(settings))
    finally:
        stop_telemetry()


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run_workflows(settings, stop)
