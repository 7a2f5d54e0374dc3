"""`everfold status`: where everything stands."""

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from event_store.opening import open_log
from event_store.status import partitions_away, read_status, worst_lag_seconds
from infra.pools import open_pool
from infra.running import require_store
from infra.settings import Settings, load_settings
from infra.telemetry import start_telemetry
from schemas.errors import StoreUnavailable

DOES_NOT_HOLD = 1


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status_command)


def status_command(
    max_lag: Annotated[
        float | None, typer.Option(help="Exit with 1 when a consumer is more seconds behind.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print heads, positions, lag, generations, builds, and what each waits for."""
    start_telemetry(role="status", level="WARNING")
    status = asyncio.run(_read(require_store(load_settings())))
    if as_json:
        print(orjson.dumps(status).decode())
    else:
        _print(status)
    if max_lag is not None and worst_lag_seconds(status) > max_lag:
        raise typer.Exit(DOES_NOT_HOLD)
    if max_lag is not None and partitions_away(status):
        raise StoreUnavailable


async def _read(settings: Settings) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(open_log(settings))
        pool = await stack.enter_async_context(
            await open_pool(settings.read_url_or_store, name="status", size_max=2)
        )
        return await read_status(log, pool, settings.namespace, uses_broker=settings.uses_broker)


def _print(status: dict[str, Any]) -> None:
    console = Console()
    partitions = Table("partition", "head", "relayed", title="Log", title_justify="left", box=None)
    for one in status["partitions"]:
        partitions.add_row(
            *("away" if one[name] is None else str(one[name]) for name in ("partition", "head", "relayed"))
        )
    console.print(partitions)
    projections = Table(
        "projection", "version", "generation", "state", "lag, events", "lag, s", "dead letters", "building",
        "waiting for", title="Projections", title_justify="left", box=None,
    )  # fmt: skip
    for one in status["projections"]:
        building = (
            f"{one['building']['generation']}, {one['building']['lag_events']} to go"
            if one["building"]
            else ""
        )
        projections.add_row(
            one["name"], str(one["version"]), str(one["generation"]), one["state"], str(one["lag_events"]),
            f"{one['lag_seconds']:.1f}", str(one["dead_letters"]), building, one["waiting_for"] or "",
        )  # fmt: skip
    console.print(projections)
    for one in [*status["projections"], *status["workflows"]]:
        if poison := one["poison"]:
            where = f"{poison['key']} of {poison['tenant']}"
            console.print(
                f"{one['name']}: {poison['event_type']} at {where}: {poison['error']}", markup=False
            )
    for one in status["relays"]:
        if one["lag_events"]:
            waits = one["waiting_for"] or "nothing that it speaks of"
            console.print(
                f"relay {one['name']}: {one['lag_events']} events behind, waits for {waits}", highlight=False
            )
    workflows = Table(
        "workflow", "lag, events", "lag, s", "dead letters", "waiting for",
        title="Workflows", title_justify="left", box=None,
    )  # fmt: skip
    for one in status["workflows"]:
        workflows.add_row(
            one["name"], str(one["lag_events"]), f"{one['lag_seconds']:.1f}", str(one["dead_letters"]),
            one["waiting_for"] or "",
        )  # fmt: skip
    console.print(workflows)
