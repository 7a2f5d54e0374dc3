"""The role `projector` on the command line."""

import asyncio
from typing import Annotated

import typer

from infra.settings import load_settings
from infra.stopping import run_until_stopped
from infra.telemetry import start_telemetry, stop_telemetry
from projectors.app import run_projector


def register(app: typer.Typer) -> None:
    """Add the role to the command line."""
    app.command("projector")(projector_command)


def projector_command(
    port: Annotated[int | None, typer.Option(help="Port of /livez, /readyz and /metrics.")] = None,
) -> None:
    """Keep the read tables up to date with the log."""
    settings = load_settings(**({} if port is None else {"health_port": port}))
    start_telemetry(role="projector", level=settings.log_level, otlp_endpoint=settings.otlp_endpoint)

    async def work(stop: asyncio.Event) -> None:
        await run_projector(settings, stop)

    try:
        run_until_stopped(work)
    finally:
        stop_telemetry()
