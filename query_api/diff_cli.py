"""`everfold diff`: what changed in a document between two instants, and which events did it."""

import asyncio
from datetime import datetime
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from event_store.cli import history_document
from event_store.opening import open_log
from event_store.vault import open_sealer, sealed
from infra.domains import definitions, load_domains, load_registry
from infra.running import require_store
from infra.settings import Settings, load_settings
from infra.telemetry import start_telemetry
from query_api.differences import Difference, Instant, difference, query_of_stream
from query_api.query import DocumentQuery
from schemas.errors import MalformedRequest

DEMO_TENANT = "demo"
ALL, NOTHING = Instant(), Instant(version=0)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("diff")(diff_command)


def diff_command(
    stream: Annotated[str, typer.Argument(help="The stream that the document is made from: orders/PO-1.")],
    from_: Annotated[
        str | None,
        typer.Option("--from", help="A time (RFC 3339) or a version of the stream; unset: before it was."),
    ] = None,
    to: Annotated[str | None, typer.Option(help="A time or a version; unset: now.")] = None,
    tenant: Annotated[str, typer.Option(help="Whose document.")] = DEMO_TENANT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print which fields of a document changed between two instants, and the events that did it."""
    settings = require_store(load_settings())
    start_telemetry(role="diff", level="WARNING")
    bounds = (instant_of(from_) if from_ else NOTHING, instant_of(to) if to else ALL)
    document = asyncio.run(_diff(settings, stream, tenant, *bounds))
    if as_json:
        print(orjson.dumps(document).decode())
    else:
        _print(document)


def instant_of(text: str) -> Instant:
    """
    Return a moment that was typed: a version, or a time with its zone.

    Raises:
        MalformedRequest: It is neither.
    """
    if text.isdecimal():
        return Instant(version=int(text))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise MalformedRequest(f"{text} is neither a version nor an RFC 3339 time") from error
    if moment.tzinfo is None:
        raise MalformedRequest(f"{text} names no time zone, as 2026-01-31T12:00:00Z does")
    return Instant(time=moment)


async def _diff(
    settings: Settings, stream: str, tenant: str, before: Instant, after: Instant
) -> dict[str, Any]:
    domains = load_domains(settings.domains)
    found: list[type[DocumentQuery]] = definitions(domains, "query_api", DocumentQuery)
    query, path = query_of_stream(found, stream)
    registry = load_registry(domains)
    async with open_log(settings) as log, open_sealer(settings, registry, log) as sealer:
        opened = sealed(log, sealer, registry)
        return document_of(stream, await difference(opened, registry, query, tenant, path, before, after))


def document_of(stream: str, found: Difference) -> dict[str, Any]:
    """Return a difference as `everfold diff --json` prints it."""
    return {
        "stream": stream,
        "before": found.before,
        "after": found.after,
        "changes": [change.document() for change in found.changes],
        "events": [history_document(event) for event in found.events],
        "other_events": found.others,
    }


def _print(document: dict[str, Any]) -> None:
    console = Console()
    if not document["changes"]:
        console.print("nothing changed")
        return
    by_version = {event["version"]: event for event in document["events"]}
    table = Table("field", "before", "after", "set by", "at", "who", box=None)
    for change in document["changes"]:
        event = by_version[change["set_by"]]
        before = "" if change["what"] == "added" else _short(change["before"])
        after = "" if change["what"] == "removed" else _short(change["after"])
        table.add_row(
            change["pointer"] or "/", before, after, f"{event['version']} {event['type']}",
            event["recorded_at"], event["actor"],
        )  # fmt: skip
    console.print(table)


def _short(value: Any) -> str:
    return orjson.dumps(value).decode()
