"""The command of the role `relay`."""

import asyncio
from typing import Annotated

import typer

from infra.settings import load_settings
from infra.stopping import run_until_stopped
from infra.telemetry import start_telemetry, stop_telemetry


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(relay)


def relay(
    port: Annotated[int | None, typer.Option(help="Port of /livez, /readyz and /metrics.")] = None,
) -> None:
    """Brings the log to the broker, and keeps the log's house."""
    from event_store.relay_app import run_relay

    settings = load_settings(**({} if port is None else {"health_port": port}))
    start_telemetry(role="relay", level=settings.log_level, otlp_endpoint=settings.otlp_endpoint)

    async def work(stop: asyncio.Event) -> None:
        await run_relay(settings, stop)

    try:
        run_until_stopped(work)
    finally:
        stop_telemetry()
