"""
The demonstration: the whole system on this machine, fed with orders over HTTP, shown as tables, and proven.

It runs on data of its own (`demo` in the data directory, and a namespace of its own), so it neither needs nor
touches what is there. It ends well only if every line is accounted for, the dashboards agree with what was sent,
and a fresh fold of the log equals every live table.
"""

import asyncio
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from client.http import Client
from client.supply.generate import write_orders
from client.supply.importer import Report
from client.supply.importing import import_file
from infra.roles import command_line
from infra.settings import Settings
from infra.system import RunningSystem, running_system

CATCH_UP_SECONDS_MAX = 300.0
POLL_SECONDS = 0.2
TOOL_SECONDS_MAX = 1_200.0
ROWS_SHOWN = 10
WIDTH_MIN = 110
STOCK_COLUMNS = ("site_id", "item_id", "on_hand", "reserved", "quarantined", "expired", "available")


async def run_demo(
    settings: Settings, *, data: Path | None, mapping: str | None, orders: int, seed: int
) -> int:
    """Run the demonstration and return its exit status: 0 if everything agrees."""
    console = Console(width=max(WIDTH_MIN, Console().width))
    folder = settings.data_dir.absolute() / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    own = settings.model_copy(
        update={
            "data_dir": folder,
            "namespace": f"demo_{secrets.token_hex(4)}",
            "command_port": 0,
            "query_port": 0,
            "health_port": None,
        }
    )
    if data is None:
        data, mapping = folder / "orders.csv", "generated"
        write_orders(data, orders=orders, seed=seed)
        console.print(f"Generated {orders:,} orders (seed {seed}) in {data}")
    async with running_system(own) as system:
        began = time.monotonic()
        done = await import_file(
            data, str(mapping), urls=(system.command_url, system.query_url), token=system.token(), data_dir=folder,
            rejects=folder / "rejects.csv", console=console,
        )  # fmt: skip
        sent = time.monotonic()
        await _caught_up(system)
        read = time.monotonic()
        return await _show_and_prove(system, done, console, Rates(sent - began, read - sent))


class Rates:
    """How long the parts took, in seconds."""

    def __init__(self, sending_seconds: float, catching_up_seconds: float) -> None:
        self.sending_seconds, self.catching_up_seconds = sending_seconds, catching_up_seconds


async def _caught_up(system: RunningSystem) -> None:
    began = time.monotonic()
    while True:
        status, out = await _tool(system, "status", "--max-lag", "0", "--json")
        facts = json.loads(out) if out else {}
        behind = [
            item["name"]
            for kind in ("projections", "workflows")
            for item in facts.get(kind, ())
            if item["lag_events"]
        ]
        if facts and not behind:
            return
        if time.monotonic() - began > CATCH_UP_SECONDS_MAX:
            raise TimeoutError(
                f"still behind after {CATCH_UP_SECONDS_MAX:.0f} s: {', '.join(behind) or 'no status'} ({status})"
            )
        await asyncio.sleep(POLL_SECONDS)


async def _show_and_prove(system: RunningSystem, done: Report, console: Console, rates: Rates) -> int:
    async with Client(
        command_url=system.command_url, query_url=system.query_url, token=system.token()
    ) as client:
        funnel = await client.get("/v1/dashboards/order-funnel")
        _show(console, "Orders that ever were", [funnel])
        statuses = (await client.get("/v1/dashboards/by-status"))["items"]
        _show(console, "Orders by status", statuses)
        _show(
            console,
            "Top items",
            (await client.get("/v1/dashboards/top-items", {"limit": ROWS_SHOWN}))["items"],
        )
        _show(
            console,
            "Daily demand",
            (await client.get("/v1/dashboards/daily-demand", {"limit": ROWS_SHOWN}))["items"],
        )
        _show(
            console,
            "Stock",
            [_chosen(item) for item in (await client.get("/v1/stock-levels", {"limit": 5}))["items"]],
        )
    _show(
        console,
        "Lines not used",
        [{"reason": reason, "lines": count} for reason, count in done.reasons.items()],
    )

    replay_began = time.monotonic()
    replayed, out = await _tool(system, "replay", "--all", "--verify", show=True)
    replay_seconds = time.monotonic() - replay_began
    verified, out = await _tool(system, "verify", "--json")
    proof: dict[str, Any] = json.loads(out) if out else {"ok": False, "events": 0, "projections": []}
    agreements = {
        "every line is used or rejected with its reason": done.used + done.rejected == done.lines,
        "as many orders stand in a status as were placed": sum(row["orders"] for row in statuses)
        == funnel["placed"],
        "the replay equals every live table": replayed == 0,
        "the log's chain holds and every table equals its fold": verified == 0 and proof["ok"],
    }
    events, projections = proof["events"], max(1, len(proof["projections"]))
    figures: list[tuple[str, float, str]] = [
        ("commands sent", done.commands, ""),
        ("events in the log", events, ""),
        (
            "commands a second, over HTTP, waiting for each window's orders",
            done.commands / rates.sending_seconds,
            "/s",
        ),
        ("seconds until the read side had caught up after the last", rates.catching_up_seconds, "s"),
        (
            "events a second replayed and verified, all projections",
            events * projections / replay_seconds,
            "/s",
        ),
    ]
    _show(
        console,
        "Figures",
        [{"figure": name, "value": f"{value:,.1f} {unit}"} for name, value, unit in figures],
    )
    for name, holds in agreements.items():
        console.print(f"[green]holds[/]  {name}" if holds else f"[red]FAILS[/]  {name}")
    return 0 if all(agreements.values()) else 1


async def _tool(system: RunningSystem, *arguments: str, show: bool = False) -> tuple[int, str]:
    """Run a command of the command line against the system, and return its status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command_line(*arguments), env=_environment(system), stdout=asyncio.subprocess.PIPE,
        stderr=None if show else asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(TOOL_SECONDS_MAX):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if show:
        sys.stdout.write(out.decode())
    elif process.returncode not in (0, 1) and err:
        sys.stderr.write(err.decode())
    return process.returncode or 0, out.decode().strip()


def _environment(system: RunningSystem) -> Mapping[str, str]:
    return {**os.environ, **system.environment()}


def _chosen(level: Mapping[str, Any]) -> dict[str, Any]:
    return {name: level[name] for name in STOCK_COLUMNS}


def _show(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ("nothing",):
        table.add_column(name, justify="right" if rows and isinstance(rows[0][name], int) else "left")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    console.print(table)
