"""`everfold verify`: the log's chain of hashes, signed heads of it, and every live row against its fold."""

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from event_store.log_check import LogCheck
from event_store.verification import PROCESSES_MAX, Checked
from infra.garbage import collect_seldom
from infra.progress import events_bar
from infra.running import require_store
from infra.settings import Settings, load_settings
from infra.telemetry import start_telemetry
from projectors.read_side import open_read_side
from projectors.verify import ProjectionReport, verify_projections

DOES_NOT_HOLD = 1


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify_command)


def verify_command(
    log: Annotated[bool, typer.Option("--log", help="Only the log.")] = False,
    projections: Annotated[bool, typer.Option("--projections", help="Only the projections.")] = False,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Compare so many rows of each table instead of all.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Signed heads, or a folder of them (the newest counts), that the log must have."),
    ] = None,
    export_heads: Annotated[
        Path | None,
        typer.Option(
            help="Write signed heads of what was found as written: to this file, or into this folder."
        ),
    ] = None,
    since: Annotated[
        Path | None,
        typer.Option(help="Signed heads after which to begin; what lies before was checked then."),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1, max=PROCESSES_MAX, help="How many processes check; as many as there are processors."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Recompute the log's chain, fold the log, and compare every live row; name the first difference."""
    settings = require_store(load_settings())
    start_telemetry(role="verify", level="WARNING")
    of_log_alone = any(option is not None for option in (against, export_heads, since, processes))
    log = log or (of_log_alone and not projections)
    both = log == projections
    check = LogCheck.planned(settings, against=against, since=since, export=export_heads)
    collect_seldom()
    report = asyncio.run(
        _verify(
            settings, check if log or both or of_log_alone else None, projections=projections or both,
            sample=sample, processes=processes, is_silent=as_json,
        )
    )  # fmt: skip
    if as_json:
        print(orjson.dumps(report).decode())
    else:
        _print(report)
    if not report["ok"]:
        raise typer.Exit(DOES_NOT_HOLD)


async def _verify(
    settings: Settings, check: LogCheck | None, *, projections: bool, sample: int | None,
    processes: int | None, is_silent: bool,
) -> dict[str, Any]:  # fmt: skip
    reports: list[ProjectionReport] = []
    async with open_read_side(settings, name="verify") as side:
        if check is not None:
            with ExitStack() as stack:

                def watch(events: int) -> Checked:
                    advance = stack.enter_context(events_bar("log", events, is_silent=is_silent))
                    return lambda _partition, done: advance(done)

                await check.run(settings, side.log, processes=processes, watch=watch)
        events = sum(mark.position for mark in (await side.log.heads()).values())
        if projections:
            reports = await verify_projections(side, sample=sample)
    log_report = check.log_document() if check else {"ok": True, "first_bad": None}
    return {
        "ok": (check is None or check.ok) and all(report.equal for report in reports),
        "events": check.report.events if check else events,
        "log": log_report,
        **({"heads": check.heads_document()} if check and check.heads_document() else {}),
        "projections": [report.document() for report in reports],
    }


def _print(report: dict[str, Any]) -> None:
    console = Console(soft_wrap=True)
    log, heads = report["log"], report.get("heads")
    if bad := log["first_bad"]:
        console.print(
            f"log: NOT as written: partition {bad['partition']}, position {bad['position']}: {bad['reason']}"
        )
    elif "seconds" in log:
        rate = f"{log['seconds']:.1f} s, {log['events_per_second']:,}/s"
        console.print(f"log: {log['events']} events as written ({rate})")
    if heads is not None:
        _print_heads(console, heads)
    if report["projections"]:
        table = Table("projection", "rows", "equal to the fold", "first difference", box=None)
        for one in report["projections"]:
            table.add_row(
                one["name"],
                str(one["rows"]),
                "yes" if one["equal"] else "NO",
                str(one["first_difference"] or ""),
            )
        console.print(table)
    console.print("ok" if report["ok"] else "NOT ok")


def _print_heads(console: Console, heads: dict[str, Any]) -> None:
    for fault in heads["findings"]:
        where = "" if fault["partition"] is None else f" partition {fault['partition']}:"
        console.print(f"heads: {fault['finding']}:{where} {fault['said']}", highlight=False)
    if heads["made_at"] and not heads["findings"]:
        console.print(f"heads: the log has all that it had at {heads['made_at']}")
    if heads["exported"]:
        console.print(f"heads: signed and written to {heads['exported']}")
