"""Killing a role's process outright, and waiting until the supervisor has started it again."""

import asyncio
import os
import signal

from infra.system import RunningSystem

RESTART_SECONDS_MAX = 30.0


async def kill(system: RunningSystem, role: str) -> None:
    """Kill a role with SIGKILL and wait until another process has taken its place."""
    child = system.supervisor.children[role]
    async with asyncio.timeout(RESTART_SECONDS_MAX):
        while (pid := child.pid) is None:
            await asyncio.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        while child.pid in (None, pid):
            await asyncio.sleep(0.05)
