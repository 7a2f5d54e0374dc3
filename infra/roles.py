"""
The roles of a system: which there are, how each is run as a process, and where it answers.

They are started by name from the command line, so nothing of theirs is imported here.
"""

import asyncio
import sys
import time
from collections.abc import Sequence

from pydantic import SecretStr

from infra.embedded.errors import PortTaken
from infra.embedded.ports import free_port, is_free
from infra.settings import PREFIX, Settings

COMMAND_API, QUERY_API = "command-api", "query-api"
RELAY, PROJECTOR, WORKFLOW = "relay", "projector", "workflow"
FOLLOWERS = frozenset({RELAY, PROJECTOR, WORKFLOW})
PORT_SETTINGS = {COMMAND_API: "command_port", QUERY_API: "query_port"}
HEALTH_PORT_SETTING = "health_port"
PORT_SECONDS_MAX = 3.0
POLL_SECONDS = 0.1


def roles_of(settings: Settings) -> list[str]:
    """Return the roles that a system needs: no relay where there is no broker to relay to."""
    return [COMMAND_API, QUERY_API, *([RELAY] if settings.uses_broker else []), PROJECTOR, WORKFLOW]


def command_line(*arguments: str) -> Sequence[str]:
    """Return how the command line is run as another process."""
    return [sys.executable, "-m", "infra.cli", *arguments]


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the variables that make another process's settings equal to these."""
    variables = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        match value:
            case None:
                continue
            case SecretStr():
                text = value.get_secret_value()
            case tuple():
                text = ",".join(value)
            case _:
                text = str(value)
        variables[PREFIX + name.upper()] = text
    return variables


async def port_of(role: str, number: int, settings: Settings) -> int:
    """
    Return the port of a role; those without an API count up from the given one.

    Raises:
        PortTaken: Another program listens there.
    """
    setting = PORT_SETTINGS.get(role, HEALTH_PORT_SETTING)
    wanted: int | None = getattr(settings, setting)
    if not wanted:
        return free_port()
    port = wanted if role in PORT_SETTINGS else wanted + number - len(PORT_SETTINGS)
    deadline = time.monotonic() + PORT_SECONDS_MAX  # that of a role which was killed is free in a moment
    while not is_free(port, settings.host):
        if time.monotonic() > deadline:
            raise PortTaken(port, PREFIX + setting.upper())
        await asyncio.sleep(POLL_SECONDS)
    return port
