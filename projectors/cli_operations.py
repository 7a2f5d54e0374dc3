"""`everfold operations`: what operators have asked for, and what has become of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from event_store.operations import LISTED_MAX, Operations
from infra.pools import open_pool
from infra.running import require_store
from infra.settings import load_settings
from infra.telemetry import start_telemetry

Number = Annotated[str, typer.Argument(help="The operation's id.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

commands = typer.Typer(help="What operators have asked for, and what has become of it.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="operations")


@commands.command("list")
def list_command(
    limit: Annotated[int, typer.Option(min=1, max=LISTED_MAX, help="At most so many.")] = 20,
    as_json: Json = False,
) -> None:
    """Print what was asked for last, latest first."""

    async def latest(operations: Operations) -> list[dict[str, Any]]:
        return [one.document() for one in await operations.latest(limit)]

    documents = asyncio.run(_with_operations(latest))
    if as_json:
        print(orjson.dumps({"items": documents}).decode())
        return
    table = Table("id", "asked at", "what", "by", "state", "progress", box=None)
    for one in documents:
        said = one["progress"]
        far = f"{said['projection']} {said['events']:,}/{said['of']:,}" if "projection" in said else ""
        table.add_row(one["id"], one["asked_at"], one["kind"], one["actor"], one["state"], far)
    Console().print(table)


@commands.command("show")
def show_command(number: Number) -> None:
    """Print one operation."""

    async def find(operations: Operations) -> Any:
        return (await operations.find(number)).document()

    print(orjson.dumps(asyncio.run(_with_operations(find)), option=orjson.OPT_INDENT_2).decode())


@commands.command("cancel")
def cancel_command(number: Number, as_json: Json = False) -> None:
    """Ask for an operation's end; what it has built is kept, and gone on with by the next one of its kind."""

    async def cancel(operations: Operations) -> Any:
        return (await operations.cancel(number)).document()

    document = asyncio.run(_with_operations(cancel))
    if as_json:
        print(orjson.dumps(document).decode())
    else:
        print("cancelled" if document["state"] == "cancelled" else "its end is asked for")


async def _with_operations(work: Callable[[Operations], Awaitable[Any]]) -> Any:
    settings = require_store(load_settings())
    start_telemetry(role="operations", level="WARNING")
    pool = await open_pool(settings.read_url_or_store, name="operations", size_max=1)
    try:
        return await work(Operations(pool.fetch, settings.namespace))
    finally:
        await pool.close()
