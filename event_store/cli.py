"""The log on the command line: its layout (`migrate`) and its streams (`history`)."""

import asyncio
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import orjson
import typer

from event_store.migrate import Migration, migrate_all
from event_store.opening import open_log
from event_store.postgres import PostgresLog
from event_store.roles import roles_script
from event_store.vault import open_sealer, sealed
from infra.domains import load_domains, load_registry
from infra.running import require_store
from infra.settings import Settings, load_settings
from schemas.envelope import RecordedEvent
from schemas.errors import NotFound
from schemas.messages import format_instant

DOES_NOT_HOLD = 1
DEMO_TENANT = "demo"


def register(app: typer.Typer) -> None:
    """Add the log's commands."""
    app.command(name="migrate")(migrate_command)
    app.command(name="history")(history_command)


def migrate_command(
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether everything is up to date.")
    ] = False,
    to: Annotated[
        str | None, typer.Option(help="The revision to go to, forward or back; `base` is none.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; recorded with who did it.")] = None,
    print_roles: Annotated[
        bool,
        typer.Option("--print-roles", help="Only print the SQL by which an administrator makes the roles."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bring every database up to date, or to a revision."""
    settings = require_store(load_settings())
    if print_roles:
        for url in dict.fromkeys([*settings.store_urls.values(), settings.read_url_or_store]):
            print(roles_script(url, settings.namespace))
        return
    done = migrate_all(
        settings.store_urls, settings.read_url_or_store, settings.namespace, check=check, to=to, reason=reason
    )
    if as_json:
        documents = [asdict(one) | {"is_current": one.is_current} for one in done]
        print(orjson.dumps({"databases": documents}).decode())
    else:
        for one in done:
            print(_sentence(one))
    if check and not all(one.is_current for one in done):
        raise typer.Exit(DOES_NOT_HOLD)


def history_command(
    stream: Annotated[str, typer.Argument(help="Such as orders/INV-1.")],
    tenant: Annotated[str, typer.Option(help="Whose stream it is.")] = DEMO_TENANT,
    backwards: Annotated[bool, typer.Option("--backwards", help="Newest first.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many events.")] = None,
    from_: Annotated[int, typer.Option("--from", min=1, help="From this version on.")] = 1,
    to: Annotated[int | None, typer.Option(min=1, help="Up to this version.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Recorded at this time or later: 2026-01-31T12:00:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Recorded at this time or earlier.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print a stream's events, oldest first; all bounds are included."""
    settings = require_store(load_settings())
    bounds = _Bounds(from_ - 1, to, _instant("--since", since), _instant("--until", until), backwards, limit)
    asyncio.run(_history(settings, tenant, stream, bounds, as_json=as_json))


class _Bounds(NamedTuple):
    """Which part of a stream to print, in the words of `EventLog.read_stream`."""

    after_version: int
    until_version: int | None
    since_time: datetime | None
    until_time: datetime | None
    backwards: bool
    events_max: int | None


def _instant(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text} is no time", param_hint=option) from error
    if instant.tzinfo is None:
        raise typer.BadParameter(
            f"{text} names no time zone, as 2026-01-31T12:00:00Z does", param_hint=option
        )
    return instant


def history_document(event: RecordedEvent) -> dict[str, Any]:
    """Return an event as `GET /v1/history` answers it."""
    metadata = orjson.loads(event.metadata)
    named = ("actor", "roles", "reason", "command", "idempotency_key", "correlation_id", "causation_id")
    return {
        "event_id": event.id,
        "type": event.type,
        "schema_version": event.schema_version,
        "stream": event.stream,
        "version": event.version,
        "position": event.position,
        "recorded_at": format_instant(event.recorded_at),
        "occurred_at": metadata.get("occurred_at"),
        **{name: metadata.get(name) for name in named},
        "data": orjson.loads(event.data),
    }


async def _history(settings: Settings, tenant: str, stream: str, bounds: _Bounds, *, as_json: bool) -> None:
    registry = load_registry(load_domains(settings.domains))
    async with (
        open_log(settings) as log,
        open_sealer(settings, registry, log) as sealer,
    ):
        printed = 0
        async for event in sealed(log, sealer, registry).read_stream(tenant, stream, **bounds._asdict()):
            printed += 1
            document = history_document(event)
            if as_json:
                print('{"items": [' if printed == 1 else ",", orjson.dumps(document).decode(), sep="", end="")
            else:
                print(_line(document))
        if not printed:
            await _require(log, tenant, stream)
        if as_json:
            print("]}" if printed else '{"items": []}')


async def _require(log: PostgresLog, tenant: str, stream: str) -> None:
    async for _ in log.read_stream(tenant, stream, events_max=1):
        return
    raise NotFound(f"stream {stream} of tenant {tenant}")


def _line(document: dict[str, Any]) -> str:
    kind = f"{document['type']} v{document['schema_version']}"
    who = " · ".join(filter(None, (document["actor"], document["command"], document["reason"])))
    first = f"{document['version']:>6}  {document['recorded_at']}  at {document['position']}  {kind}  {who}"
    return f"{first.rstrip()}\n        {orjson.dumps(document['data']).decode()}"


def _sentence(migration: Migration) -> str:
    if migration.before is None and migration.after is None:
        return f"{migration.server}: empty; the newest revision is {migration.newest}"
    made = f", {len(migration.partitions_made)} partitions made" if migration.partitions_made else ""
    missing = (
        f", {len(migration.partitions_missing)} partitions missing" if migration.partitions_missing else ""
    )
    moved = migration.before != migration.after
    where = (
        f"{migration.before or 'empty'} → {migration.after or 'empty'}" if moved else f"at {migration.after}"
    )
    newest = "" if migration.after == migration.newest else f", the newest is {migration.newest}"
    if migration.is_newer:
        newest = f", by a newer program than this, whose newest is {migration.newest}"
    return f"{migration.server}: {where}{made}{missing}{newest}"
