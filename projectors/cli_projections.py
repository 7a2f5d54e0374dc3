"""`everfold projections`: what is live, and what operators do with it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from infra.running import require_store
from infra.settings import load_settings
from infra.telemetry import start_telemetry
from projectors.app import ReadSide, open_read_side
from projectors.build import Build, Workshop
from projectors.dead_letters import document_of, place_of, read_parked
from projectors.folding import Place
from projectors.generations import Generation
from projectors.mend import mender_of
from projectors.tables import read_tables
from schemas.errors import MalformedRequest, NotFound

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
    """Print a row, a fresh fold of it, how many events are behind it, and what is parked."""
    document = asyncio.run(_with_side(lambda side: _show(side, name, tenant, tuple(key.split("/")), table)))
    print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


@commands.command("pause")
def pause_command(name: Name, reason: Reason = None) -> None:
    """Stop applying events to a projection; reads go on."""
    asyncio.run(_with_side(lambda side: _pause(side, name, reason, paused=True)))


@commands.command("resume")
def resume_command(name: Name, reason: Reason = None) -> None:
    """Go on applying events to a projection."""
    asyncio.run(_with_side(lambda side: _pause(side, name, reason, paused=False)))


@commands.command("swap-back")
def swap_back_command(name: Name, reason: Reason = None) -> None:
    """Bring the generation before up to date, and make it the live one again."""
    print(asyncio.run(_with_side(lambda side: _swap_back(side, name, reason))))


@commands.command("drop")
def drop_command(
    name: Name,
    generation: Annotated[int, typer.Option(help="Which one; the live one cannot be dropped.")],
    reason: Reason = None,
) -> None:
    """Drop a generation's tables."""
    asyncio.run(_with_side(lambda side: _drop(side, name, generation, reason)))


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
    kind = side.kinds.get(name)
    if kind is None:
        raise NotFound(f"projection {name}")
    if table_name is not None and table_name not in kind.tables:
        raise MalformedRequest(f"{name} has no table {table_name}; there are: {', '.join(kind.tables)}")
    place = Place(table_name or next(iter(kind.tables)), tenant, key)
    live = (await side.generations.live())[name]
    tables = await read_tables(side.pool, kind, side.generations.schema_of(name, live.generation))
    rows = await tables[place.table].load_rows(side.pool, [place])
    partition = await side.log.partition_of(tenant)
    heads = await side.log.heads()
    fold = await (await mender_of(side, kind)).fold(place, heads[partition].position)
    waiting = [one for one in await read_parked(side, tenant, name) if one["kind"] == "projection"]
    parked = [one for one in waiting if place_of(one) == place]
    row = rows[place]
    return {
        "row": orjson.loads(row.encode()) if row is not None else None,
        "fold": orjson.loads(fold.row.encode()) if fold.row is not None else None,
        "events": fold.positions,
        "error": fold.error,
        "parked": [document_of(one) for one in parked],
    }


async def _pause(side: ReadSide, name: str, reason: str | None, *, paused: bool) -> None:
    await side.generations.set_paused(name, paused=paused)
    await side.generations.record("pause" if paused else "resume", [name], reason)


async def _swap_back(side: ReadSide, name: str, reason: str | None) -> str:
    kind = side.kinds.get(name)
    live = (await side.generations.live()).get(name)
    if kind is None or live is None or live.previous is None:
        raise NotFound(f"generation of {name} to go back to")
    before = next(
        row for row in await side.generations.all()
        if row["projection"] == name and row["generation"] == live.previous
    )  # fmt: skip
    if before["version"] != kind.version:
        raise MalformedRequest(
            f"generation {live.previous} is of version {before['version']}: run the program that folds it"
        )
    shop = Workshop(side.log, side.registry, side.generations, side.checkpoints)
    generation = Generation(name, live.previous, kind.version, before["schema"])
    await Build(shop, kind).bring_back(generation, live.generation)
    await side.generations.record("swap-back", [name], reason)
    return f"{name}: generation {generation.number} is live again"


async def _drop(side: ReadSide, name: str, generation: int, reason: str | None) -> None:
    await side.generations.drop(name, generation)
    await side.generations.record("drop", [name, str(generation)], reason)
