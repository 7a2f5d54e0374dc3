"""`everfold projections`: what is live, and what operators do with it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from event_store.operations import Operation, read_asked
from infra.running import require_store
from infra.settings import load_settings
from infra.telemetry import start_telemetry
from projectors.acts import kind_of, place_in
from projectors.dead_letters import document_of, place_of, read_parked
from projectors.decoding import Decoded
from projectors.mend import mender_of
from projectors.read_side import ReadSide, open_read_side
from projectors.tables import read_tables
from projectors.watching import operate, sentence_of
from schemas.messages import format_instant

DOES_NOT_HOLD = 1
DEMO_TENANT = "demo"
Name = Annotated[str, typer.Argument(help="The projection.")]
Reason = Annotated[str | None, typer.Option(help="Why; recorded with who did it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

commands = typer.Typer(help="Projections and their generations.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="projections")


@commands.command("list")
def list_command(as_json: Json = False) -> None:
    """Print all generations that have tables."""
    rows = asyncio.run(_with_side(_list))
    if as_json:
        print(orjson.dumps({"items": rows}).decode())
        return
    table = Table("projection", "generation", "version", "state", "paused", "schema", box=None)
    for row in rows:
        table.add_row(
            row["projection"], str(row["generation"]), str(row["version"]), row["state"],
            "yes" if row["paused"] else "", row["schema"],
        )  # fmt: skip
    Console().print(table)


@commands.command("show")
def show_command(
    name: Name,
    key: Annotated[str, typer.Option(help="The row's key: its parts joined by `/`.")],
    tenant: Annotated[str, typer.Option(help="Whose row.")] = DEMO_TENANT,
    table: Annotated[str | None, typer.Option(help="Of which table; the first when left out.")] = None,
) -> None:
    """Print a row, a fresh fold of it up to where the projection is, the events behind it, and what is parked."""
    document = asyncio.run(_with_side(lambda side: _show(side, name, tenant, tuple(key.split("/")), table)))
    print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


@commands.command("pause")
def pause_command(name: Name, reason: Reason = None, as_json: Json = False) -> None:
    """Stop applying events to a projection; reads go on."""
    _carry_out({"kind": "pause", "projection": name, "reason": reason}, as_json=as_json)


@commands.command("resume")
def resume_command(name: Name, reason: Reason = None, as_json: Json = False) -> None:
    """Go on applying events to a projection."""
    _carry_out({"kind": "resume", "projection": name, "reason": reason}, as_json=as_json)


@commands.command("swap-back")
def swap_back_command(name: Name, reason: Reason = None, as_json: Json = False) -> None:
    """Bring the generation before up to date, and make it the live one again."""
    _carry_out({"kind": "swap-back", "projection": name, "reason": reason}, as_json=as_json)


@commands.command("drop")
def drop_command(
    name: Name,
    generation: Annotated[int, typer.Option(help="Which one; the live one cannot be dropped.")],
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Drop a generation's tables."""
    asked = {"kind": "drop", "projection": name, "generation": generation, "reason": reason}
    _carry_out(asked, as_json=as_json)


def _carry_out(asked: dict[str, Any], *, as_json: bool) -> None:
    """Have an operation carried out, and say what became of it."""
    request = read_asked(asked)
    console = Console(stderr=True)

    async def work(side: ReadSide) -> Operation:
        return await operate(side, request, console, is_silent=as_json)

    operation: Operation = asyncio.run(_with_side(work))
    print(orjson.dumps(operation.document()).decode() if as_json else sentence_of(operation))
    if operation.state != "done":
        raise typer.Exit(DOES_NOT_HOLD)


async def _with_side(work: Callable[[ReadSide], Awaitable[Any]]) -> Any:
    start_telemetry(role="projections", level="WARNING")
    async with open_read_side(require_store(load_settings()), name="projections") as side:
        return await work(side)


async def _list(side: ReadSide) -> list[dict[str, Any]]:
    live = await side.generations.live()
    return [
        {
            "projection": row["projection"],
            "generation": row["generation"],
            "version": row["version"],
            "state": row["state"],
            "paused": row["state"] == "live" and live[row["projection"]].paused,
            "schema": row["schema"],
        }
        for row in await side.generations.all()
    ]


async def _show(
    side: ReadSide, name: str, tenant: str, key: tuple[str, ...], table_name: str | None
) -> dict[str, Any]:
    kind = kind_of(side, name)
    place = place_in(kind, tenant, key, table_name)
    live = (await side.generations.live())[name]
    tables = await read_tables(side.pool, kind, side.generations.schema_of(name, live.generation))
    mender = await mender_of(side, kind)
    residences, positions = await mender.residences(tenant), await mender.positions()
    rows = await tables[place.table].load_rows(side.pool, [place])
    fold = await mender.fold(residences, place, positions)
    reached = positions.get(residences.present.partition, 0)
    waiting = [one for one in await read_parked(side, tenant, name) if one["kind"] == "projection"]
    parked = [one for one in waiting if place_of(one) == place]
    row, folded = (one and one.encode() for one in (rows[place], fold.row))
    return {
        "row": row and orjson.loads(row),
        "fold": folded and orjson.loads(folded),
        "equal": row == folded,
        "position": reached,
        "events": fold.positions,
        "behind": [_event(one) for one in fold.events],
        "error": fold.error,
        "parked": [document_of(one) for one in parked],
    }


def _event(one: Decoded) -> dict[str, Any]:
    source = one.source
    return {
        "event_id": source.id, "type": source.type, "schema_version": source.schema_version, "stream": source.stream,
        "version": source.version, "position": source.position, "recorded_at": format_instant(source.recorded_at),
    }  # fmt: skip
