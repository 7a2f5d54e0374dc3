"""`everfold replay`: builds new generations beside the live ones and swaps them in, or folds one row anew."""

import asyncio
from functools import partial
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from event_store.operations import Asked, Mend, Operation, Replay, ReplayAsOf, read_asked
from infra.garbage import collect_seldom
from infra.running import require_store
from infra.settings import Settings, load_settings
from infra.telemetry import start_telemetry
from projectors.acts import kind_of, moment_of, place_in
from projectors.history import positions_at
from projectors.read_side import ReadSide, open_read_side
from projectors.watching import operate, sentence_of
from schemas.errors import MalformedRequest

DOES_NOT_HOLD = 1
DEMO_TENANT = "demo"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay")(replay_command)


def replay_command(
    names: Annotated[list[str] | None, typer.Argument(help="Projections.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All projections.")] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compare the live rows with the fold; a difference is not swapped in."),
    ] = False,
    key: Annotated[
        str | None, typer.Option(help="Fold this row alone: its key's parts joined by `/`.")
    ] = None,
    table: Annotated[
        str | None, typer.Option(help="Of which table `--key` is; the first unless given.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose row `--key` is.")] = DEMO_TENANT,
    throttle: Annotated[int | None, typer.Option(min=1, help="At most so many events a second.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_of: Annotated[str | None, typer.Option(help="Fold up to this time (RFC 3339), with --into.")] = None,
    into: Annotated[
        str | None,
        typer.Option(
            help="A schema of its own, beside all generations; of several projections each gets one."
        ),
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; recorded with who did it.")] = None,
    here: Annotated[
        bool, typer.Option("--here", help="Carry it out in this process, not in a projector.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Build projections anew from the log, beside the live ones, and swap them in when they have caught up."""
    settings = require_store(load_settings())
    start_telemetry(role="replay", level="WARNING")
    if every == bool(names):
        raise MalformedRequest("name projections, or give --all")
    if (as_of is None) != (into is None):
        raise MalformedRequest("--as-of and --into belong together")
    if key is not None and (every or len(names or ()) != 1 or verify or as_of is not None):
        raise MalformedRequest("--key is of one projection, and goes with none of --all, --verify, --as-of")
    asked: dict[str, Any] = {"reason": reason}
    if key is not None:
        asked |= {
            "kind": "mend",
            "projection": (names or [""])[0],
            "tenant": tenant,
            "key": key.split("/"),
            "table": table,
        }
    elif as_of is not None:
        asked |= {"kind": "replay-as-of", "as_of": moment_of(as_of), "into": into, "throttle": throttle}
    else:
        asked |= {"kind": "replay", "verify": verify, "throttle": throttle}
    if key is None:
        asked["projections"] = names or []
    collect_seldom()
    console = Console(stderr=True, soft_wrap=True)
    holds = asyncio.run(
        _replay(settings, console, read_asked(asked), dry_run=dry_run, here=here, as_json=as_json)
    )
    if not holds:
        raise typer.Exit(DOES_NOT_HOLD)


async def _replay(
    settings: Settings, console: Console, asked: Asked, *, dry_run: bool, here: bool, as_json: bool
) -> bool:
    async with open_read_side(settings, name="replay") as side:
        plan = await _plan(side, asked)
        if dry_run:
            if as_json:
                print(orjson.dumps({"plan": plan}).decode())
            for one in () if as_json else plan:
                console.print(" ".join(str(value) for value in one.values()), highlight=False)
            return True
        operation = await operate(side, asked, console, here=here, is_silent=as_json)
    if as_json:
        print(orjson.dumps(operation.document()).decode())
    else:
        _tell(console, operation)
    return operation.state == "done" and bool(operation.result["holds"])


async def _plan(side: ReadSide, asked: Asked) -> list[dict[str, Any]]:
    """Return what would be done; whatever cannot be done at all is found out here."""
    if isinstance(asked, Mend):
        kind = kind_of(side, asked.projection)
        place = place_in(kind, asked.tenant, asked.key, asked.table)
        return [
            {
                "projection": kind.name,
                "table": place.table,
                "key": "/".join(place.key),
                "does": "folded and written",
            }
        ]
    assert isinstance(asked, Replay | ReplayAsOf)
    kinds = [kind_of(side, name) for name in asked.projections or sorted(side.kinds)]
    if isinstance(asked, ReplayAsOf):
        events = sum((await positions_at(side.log, asked.as_of)).values())
    else:
        events = sum(mark.position for mark in (await side.log.heads()).values())
    return [
        {"projection": kind.name, "version": kind.version, "events": events, "does": "events would be folded"}
        for kind in kinds
    ]


def _tell(console: Console, operation: Operation) -> None:
    asked, result = operation.asked, operation.result
    say = partial(console.print, markup=False, highlight=False)
    if operation.state != "done" or isinstance(asked, Mend):
        say(sentence_of(operation))
        return
    for one in result["projections"]:
        if isinstance(asked, ReplayAsOf):
            say(f"{one['name']}: {one['events']} events folded into {one['schema']}")
            continue
        rate = one["events"] / one["seconds"] if one["seconds"] else 0.0
        told = f"{one['events']} events in {one['seconds']:.1f} s, {rate:,.0f}/s"
        sentence = f"{one['name']}: generation {one['generation']}, {told}"
        if one["difference"] is not None:
            say(f"{sentence}; NOT swapped, a live row differs from its fold: {one['difference']}")
        elif one["rows"] is not None:
            say(f"{sentence}; {one['rows']} live rows equal their fold; swapped")
        else:
            say(f"{sentence}; swapped")
