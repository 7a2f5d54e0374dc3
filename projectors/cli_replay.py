"""`everfold replay`: builds new generations beside the live ones and swaps them in."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from infra.garbage import collect_seldom
from infra.running import require_store
from infra.settings import Settings, load_settings
from infra.telemetry import start_telemetry
from projectors.app import ReadSide, open_read_side
from projectors.build import Build, Built, Workshop
from projectors.history import positions_at
from projectors.mend import mend_row
from projectors.projection import Projection, Row
from projectors.side_builds import replay_into
from schemas.errors import MalformedRequest, NotFound

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
    tenant: Annotated[str, typer.Option(help="Whose row `--key` is.")] = DEMO_TENANT,
    throttle: Annotated[int | None, typer.Option(min=1, help="At most so many events a second.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_of: Annotated[str | None, typer.Option(help="Fold up to this time (RFC 3339), with --into.")] = None,
    into: Annotated[str | None, typer.Option(help="A schema of its own, beside all generations.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why; recorded with who did it.")] = None,
) -> None:
    """Build projections anew from the log, beside the live ones, and swap them in when they have caught up."""
    settings = require_store(load_settings())
    start_telemetry(role="replay", level="WARNING")
    if every == bool(names):
        raise MalformedRequest("name projections, or give --all")
    if (as_of is None) != (into is None):
        raise MalformedRequest("--as-of and --into belong together")
    moment = _moment(as_of) if as_of else None
    collect_seldom()
    console = Console(stderr=True)
    holds = asyncio.run(
        _replay(
            settings, console, names or [], verify=verify, key=key, tenant=tenant, throttle=throttle,
            dry_run=dry_run, moment=moment, into=into, reason=reason,
        )
    )  # fmt: skip
    if not holds:
        raise typer.Exit(DOES_NOT_HOLD)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise MalformedRequest(f"{text} is no RFC 3339 time") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


async def _replay(
    settings: Settings, console: Console, names: Sequence[str], *, verify: bool, key: str | None, tenant: str,
    throttle: int | None, dry_run: bool, moment: datetime | None, into: str | None, reason: str | None,
) -> bool:  # fmt: skip
    async with open_read_side(settings, name="replay") as side:
        kinds = [_kind(side, name) for name in names or sorted(side.kinds)]
        shop = Workshop(side.log, side.registry, side.generations, side.checkpoints)
        heads = await side.log.heads()
        events = sum(mark.position for mark in heads.values())
        if dry_run:
            for kind in kinds:
                console.print(f"{kind.name} version {kind.version}: {events} events would be folded")
            return True
        if key is not None:
            for kind in kinds:
                done = await mend_row(side, kind, tenant, tuple(key.split("/")))
                console.print(f"{kind.name} {key}: {done}")
            return True
        if moment is not None and into is not None:
            goals = await positions_at(side.log, moment)
            for kind in kinds:
                folded = await replay_into(shop, kind, into, goals)
                console.print(f"{kind.name}: {folded} events folded into {into}")
            return True
        await side.generations.record("replay", [kind.name for kind in kinds], reason)
        results = [await _build(shop, kind, console, events, throttle, verify=verify) for kind in kinds]
        return all(result.swapped for result in results)


def _kind(side: ReadSide, name: str) -> type[Projection[Row]]:
    if name not in side.kinds:
        raise NotFound(f"projection {name}; there are: {', '.join(sorted(side.kinds))}")
    return side.kinds[name]


async def _build(
    shop: Workshop,
    kind: type[Projection[Row]],
    console: Console,
    events: int,
    throttle: int | None,
    *,
    verify: bool,
) -> Built:
    with ExitStack() as stack:
        progress = stack.enter_context(
            Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} events"),
                _Rate(), TimeRemainingColumn(), console=console,
            )
        )  # fmt: skip
        task = progress.add_task(kind.name, total=events)
        reached: dict[int, int] = {}

        def show(_projection: str, partition: int, position: int) -> None:
            reached[partition] = position
            progress.update(task, completed=sum(reached.values()))

        built = await Build(shop, kind, events_per_second_max=throttle, progress=show).run(verify=verify)
    rate = built.events / built.seconds if built.seconds else 0.0
    told = f"{built.events} events in {built.seconds:.1f} s, {rate:,.0f}/s"
    sentence = f"{kind.name}: generation {built.generation}, {told}"
    if built.difference is not None:
        console.print(
            f"{sentence}; NOT swapped, a live row differs from its fold: {built.difference.document()}"
        )
    elif built.rows is not None:
        console.print(f"{sentence}; {built.rows} live rows equal their fold; swapped")
    else:
        console.print(f"{sentence}; swapped")
    return built


class _Rate(ProgressColumn):
    """Events a second so far."""

    def __init__(self) -> None:
        super().__init__()
        self._started = time.monotonic()

    def render(self, task: Task) -> Text:
        """Return the rate as text."""
        seconds = task.elapsed or (time.monotonic() - self._started)
        return Text(f"{task.completed / seconds if seconds else 0:,.0f}/s")
