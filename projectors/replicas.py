"""Waits until the replicas of the read tables have what was written there."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from event_store.failures import NO_REPLY
from schemas.errors import Unavailable

REPLICA_SECONDS_MAX = 60.0
REPLICA_POLL_SECONDS = 0.2


@dataclass(eq=False)
class ReplicaBehind(Unavailable):
    """A replica of the read tables does not follow, and readers may be answered from it: run the erasure again."""

    replica: int = 0


async def replicated(pool: "asyncpg.Pool[Any]", replica_urls: Sequence[str]) -> None:
    """
    Wait until replicas have replayed all that has been committed in the database of a pool.

    Raises:
        ReplicaBehind: One has not, for a minute.
    """
    if not replica_urls:
        return
    place = await _written(pool)
    for number, url in enumerate(replica_urls, 1):
        try:
            async with asyncio.timeout(REPLICA_SECONDS_MAX):
                await _replayed(url, place)
        except NO_REPLY as error:
            raise ReplicaBehind(number) from error


async def _written(pool: "asyncpg.Pool[Any]") -> str:
    """
    Return a place in the write-ahead log behind all that was written.

    Rows are written without waiting for the disk, and what no commit follows that somebody waits for may stay in
    memory, where no replica gets it from: so one is waited for here.
    """
    async with pool.acquire() as connection, connection.transaction():
        place = await connection.fetchval("SELECT pg_current_wal_insert_lsn()::text")
        await connection.execute("SET LOCAL synchronous_commit = on")
        await connection.execute("SELECT pg_logical_emit_message(true, 'everfold', 'replicated')")
    return str(place)


async def _replayed(url: str, place: str) -> None:
    connection = await asyncpg.connect(url, timeout=REPLICA_SECONDS_MAX)
    try:
        while not await connection.fetchval(
            "SELECT NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= $1::text::pg_lsn", place
        ):
            await asyncio.sleep(REPLICA_POLL_SECONDS)
    finally:
        connection.terminate()
