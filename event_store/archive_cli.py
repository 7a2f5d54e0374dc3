"""`everfold archive`: moves old events to the archive, where they are still read from."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from getpass import getuser
from socket import gethostname
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from event_store.archive import Archived, Archiver, Policy
from event_store.archive_copy import Candidate
from event_store.object_store import ObjectStore, object_store_of
from event_store.opening import open_log
from infra.running import require_store
from infra.settings import Settings, load_settings
from infra.telemetry import start_telemetry
from schemas.errors import BadDefinition, MalformedRequest
from schemas.messages import format_instant

UNITS = {"d": "days", "h": "hours", "w": "weeks"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("archive")(archive_command)


def archive_command(
    older_than: Annotated[
        str | None, typer.Option(help="Ranges whose last event is so old: 90d, 12h, 8w.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=0, help="Keep so many of each partition's newest positions.")
    ] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be archived.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why; recorded with who did it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Move whole old ranges of the log to EVERFOLD_ARCHIVE_URL; may be stopped anywhere and run again."""
    settings = require_store(load_settings())
    start_telemetry(role="archive", level="WARNING")
    if older_than is None and keep is None:
        raise MalformedRequest("say what is old: --older-than 90d, --keep 100000000, or both")
    if settings.archive_url is None:
        raise BadDefinition(
            "EVERFOLD_ARCHIVE_URL",
            "is not set: it names where old events go, such as file:///srv/archive (every role needs the same)",
        )
    policy = Policy(_age(older_than) if older_than is not None else None, keep)
    console = Console(stderr=True)
    ranges = asyncio.run(_archive(settings, policy, partition, console, dry_run=dry_run, reason=reason))
    if as_json:
        print(orjson.dumps({"dry_run": dry_run, "ranges": ranges}).decode())
        return
    for one in ranges:
        verb = "would be archived" if dry_run else "archived"
        print(
            f"partition {one['partition']}, range {one['range']}: "
            f"positions {one['first_position']} to {one['last_position']} {verb}"
        )
    if not ranges:
        print("nothing is old enough")


def _age(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,6})([dhw])", text)
    if match is None:
        raise MalformedRequest(f"--older-than {text} is no age: 90d, 12h or 8w")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


async def _archive(
    settings: Settings,
    policy: Policy,
    only: int | None,
    console: Console,
    *,
    dry_run: bool,
    reason: str | None,
) -> Sequence[dict[str, Any]]:
    urls = {at: url for part, url in settings.store_urls.items() for at in part}
    ranges: list[dict[str, Any]] = []
    async with open_log(settings) as log, _opened(settings) as store:
        partitions = log.partitions if only is None else [only]
        for partition in partitions:
            if partition not in urls:
                raise MalformedRequest(f"there is no partition {partition}")
            archiver = Archiver(
                log,
                store,
                url_of=urls.__getitem__,
                namespace=settings.namespace,
                progress=lambda at, number, position: console.print(
                    f"partition {at}, range {number}: copied up to {position}", end="\r"
                ),
            )
            if dry_run:
                ranges += [_document(one) for one in await archiver.candidates(partition, policy)]
                continue
            actor = f"{getuser()}@{gethostname()}"
            async with aclosing(archiver.run(partition, policy, actor=actor, reason=reason)) as done:
                async for archived in done:
                    ranges.append(_document(archived))
                    console.print(f"partition {partition}, range {archived.range}: archived" + " " * 20)
    return ranges


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[ObjectStore]:
    store = object_store_of(settings)
    try:
        yield store
    finally:
        await store.close()


def _document(one: Candidate | Archived) -> dict[str, Any]:
    members = asdict(one)
    return {
        name: format_instant(value) if isinstance(value, datetime) else value
        for name, value in members.items()
    }
