"""`everfold snapshots`: which states of streams are saved, and an end to them."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from event_store.opening import open_log
from event_store.snapshots import SnapshotEntry
from infra.running import require_store
from infra.settings import Settings, load_settings
from schemas.messages import format_instant

LISTED_MAX = 1_000

Tenant = Annotated[str | None, typer.Option(help="Only this tenant's.")]
Prefix = Annotated[str | None, typer.Option(help="Only streams whose names begin so, such as `orders/`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    snapshots = typer.Typer(no_args_is_help=True, help="Saved states of streams.")
    snapshots.command("list")(list_command)
    snapshots.command("drop")(drop_command)
    app.add_typer(snapshots, name="snapshots")


def list_command(
    tenant: Tenant = None,
    prefix: Prefix = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = LISTED_MAX,
    as_json: AsJson = False,
) -> None:
    """Print which states are saved, by partition, tenant and stream."""
    settings = require_store(load_settings())
    entries = asyncio.run(_list(settings, tenant, prefix, limit))
    if as_json:
        items = [asdict(entry) | {"written_at": format_instant(entry.written_at)} for entry in entries]
        print(orjson.dumps({"items": items}).decode())
    else:
        _print(entries)


def drop_command(tenant: Tenant = None, prefix: Prefix = None, as_json: AsJson = False) -> None:
    """Delete saved states; safe at any time, streams are then folded whole once and saved again."""
    settings = require_store(load_settings())
    dropped = asyncio.run(_drop(settings, tenant, prefix))
    print(orjson.dumps({"dropped": dropped}).decode() if as_json else f"{dropped} saved states dropped")


async def _list(
    settings: Settings, tenant: str | None, prefix: str | None, limit: int
) -> list[SnapshotEntry]:
    async with open_log(settings) as log:
        entries = log.snapshots.list(tenant=tenant, prefix=prefix, entries_max=limit)
        return [entry async for entry in entries]


async def _drop(settings: Settings, tenant: str | None, prefix: str | None) -> int:
    async with open_log(settings) as log:
        return await log.snapshots.drop(tenant=tenant, prefix=prefix)


def _print(entries: list[SnapshotEntry]) -> None:
    table = Table(
        "partition", "tenant", "stream", "version", "decider", "at", "bytes", "written", "usable", box=None
    )
    for one in entries:
        table.add_row(
            str(one.partition), one.tenant, one.stream, str(one.version), f"v{one.decider_version}", str(one.position),
            str(one.bytes), format_instant(one.written_at), "yes" if one.usable else "no: of a lost tail",
        )  # fmt: skip
    Console().print(table)
