"""Commands of the read side: the role `query-api`."""

from typing import Annotated

import typer
import uvloop

from event_store.startup import check_start
from infra.serving import serve
from infra.settings import Settings, load_settings
from infra.telemetry import start_telemetry, stop_telemetry
from query_api.app import query_api


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("query-api")(run_query_api)


def run_query_api(
    port: Annotated[
        int | None, typer.Option(help="Where to listen; EVERFOLD_QUERY_PORT unless given.")
    ] = None,
) -> None:
    """Answer queries over HTTP until told to end."""
    settings = load_settings() if port is None else load_settings(query_port=port)
    start_telemetry(role="query-api", level=settings.log_level, otlp_endpoint=settings.otlp_endpoint)
    try:
        uvloop.run(_serve(settings))
    finally:
        stop_telemetry()


async def _serve(settings: Settings) -> None:
    await check_start(settings, "query", verifies_tokens=True)
    async with query_api(settings) as api:
        await serve(api.edge, host=settings.host, port=settings.query_port)
