"""Commands of the write side: the role `command-api`, and `token`."""

from typing import Annotated

import typer
import uvloop

from command_api.app import command_api
from event_store.startup import check_start
from infra.auth import issue_development_token
from infra.serving import serve
from infra.settings import Settings, load_settings
from infra.telemetry import start_telemetry, stop_telemetry
from schemas.errors import Invalid

TTL_SECONDS_DEFAULT = 86_400
TTL_SECONDS_MAX = 366 * 86_400


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("command-api")(run_command_api)
    app.command("token")(print_token)


def run_command_api(
    port: Annotated[
        int | None, typer.Option(help="Where to listen; EVERFOLD_COMMAND_PORT unless given.")
    ] = None,
) -> None:
    """Serve commands over HTTP until told to end."""
    settings = load_settings() if port is None else load_settings(command_port=port)
    start_telemetry(role="command-api", level=settings.log_level, otlp_endpoint=settings.otlp_endpoint)
    try:
        uvloop.run(_serve(settings))
    finally:
        stop_telemetry()


async def _serve(settings: Settings) -> None:
    await check_start(settings, "appender", "keeper", verifies_tokens=True)
    async with command_api(settings) as api:
        await serve(api.edge, host=settings.host, port=settings.command_port)


def print_token(
    roles: Annotated[str, typer.Option(help="Comma-separated, such as clerk,warehouse.")],
    tenant: Annotated[str | None, typer.Option(help="Whose data it opens; none: a platform token.")] = None,
    subject: Annotated[str, typer.Option(help="Who acts with it.")] = "developer",
    ttl: Annotated[
        int, typer.Option(min=1, max=TTL_SECONDS_MAX, help="Seconds until it expires.")
    ] = TTL_SECONDS_DEFAULT,
) -> None:
    """Print a token of the development issuer, alone on the last line."""
    settings = load_settings()
    names = [role.strip() for role in roles.split(",") if role.strip()]
    if not names:
        raise Invalid([{"pointer": "--roles", "message": "must name at least one role"}])
    print(issue_development_token(settings, tenant=tenant, roles=names, subject=subject, ttl_seconds=ttl))
