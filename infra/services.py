"""
The servers that a system needs: those that the settings name, and embedded ones in place of the rest.
"""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from infra.embedded.errors import ServerDidNotStart
from infra.embedded.folders import durable_folder
from infra.embedded.ports import free_port
from infra.embedded.postgres import PostgresServer
from infra.embedded.rabbitmq import LOCAL_URL, RabbitServer, lets_in
from infra.embedded.server import Server
from infra.embedded.valkey import ValkeyServer
from infra.settings import Settings
from infra.supervisor import Say, Supervisor
from infra.up import RABBITMQ

STARTS_MAX = 3
POLL_SECONDS = 0.05


async def start_services(settings: Settings, supervisor: Supervisor, say: Say) -> Settings:
    """
    Start what the settings leave open, and return them with every address filled in.

    Raises:
        ServerDidNotStart: One did not come up.
        ServerMissing: One is not installed and cannot be had.
    """
    found: dict[str, SecretStr] = {}
    for setting, server in _wanted(settings).items():
        found[setting] = SecretStr(await start_server(server, supervisor, say))
    if settings.broker_url.get_secret_value() == RABBITMQ:
        found["broker_url"] = SecretStr(await _start_broker(settings, supervisor, say))
    return settings.model_copy(update=found)


async def _start_broker(settings: Settings, supervisor: Supervisor, say: Say) -> str:
    """Use the RabbitMQ that runs on this machine anyway, else one of our own."""
    if await asyncio.to_thread(lets_in, LOCAL_URL):
        say(f"{RABBITMQ:<12} the local one is used")
        return LOCAL_URL
    folder = settings.data_dir.absolute() / RABBITMQ
    return await start_server(RabbitServer(folder, remembered_port(folder), say), supervisor, say)


def _wanted(settings: Settings) -> Mapping[str, Server]:
    wanted: dict[str, Server] = {}
    if settings.store_url is None:
        folder = durable_folder(settings.data_dir, "postgres")
        wanted["store_url"] = PostgresServer(folder, remembered_port(folder), database="everfold")
    if settings.redis_url is None:
        folder = settings.data_dir.absolute() / "valkey"
        wanted["redis_url"] = ValkeyServer(folder, remembered_port(folder))
    return wanted


def remembered_port(folder: Path) -> int:
    """Return the port that a server had last time if it is still free, else one that it gets from now on."""
    folder.mkdir(parents=True, exist_ok=True)
    memory = folder / "port"
    before = memory.read_text().strip() if memory.exists() else ""
    port = free_port(int(before) if before.isdigit() else None)
    memory.write_text(f"{port}\n")
    return port


async def start_server(server: Server, supervisor: Supervisor, say: Say) -> str:
    """
    Start a server under a supervisor, wait until it answers, and return its address.

    Raises:
        ServerDidNotStart: It ended several times, or did not answer in time.
    """
    started = time.monotonic()
    await asyncio.to_thread(server.prepare)
    children = [await supervisor.start(program) for program in (*server.companions(), server.program())]
    while not await asyncio.to_thread(server.is_ready):
        gave_up = time.monotonic() - started > server.start_seconds_max
        if gave_up or any(child.restarts >= STARTS_MAX for child in children):
            raise ServerDidNotStart(server.name, children[-1].last_words())
        await asyncio.sleep(POLL_SECONDS)
    say(f"{server.name:<12} ready after {time.monotonic() - started:.1f} s")
    return server.url
