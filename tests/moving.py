"""
Moves a tenant, as a process that may be killed on its way.

    python -m tests.moving TENANT PARTITION FIRST:LAST=URL…
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping

from event_store.postgres import PostgresLog
from infra.failpoints import VARIABLE
from tests.services import NAMESPACE

STEPS = (
    "move.before_fence", "move.fenced", "move.told_home", "move.copied_some", "move.copied", "move.before_arrival",
    "move.arrived", "move.told",
)  # fmt: skip
"""Where a move may be killed, in order."""
FENCED = STEPS[1:6]
"""Killed there, the tenant is on its way."""


async def killed_at(step: str, urls: Mapping[range, str], tenant: str, to: int) -> int:
    """Move a tenant in a process that is killed at a step, and return its exit status."""
    servers = [f"{part.start}:{part.stop}={url}" for part, url in urls.items()]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.moving", tenant, str(to), *servers,
        env=os.environ | {VARIABLE: f"{step}=kill"}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return await process.wait()


async def _main(tenant: str, to: str, *servers: str) -> None:
    urls = {}
    for server in servers:
        part, _, url = server.partition("=")
        urls[range(*map(int, part.split(":")))] = url
    async with PostgresLog(urls, NAMESPACE) as log:
        await log.move_tenant(tenant, int(to))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
