"""
An end to idempotency keys that nobody may rely on any more: whole days are dropped, and no append waits for it.

A day's table is first detached, which is two transactions of PostgreSQL's own and may be interrupted between them, and
then dropped; whatever state an earlier run left it in, this one goes on from there.
"""

from datetime import timedelta

import asyncpg

from event_store.connections import StoreConnection
from infra.sql import load_sql

BY_ANOTHER = frozenset({"42P01", "55000"})
"""The table is gone, or not in the state that it was found in: another process is at it."""


async def drop_old_keys(
    connection: StoreConnection, namespace: str, partition: int, keys_kept: timedelta
) -> None:
    """Drop the keys of days that ended so long ago, and forget calls that were given up so long ago."""
    found = await connection.fetch(
        load_sql("event_store", "sql/queries/forget.sql", namespace=namespace), partition, keys_kept
    )
    for day, is_attached, is_detaching in found:
        names = {"namespace": namespace, "keys": f"idempotency_keys_p{partition}", "day": day}
        try:
            if is_attached:
                step = "detach_keys_finally" if is_detaching else "detach_keys"
                await connection.execute(load_sql("event_store", f"sql/queries/{step}.sql", **names))
            await connection.execute(load_sql("event_store", "sql/queries/drop_keys.sql", **names))
        except asyncpg.PostgresError as error:
            if error.sqlstate not in BY_ANOTHER:
                raise
