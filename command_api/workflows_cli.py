"""`everfold workflows`: where workflows stand, as a whole and with one matter."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from command_api.workflow_app import domain_variables, workflows_of
from command_api.workflow_state import WorkflowDesk
from event_store.opening import open_log
from infra.domains import load_domains, load_registry
from infra.pools import open_pool
from infra.running import require_store
from infra.settings import load_settings
from infra.telemetry import start_telemetry

DEMO_TENANT = "demo"
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

commands = typer.Typer(help="Workflows: how far they are, what they have before them, what failed.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="workflows")


@commands.command("list")
def list_command(as_json: Json = False) -> None:
    """Print all workflows: lag, timers, events set aside, messages on their way."""
    rows = _run(lambda desk: desk.all())
    if as_json:
        print(orjson.dumps({"items": rows}).decode())
        return
    table = Table(
        "workflow", "version", "lag, events", "timers", "next due", "set aside", "messages", "dead", "waiting for",
        box=None,
    )  # fmt: skip
    for row in rows:
        table.add_row(
            row["name"], _text(row["version"]), _text(row["lag_events"]), str(row["timers"]),
            _text(row["next_due_at"]), str(row["set_aside"]), str(row["messages_waiting"]),
            str(row["messages_dead"]), _text(row["waiting_for"]),
        )  # fmt: skip
    Console().print(table)


@commands.command("show")
def show_command(
    name: Annotated[str, typer.Argument(help="The workflow.")],
    tenant: Annotated[str, typer.Option(help="Whose matters.")] = DEMO_TENANT,
    stream: Annotated[
        str | None, typer.Option(help="Only the matter of this stream, with its events: orders/PO-1.")
    ] = None,
) -> None:
    """Print what a workflow does, its timers, what it has set aside, and its messages, as JSON."""
    document = _run(lambda desk: desk.one(name, tenant, stream))
    print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _run(work: Callable[[WorkflowDesk], Awaitable[Any]]) -> Any:
    start_telemetry(role="workflows", level="WARNING")

    async def run() -> Any:
        settings = require_store(load_settings())
        domains = load_domains(settings.domains)
        kinds = {one.name: one for one, _ in workflows_of(domains, domain_variables())}
        async with AsyncExitStack() as stack:
            log = await stack.enter_async_context(open_log(settings))
            pool = await stack.enter_async_context(
                await open_pool(
                    settings.read_url_or_store, name="workflows", size_max=2, role=settings.role_of("feed")
                )
            )
            registry = load_registry(domains)
            return await work(
                WorkflowDesk(kinds, log, registry, pool, settings.namespace, settings.uses_broker)
            )

    return asyncio.run(run())
