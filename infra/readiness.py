"""
Waiting until the roles of a system say that they are ready, and not longer than there is hope.
"""

import asyncio
import time
from collections.abc import Mapping

import httpx2

from infra.embedded.errors import ServerDidNotStart
from infra.supervisor import Say, Supervisor

READY_SECONDS_MAX = 150.0
"""Who gives way to others needs long to start on a machine that is busy with something else."""
ANSWER_SECONDS_MAX = 2.0
POLL_SECONDS = 0.1
STARTS_MAX = 3
USED_WRONGLY = 2


async def wait_until_ready(
    supervisor: Supervisor, urls: Mapping[str, str], say: Say = lambda line: None
) -> None:
    """
    Wait until each role answers `/readyz` at its address with 200.

    Raises:
        ServerDidNotStart: One keeps ending, was used wrongly, or is not ready in time.
    """
    started = time.monotonic()
    waiting = dict(urls)
    async with httpx2.AsyncClient(timeout=ANSWER_SECONDS_MAX) as client:
        while waiting:
            for role, url in list(waiting.items()):
                why_not = await _why_not_ready(client, url)
                waited_seconds = time.monotonic() - started
                if why_not is None:
                    del waiting[role]
                    say(f"{role:<12} ready after {waited_seconds:.1f} s")
                else:
                    _give_up_if_hopeless(supervisor, role, why_not, waited_seconds)
            await asyncio.sleep(POLL_SECONDS if waiting else 0)


async def _why_not_ready(client: httpx2.AsyncClient, url: str) -> str | None:
    """Return None for ready, else why not."""
    try:
        response = await client.get(f"{url}/readyz")
    except httpx2.TransportError:
        return "it does not answer yet"
    return None if response.status_code == 200 else response.text.strip()


def _give_up_if_hopeless(supervisor: Supervisor, role: str, why_not: str, waited_seconds: float) -> None:
    child = supervisor.children[role]
    if child.last_status == USED_WRONGLY or child.restarts >= STARTS_MAX:
        raise ServerDidNotStart(role, child.last_words())
    if waited_seconds > READY_SECONDS_MAX:
        raise ServerDidNotStart(role, f"{why_not}; its last words: {child.last_words()}")
