"""`everfold erase`: destroys a person's key, and scrubs every copy of what it had encrypted."""

import asyncio
from collections.abc import Sequence
from getpass import getuser
from pathlib import Path
from socket import gethostname
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.status import Status

from event_store.erasures import Erasure, Erasures, apply_erasures
from event_store.subject_keys import Subject, subject_of
from infra.running import require_store
from infra.settings import Settings, load_settings
from infra.telemetry import start_telemetry
from projectors.erasure import Office, document_of
from projectors.read_side import ReadSide, open_read_side
from schemas.errors import MalformedRequest, NotFound

REASON_CHARACTERS_MAX = 1_000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("erase")(erase_command)


def erase_command(
    subject: Annotated[
        str | None, typer.Argument(help="The person's id, as events have it: a customer_id, say.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose person it is.")] = None,
    reason: Annotated[
        str | None, typer.Option(help="Why; recorded with who did it. No personal data in it, please.")
    ] = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Go on with erasures that were interrupted.")
    ] = False,
    apply_from: Annotated[
        Path | None, typer.Option("--from", help="Apply the erasures in a file again, after a restore.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write all erasures to a file, to be kept elsewhere.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a person's data unreadable everywhere, for ever. What is done is done; interrupted, it goes on."""
    given = [subject is not None, unfinished, apply_from is not None, export is not None]
    if sum(given) != 1:
        raise MalformedRequest("give one of: a person's id, --unfinished, --from FILE, --export FILE")
    if subject is not None and not (tenant and reason and reason.strip()):
        raise MalformedRequest("to erase a person give --tenant and --reason")
    if reason is not None and len(reason) > REASON_CHARACTERS_MAX:
        raise MalformedRequest(f"a reason has {REASON_CHARACTERS_MAX} characters at most")
    settings = require_store(load_settings())
    start_telemetry(role="erase", level="WARNING")
    who = subject_of(tenant, subject) if tenant and subject else None
    done = asyncio.run(_run(settings, who, reason or "", apply_from, export))
    if as_json:
        print(orjson.dumps({"erasures": [document_of(one) for one in done]}).decode())
    else:
        _print(done, export)


async def _run(
    settings: Settings, subject: Subject | None, reason: str, apply_from: Path | None, export: Path | None
) -> Sequence[Erasure]:
    console = Console(stderr=True)
    async with open_read_side(settings, name="erase") as side:
        erasures = Erasures(side.log.servers)
        if export is not None:
            return await _export(erasures, export)
        with console.status("erasing") as status:
            if subject is not None:
                chosen = await _begin(side, erasures, subject, reason)
            elif apply_from is not None:
                chosen = await apply_erasures(erasures, apply_from)
            else:
                chosen = await erasures.all(ended=False)
            return [await _carry_out(side, erasures, one, status) for one in chosen]


async def _begin(side: ReadSide, erasures: Erasures, subject: Subject, reason: str) -> Sequence[Erasure]:
    """Destroy the person's key, and return what is to be carried out; done before, the erasure that was done."""
    actor = f"{getuser()}@{gethostname()}"
    await side.generations.record("erase", [subject.tenant, subject.hash.hex()], reason)
    await erasures.begin(subject, actor, reason)
    known = await erasures.of(subject)
    if not known:
        raise NotFound(f"person of tenant {subject.tenant} with that id about whom anything is encrypted")
    return [one for one in known if one.ended_at is None] or known[-1:]


async def _carry_out(side: ReadSide, erasures: Erasures, erasure: Erasure, status: Status) -> Erasure:
    if erasure.ended_at is not None:
        return erasure
    office = Office(side, erasures, say=lambda what: status.update(f"erasing: {what}"))
    return await office.carry_out(erasure)


async def _export(erasures: Erasures, path: Path) -> Sequence[Erasure]:
    """Write all erasures to a new file, whole or not at all."""
    found = await erasures.all()
    written = path.with_name(f"{path.name}.new")
    await asyncio.to_thread(written.write_bytes, b"".join(one.line() for one in found))
    await asyncio.to_thread(written.replace, path)
    return found


def _print(done: Sequence[Erasure], export: Path | None) -> None:
    if export is not None:
        print(f"{len(done)} erasures written to {export}")
        return
    if not done:
        print("nothing was left to erase")
    for one in done:
        print(
            f"{one.subject.tenant} {one.subject.hash.hex()[:16]}…: key destroyed at {one.erased_at:%F %T} UTC"
        )
        for step, found in one.steps.items():
            print(f"  {step}: {_words(found)}")


def _words(found: Any) -> str:
    if not isinstance(found, dict) or not found:
        return "done"
    return ", ".join(
        f"{name.replace('_', ' ')} {len(value) if isinstance(value, list) else value}"
        for name, value in found.items()
    )
