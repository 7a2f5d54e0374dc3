"""The role `relay` on the command line."""

import asyncio
from typing import Annotated

import typer

from event_store.relay_app import run_relay
from infra.settings import load_settings
from infra.stopping import run_until_stopped
from infra.telemetry import start_telemetry, stop_telemetry


def register(app: typer.Typer) -> None:
    """Add the role to the command line."""
    app.command("relay")(relay_command)


def relay_command(
    port: Annotated[int | None, typer.Option(help="Port of /livez, /readyz and /metrics.")] = None,
) -> None:
    """Bring the log to the broker, and keep the log's house."""
    settings = load_settings(**({} if port is None else {"health_port": port}))
    start_telemetry(role="relay", level=settings.log_level, otlp_endpoint=settings.otlp_endpoint)

    async def work(stop: asyncio.Event) -> None:
        await run_relay(settings, stop)

    try:
        run_until_stopped(work)
    finally:
        stop_telemetry()
