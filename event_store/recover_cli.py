"""`everfold recover`: takes up a log again that was restored from a copy, or that has lost its end."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from event_store.opening import open_log
from event_store.recovery import installed_steps, recover
from event_store.verification import Checked
from infra.garbage import collect_seldom
from infra.pools import open_pool
from infra.progress import events_bar
from infra.running import require_store
from infra.settings import Settings, load_settings
from infra.telemetry import start_telemetry
from schemas.errors import MalformedRequest

CONNECTIONS_MAX = 4


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("recover")(recover_command)


def recover_command(
    against: Annotated[
        Path | None,
        typer.Option(
            help="The folder of signed heads, kept outside the database; EVERFOLD_HEADS unless given."
        ),
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; recorded with who did it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Verify a restored log, apply erasures again, set back what had run ahead of it, and open a new epoch."""
    settings = require_store(load_settings())
    folder = against or settings.heads
    if folder is None or not folder.is_dir():
        raise MalformedRequest(f"--against must be a folder of signed heads, not {folder}")
    start_telemetry(role="recover", level="WARNING")
    collect_seldom()
    report = asyncio.run(_recover(settings, folder, reason, is_silent=as_json))
    if as_json:
        print(orjson.dumps(report, default=str).decode())
    else:
        for line in sentences(report):
            print(line)


async def _recover(
    settings: Settings, folder: Path, reason: str | None, *, is_silent: bool
) -> dict[str, Any]:
    async with (
        open_log(settings) as log,
        await open_pool(settings.read_url_or_store, name="recover", size_max=CONNECTIONS_MAX) as pool,
    ):
        with ExitStack() as stack:

            def watch(events: int) -> Checked:
                advance = stack.enter_context(events_bar("log", events, is_silent=is_silent))
                return lambda _partition, done: advance(done)

            return await recover(
                settings, log, pool, folder, reason=reason, steps=installed_steps(), watch=watch
            )


def sentences(report: dict[str, Any]) -> list[str]:
    """Return a report in words."""
    said = [f"partition {lost['partition']}: {lost['said']}" for lost in report["lost"]]
    if not said:
        said = ["nothing is known to be lost: the log has all that the newest heads name"]
    said += [line for one in report["tenants"] for line in _of_tenant(one)]
    followers = report["followers"]
    said += [f"set back: {one}" for one in followers["set_back"]]
    said += [f"to be built anew: {one}" for one in followers["rebuilt"]]
    said += [f"forgotten: {count} {what}" for what, count in followers["forgotten"].items()]
    said += [f"{name}: {done}" for name, done in report["steps"].items()]
    return [
        *said,
        f"epoch {report['epoch']} is open; its heads are in {report['exported']}; every role goes on",
    ]


def _of_tenant(kept: Mapping[str, Any]) -> Iterator[str]:
    tenant = f"tenant {kept['tenant']}"
    for partition, position in kept["fences"].items():
        yield f"{tenant}: its fence in partition {partition} was lost, and stands at {position} now"
    for partition, position in kept["arrivals"].items():
        yield f"{tenant}: its arrival in partition {partition} was lost, and stands at {position} now"
    if kept["placed"]:
        yield f"{tenant}: every server knows again that it lives in partition {kept['partition']}"
    if kept["streams_cut"]:
        yield (
            f"{tenant}: {kept['streams_cut']} streams lack what they had when it left ({', '.join(kept['named'])}), "
            f"and {kept['keys_forgotten']} keys that were bound to it are forgotten"
        )
