"""`everfold keys`: master keys, and putting the keys of persons under another one."""

import asyncio
from typing import Annotated

import orjson
import typer
from rich.console import Console

from event_store.postgres import PostgresLog
from event_store.rewrapping import rewrap_all
from event_store.subject_keys import SubjectKeys
from event_store.vault import master_keys_of
from infra.master_key_file import new_line
from infra.running import require_store
from infra.settings import load_settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

commands = typer.Typer(help="Master keys: what the keys of persons are wrapped with.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="keys")


@commands.command("new")
def new_command() -> None:
    """Print a new master key, as a line of the key file."""
    print(new_line())


@commands.command("list")
def list_command(as_json: Json = False) -> None:
    """Print how many living keys each master key has wrapped, and which master key is the current one."""
    current, counts = asyncio.run(_list())
    rows = [
        {"master": master, "keys": counts.get(master, 0), "current": master == current}
        for master in sorted({current, *counts})
    ]
    if as_json:
        print(orjson.dumps({"items": rows}).decode())
        return
    for row in rows:
        print(f"{row['master']}  {row['keys']} keys{'  current' if row['current'] else ''}")


@commands.command("rotate")
def rotate_command(
    reason: Annotated[str, typer.Option(help="Why; recorded with who did it.")], as_json: Json = False
) -> None:
    """Put all keys under the current master key; events stay as they are. Interrupted, it goes on where it was."""
    done = asyncio.run(_rotate(reason))
    if as_json:
        print(orjson.dumps({"rewrapped": done}).decode())
    else:
        print(f"{done} keys put under the current master key")


async def _list() -> tuple[str, dict[str, int]]:
    settings = require_store(load_settings())
    masters = master_keys_of(settings)
    try:
        async with PostgresLog(settings.store_urls, settings.namespace) as log:
            return await masters.current(), await SubjectKeys(log.servers).by_master()
    finally:
        await masters.close()


async def _rotate(reason: str) -> int:
    settings = require_store(load_settings())
    masters = master_keys_of(settings)
    console = Console(stderr=True)
    try:
        async with PostgresLog(settings.store_urls, settings.namespace) as log:
            with console.status("rewrapping") as status:
                return await rewrap_all(
                    SubjectKeys(log.servers),
                    masters,
                    reason,
                    progress=lambda done: status.update(f"rewrapping: {done} keys"),
                )
    finally:
        await masters.close()
