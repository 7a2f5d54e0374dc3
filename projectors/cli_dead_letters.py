"""`everfold dead-letters`: events that could not be folded, or that a workflow could not react to."""

import asyncio
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from event_store.operations import Asked, Operation, RetryParked, SkipParked, read_asked
from infra.running import require_store
from infra.settings import load_settings
from projectors.dead_letters import document_of, one_parked, read_parked
from projectors.read_side import open_read_side
from projectors.watching import operate, sentence_of

DOES_NOT_HOLD = 1
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
    asked = {"kind": "retry", "tenant": tenant, "consumer": projection, "id": number, "reason": reason}
    _carry_out(asked, as_json=as_json)


@commands.command("skip")
def skip_command(
    number: Number,
    reason: Annotated[str, typer.Option(help="Why; recorded with who did it.")],
    tenant: Tenant = DEMO_TENANT,
    as_json: Json = False,
) -> None:
    """Leave one event out of its row for good."""
    _carry_out({"kind": "skip", "tenant": tenant, "id": number, "reason": reason}, as_json=as_json)


def _carry_out(asked: dict[str, Any], *, as_json: bool) -> None:
    operation = asyncio.run(_operate(read_asked(asked)))
    if as_json and operation.state == "done":
        print(orjson.dumps(operation.result["keys"]).decode())
    else:
        print(orjson.dumps(operation.document()).decode() if as_json else sentence_of(operation))
    if operation.state != "done":
        raise typer.Exit(DOES_NOT_HOLD)


async def _operate(asked: Asked) -> Operation:
    async with open_read_side(require_store(load_settings()), name="dead-letters") as side:
        if isinstance(asked, RetryParked | SkipParked) and asked.id is not None:
            one_parked(await read_parked(side, asked.tenant), asked.id)
        return await operate(side, asked, Console(stderr=True), is_silent=True)


async def _list(tenant: str, projection: str | None) -> list[dict[str, Any]]:
    async with open_read_side(require_store(load_settings()), name="dead-letters") as side:
        return [document_of(one) for one in await read_parked(side, tenant, projection)]


async def _show(tenant: str, number: int) -> dict[str, Any]:
    async with open_read_side(require_store(load_settings()), name="dead-letters") as side:
        one = one_parked(await read_parked(side, tenant), number)
        events = await side.opened.read_range(one["partition"], one["position"], one["position"])
        return document_of(one) | {"data": orjson.loads(events[0].data)}
