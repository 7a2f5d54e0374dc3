"""
The commands of the read side: the role `projector`, and what operators do with projections.
"""

import asyncio
from typing import Annotated

import typer

from infra.settings import load_settings
from infra.stopping import run_until_stopped
from infra.telemetry import start_telemetry, stop_telemetry


def register(app: typer.Typer) -> None:
    """Add the commands."""
    from projectors import cli_dead_letters, cli_projections, cli_replay, cli_status, cli_verify

    app.command()(projector)
    for module in (cli_status, cli_replay, cli_projections, cli_verify, cli_dead_letters):
        module.register(app)


def projector(
    port: Annotated[int | None, typer.Option(help="Port of /livez, /readyz and /metrics.")] = None,
) -> None:
    """Keeps the read tables up to date."""
    from projectors.app import run_projector

    settings = load_settings(**({} if port is None else {"health_port": port}))
    start_telemetry(role="projector", level=settings.log_level, otlp_endpoint=settings.otlp_endpoint)

    async def work(stop: asyncio.Event) -> None:
        await run_projector(settings, stop)

    try:
        run_until_stopped(work)
    finally:
        stop_telemetry()
