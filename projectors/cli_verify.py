"""`everfold verify`: the log's chain of hashes, and every live row against its fold."""

import asyncio
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from event_store.integrity import LogReport, verify_log
from infra.garbage import collect_seldom
from infra.running import require_store
from infra.settings import Settings, load_settings
from infra.telemetry import start_telemetry
from projectors.app import open_read_side
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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Recompute the log's chain, fold the log, and compare every live row; name the first difference."""
    settings = require_store(load_settings())
    start_telemetry(role="verify", level="WARNING")
    both = log == projections
    collect_seldom()
    report = asyncio.run(_verify(settings, log=log or both, projections=projections or both, sample=sample))
    if as_json:
        print(orjson.dumps(report).decode())
    else:
        _print(report)
    if not report["ok"]:
        raise typer.Exit(DOES_NOT_HOLD)


async def _verify(settings: Settings, *, log: bool, projections: bool, sample: int | None) -> dict[str, Any]:
    log_report = LogReport(True, 0)
    reports: list[ProjectionReport] = []
    async with open_read_side(settings, name="verify") as side:
        if log:
            log_report = await verify_log(side.log, side.log.partitions)
        else:
            heads = await side.log.heads()
            log_report = LogReport(True, sum(mark.position for mark in heads.values()))
        if projections:
            reports = await verify_projections(side, sample=sample)
    return {
        "ok": log_report.ok and all(report.equal for report in reports),
        "events": log_report.events,
        "log": log_report.document(),
        "projections": [report.document() for report in reports],
    }


def _print(report: dict[str, Any]) -> None:
    console = Console()
    bad = report["log"]["first_bad"]
    if bad:
        console.print(
            f"log: NOT as written: partition {bad['partition']}, position {bad['position']}: {bad['reason']}"
        )
    else:
        console.print(f"log: {report['events']} events as written")
    table = Table("projection", "rows", "equal to the fold", "first difference", box=None)
    for one in report["projections"]:
        table.add_row(
            one["name"], str(one["rows"]), "yes" if one["equal"] else "NO", str(one["first_difference"] or "")
        )
    console.print(table)
    console.print("ok" if report["ok"] else "NOT ok")
