"""`everfold deliveries`: messages to the outside world, and those that were given up."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from command_api.deliveries import LIST_MAX, STATES, UNDELIVERED, Deliveries
from infra.pools import open_pool
from infra.running import require_store
from infra.settings import load_settings
from infra.telemetry import start_telemetry
from schemas.errors import MalformedRequest

DEMO_TENANT = "demo"
Tenant = Annotated[str, typer.Option(help="Whose messages.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ChannelName = Annotated[str | None, typer.Option(help="Only of this channel.")]

commands = typer.Typer(help="Messages to the outside world: webhooks and mail.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="deliveries")


@commands.command("list")
def list_command(
    state: Annotated[
        list[str] | None, typer.Option(help=f"Only in this state ({', '.join(STATES)}); may be repeated.")
    ] = None,
    channel: ChannelName = None,
    limit: Annotated[int, typer.Option(min=1, max=LIST_MAX)] = 100,
    tenant: Tenant = DEMO_TENANT,
    as_json: Json = False,
) -> None:
    """Print messages, newest first: those that are not delivered, unless states are named."""
    if unknown := set(state or ()) - set(STATES):
        raise MalformedRequest(f"{min(unknown)} is no state; there are {', '.join(STATES)}")
    states = state or UNDELIVERED
    documents = _run(tenant, lambda messages: messages.list(states, channel=channel, limit=limit))
    if as_json:
        print(orjson.dumps({"items": documents}).decode())
        return
    table = Table("id", "channel", "type", "state", "attempts", "created", "error", box=None)
    for one in documents:
        table.add_row(
            one["id"], one["channel"], one["type"], one["state"], str(one["attempts"]), one["created_at"],
            one["last_error"] or "",
        )  # fmt: skip
    Console().print(table)


@commands.command("show")
def show_command(
    message: Annotated[str, typer.Argument(help="The message's id.")], tenant: Tenant = DEMO_TENANT
) -> None:
    """Print a message, with what is sent."""
    document = _run(tenant, lambda messages: messages.show(message))
    print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


@commands.command("retry")
def retry_command(
    messages: Annotated[list[str] | None, typer.Argument(help="Their ids; all when left out.")] = None,
    channel: ChannelName = None,
    reason: Annotated[str | None, typer.Option(help="Why; recorded with who did it.")] = None,
    tenant: Tenant = DEMO_TENANT,
    as_json: Json = False,
) -> None:
    """Have messages that were given up, or that no channel was configured for, tried again, with the same ids."""
    chosen = messages or None
    done = _run(tenant, lambda one: one.retry(chosen, channel=channel, reason=reason))
    _tell("tried again", done, as_json=as_json)


@commands.command("drop")
def drop_command(
    messages: Annotated[list[str], typer.Argument(help="Their ids.")],
    reason: Annotated[str, typer.Option(help="Why; recorded with who did it.")],
    tenant: Tenant = DEMO_TENANT,
    as_json: Json = False,
) -> None:
    """Never send messages that were given up."""
    _tell("dropped", _run(tenant, lambda one: one.drop(messages, reason)), as_json=as_json)


def _tell(what: str, done: Any, *, as_json: bool) -> None:
    if as_json:
        print(orjson.dumps({"messages": done}).decode())
        return
    print(f"{len(done)} {what}")


def _run(tenant: str, work: Callable[[Deliveries], Awaitable[Any]]) -> Any:
    start_telemetry(role="deliveries", level="WARNING")

    async def run() -> Any:
        settings = require_store(load_settings())
        pool = await open_pool(
            settings.read_url_or_store, name="deliveries", size_max=1, role=settings.role_of("feed")
        )
        async with pool:
            return await work(Deliveries(pool, settings.namespace, tenant))

    return asyncio.run(run())
