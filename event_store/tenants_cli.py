"""`everfold tenants`: where a tenant lives and has lived, and moving it to another partition."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
import typer

from event_store.opening import open_log
from event_store.operations import operator
from event_store.residences import Residences
from infra.running import require_store
from infra.settings import Settings, load_settings
from infra.telemetry import start_telemetry
from schemas.messages import format_instant

Tenant = Annotated[str, typer.Argument(help="Whose name it is in tokens.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    tenants = typer.Typer(no_args_is_help=True, help="Where tenants live in the log.")
    tenants.command("show")(show_command)
    tenants.command("move")(move_command)
    app.add_typer(tenants, name="tenants")


def show_command(tenant: Tenant, as_json: AsJson = False) -> None:
    """Print in which partition a tenant lives, and where it has lived before."""
    settings = require_store(load_settings())
    _print(asyncio.run(_show(settings, tenant)), as_json=as_json)


def move_command(
    tenant: Tenant,
    to: Annotated[int, typer.Option("--to", min=0, help="The partition, in which it has never lived.")],
    reason: Annotated[str | None, typer.Option(help="Why; recorded in the log with who did it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Move a tenant to another partition, under traffic; cut short, the same command goes on."""
    settings = require_store(load_settings())
    start_telemetry(role="tenants", level="WARNING")
    _print(asyncio.run(_move(settings, tenant, to, reason)), as_json=as_json)


async def _show(settings: Settings, tenant: str) -> Residences:
    async with open_log(settings) as log:
        return await log.residences_of(tenant)


async def _move(settings: Settings, tenant: str, to: int, reason: str | None) -> Residences:
    async with open_log(settings) as log:
        return await log.move_tenant(tenant, to, actor=operator(), reason=reason)


def _print(lived: Residences, *, as_json: bool) -> None:
    if as_json:
        document = {"tenant": lived.tenant, "is_moving": lived.is_moving, "residences": _items(lived)}
        print(orjson.dumps(document).decode())
        return
    for one in _items(lived):
        print(
            f"partition {one['partition']}: positions {one['first_position']} to {one['last_position'] or 'now'}, "
            f"{one['since'] or 'the beginning'} to {one['until'] or 'now'}"
        )
    if lived.is_moving:
        print(f"{lived.tenant} is on its way: run `everfold tenants move` again until it has arrived")


def _items(lived: Residences) -> Sequence[dict[str, Any]]:
    return [
        one._asdict()
        | {
            "since": one.since and format_instant(one.since),
            "until": one.until and format_instant(one.until),
        }
        for one in lived
    ]
