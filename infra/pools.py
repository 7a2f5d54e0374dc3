"""
Connection pools to PostgreSQL.

A connection goes back to its pool without a round trip: nothing here sets a session's state, so there is nothing to
reset, and each statement works through a transaction pooler as well.
"""

from typing import Any

import asyncpg

CONNECT_SECONDS_MAX = 5.0
COMMAND_SECONDS_MAX = 60.0
IDLE_SECONDS_MAX = 300.0


async def open_pool(
    url: str, *, name: str, size_max: int, size_min: int = 1, command_seconds_max: float = COMMAND_SECONDS_MAX
) -> "asyncpg.Pool[Any]":
    """
    Return a pool of connections to a server, connected.

    Raises:
        OSError: Nothing answers there.
        asyncpg.PostgresError: The server refuses.
    """
    return await asyncpg.create_pool(
        url,
        min_size=size_min,
        max_size=size_max,
        timeout=CONNECT_SECONDS_MAX,
        command_timeout=command_seconds_max,
        max_inactive_connection_lifetime=IDLE_SECONDS_MAX,
        reset=_nothing_to_reset,
        server_settings={"application_name": f"everfold-{name}"},
    )


async def _nothing_to_reset(_connection: Any) -> None:
    """Leave a connection as it is."""
