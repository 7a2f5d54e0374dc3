"""Imports one file: reads it, shows how far it is, and writes what could not be used however it ends."""

import asyncio
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from client.http import Client
from client.supply.importer import Importer, Report, State, import_id, report, write_rejects
from client.supply.importer import Progress as Shown
from client.supply.lines import read_lines
from client.supply.mapping import load_mapping
from client.supply.plan import Plan, make_plan
from schemas.errors import BadDefinition

LINE_SECONDS = 15.0


async def import_file(
    file: Path,
    mapping_name: str,
    *,
    urls: tuple[str, str],
    token: str,
    data_dir: Path,
    rate: float | None = None,
    rejects: Path | None = None,
    state: Path | None = None,
    console: Console,
) -> Report:
    """Import a file and return what became of its lines; the rejects are written however it ends."""
    with console.status(f"Reading {file.name}…"):
        name, plan = await asyncio.to_thread(_read, file, mapping_name, urls[0])
    kept = State.load(state or data_dir / "imports" / f"{name}.json")
    columns = (TextColumn("{task.description:>15}"), BarColumn(), MofNCompleteColumn(), TextColumn("lines"),
               TextColumn("{task.fields[rate]}"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=plan.lines, rate="")
        try:
            async with Client(command_url=urls[0], query_url=urls[1], token=token) as client:
                return await Importer(
                    client, plan, kept, name=name, progress=_shown(bar, task, kept), rate=rate
                ).run()
        finally:
            if rejects is not None:
                write_rejects(rejects, report(plan, kept).rejects)


def _read(file: Path, mapping_name: str, target: str) -> tuple[str, Plan]:
    if not file.is_file():
        raise BadDefinition(f"file {file}", "there is no such file")
    mapping = load_mapping(mapping_name)
    plan = make_plan(read_lines(file, mapping), mapping)
    return import_id(file.read_bytes(), mapping.model_dump_json(), target), plan


def _shown(bar: Progress, task: TaskID, state: State) -> Shown:
    """Return what moves the bar; where there is no terminal to draw it on, a line now and then says the same."""
    said_at = time.monotonic()

    def show(label: str, done: int, total: int) -> None:
        nonlocal said_at
        rate = f"{state.commands / state.seconds:,.0f} commands/s" if state.seconds else ""
        bar.update(task, description=label, completed=done, total=total, rate=rate)
        if not bar.console.is_terminal and time.monotonic() - said_at >= LINE_SECONDS:
            said_at = time.monotonic()
            bar.console.print(f"{label}: {done:,} of {total:,} lines, {rate}")

    return show
