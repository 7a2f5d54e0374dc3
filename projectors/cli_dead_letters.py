"""`everfold dead-letters`: events that could not be folded, or that a workflow could not react to."""

import asyncio
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from infra.running import require_store
from infra.settings import load_settings
from projectors.app import open_read_side
from projectors.dead_letters import document_of, read_parked, retry, skip
from schemas.errors import NotFound

DEMO_TENANT = "demo"
Tenant = Annotated[str, typer.Option(help="Whose events.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Number = Annotated[int, typer.Argument(help="The parked event's id, as `list` prints it.")]

commands = typer.Typer(help="Parked events: what could not be folded, and what waits behind it.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="dead-letters")


@commands.command("list")
def list_command(
    projection: Annotated[str | None, typer.Option(help="Only of this projection or workflow.")] = None,
    tenant: Tenant = DEMO_TENANT,
    as_json: Json = False,
) -> None:
    """Print parked events in order."""
    documents = asyncio.run(_list(tenant, projection))
    if as_json:
        print(orjson.dumps({"items": documents}).decode())
        return
    table = Table("id", "projection or workflow", "key", "position", "type", "error", box=None)
    for one in documents:
        name, waits = one["projection"] or one["workflow"], one["error"] or "waits behind another"
        table.add_row(str(one["id"]), name, "/".join(one["key"]), str(one["position"]), one["type"], waits)
    Console().print(table)


@commands.command("show")
def show_command(number: Number, tenant: Tenant = DEMO_TENANT) -> None:
    """Print one parked event, with its data."""
    print(orjson.dumps(asyncio.run(_show(tenant, number)), option=orjson.OPT_INDENT_2).decode())


@commands.command("retry")
def retry_command(
    number: Annotated[int | None, typer.Argument(help="A parked event's id; all when left out.")] = None,
    projection: Annotated[str | None, typer.Option(help="Only of this projection or workflow.")] = None,
    tenant: Tenant = DEMO_TENANT,
    reason: Annotated[str | None, typer.Option(help="Why; recorded with who did it.")] = None,
    as_json: Json = False,
) -> None:
    """Fold the rows again that events wait at."""
    _tell(asyncio.run(_retry(tenant, projection, number, reason)), as_json=as_json)


@commands.command("skip")
def skip_command(
    number: Number,
    reason: Annotated[str, typer.Option(help="Why; recorded with who did it.")],
    tenant: Tenant = DEMO_TENANT,
    as_json: Json = False,
) -> None:
    """Leave one event out of its row for good."""
    _tell(asyncio.run(_skip(tenant, number, reason)), as_json=as_json)


def _tell(done: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        print(orjson.dumps(done).decode())
        return
    for name, what in done.items():
        print(f"{name}: {what}")


async def _list(tenant: str, projection: str | None) -> list[dict[str, Any]]:
    async with open_read_side(require_store(load_settings()), name="dead-letters") as side:
        return [document_of(one) for one in await read_parked(side, tenant, projection)]


async def _show(tenant: str, number: int) -> dict[str, Any]:
    async with open_read_side(require_store(load_settings()), name="dead-letters") as side:
        one = _one(await read_parked(side, tenant), number)
        events = await side.log.read_range(one["partition"], one["position"], one["position"])
        return document_of(one) | {"data": orjson.loads(events[0].data)}


async def _retry(
    tenant: str, projection: str | None, number: int | None, reason: str | None
) -> dict[str, str]:
    async with open_read_side(require_store(load_settings()), name="dead-letters") as side:
        parked = await read_parked(side, tenant, projection)
        chosen = parked if number is None else [_one(parked, number)]
        await side.generations.record("dead-letters retry", [str(one["id"]) for one in chosen], reason)
        return await retry(side, chosen)


async def _skip(tenant: str, number: int, reason: str) -> dict[str, str]:
    async with open_read_side(require_store(load_settings()), name="dead-letters") as side:
        one = _one(await read_parked(side, tenant), number)
        await side.generations.record("dead-letters skip", [str(number)], reason)
        return await skip(side, one, reason)


def _one(parked: Any, number: int) -> Any:
    found = next((one for one in parked if one["id"] == number), None)
    if found is None:
        raise NotFound(f"parked event {number}")
    return found
