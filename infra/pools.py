"""
Connection pools to PostgreSQL.

A connection goes back to its pool without a round trip: nothing here sets a session's state, so there is nothing to
reset, and each statement works through a transaction pooler as well.
"""

import asyncio
from typing import Any

import asyncpg

from infra.database_roles import role_problem, start_parameters
from infra.governor import IDLE_SECONDS_MAX as GOVERNED_IDLE_SECONDS_MAX
from infra.governor import GovernedPool, Governor
from schemas.errors import BadDefinition

CONNECT_SECONDS_MAX = 5.0
COMMAND_SECONDS_MAX = 60.0
IDLE_SECONDS_MAX = 300.0
STATEMENTS_A_CONNECTION_MAX = 50_000
"""After so many a connection is made anew, so that what a session gathers in the server stays bounded."""
STATEMENT_CHARACTERS_MAX = 64 * 1024
"""A longer statement is prepared each time; those that write for several projections at once are of some thousands."""


async def open_pool(
    url: str,
    *,
    name: str,
    size_max: int,
    size_min: int = 1,
    command_seconds_max: float = COMMAND_SECONDS_MAX,
    role: str | None = None,
    governor: Governor | None = None,
) -> "asyncpg.Pool[Any]":
    """
    Return a pool of connections to a server, connected, each in a role if one is given, governed if it is to be.

    Raises:
        BadDefinition: The role is not there, or the account may not take it.
        OSError: Nothing answers there.
        asyncpg.PostgresError: The server refuses.
    """
    try:
        pool = (asyncpg.Pool if governor is None else GovernedPool)(
            url,
            min_size=size_min,
            max_size=size_max,
            max_queries=STATEMENTS_A_CONNECTION_MAX,
            max_cacheable_statement_size=STATEMENT_CHARACTERS_MAX,
            loop=asyncio.get_running_loop(),
            connection_class=asyncpg.Connection,
            record_class=asyncpg.Record,
            timeout=CONNECT_SECONDS_MAX,
            command_timeout=command_seconds_max,
            max_inactive_connection_lifetime=IDLE_SECONDS_MAX
            if governor is None
            else GOVERNED_IDLE_SECONDS_MAX,
            reset=_nothing_to_reset,
            server_settings=dict(start_parameters(f"everfold-{name}", role)),
        )
        if isinstance(pool, GovernedPool) and governor is not None:
            pool.governor, pool.held = governor, set()
        return await pool
    except asyncpg.PostgresError as error:
        if role is not None and (problem := role_problem(error.sqlstate, role)):
            raise BadDefinition(f"database role {role}", problem) from error
        raise


async def _nothing_to_reset(_connection: Any) -> None:
    """Leave a connection as it is."""
