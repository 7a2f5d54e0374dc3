"""What an outsider can check about a system: the log's own tables, read with SQL, against what clients were told."""

from collections.abc import Iterable

import asyncpg

from infra.system import RunningSystem


async def events_in_log(system: RunningSystem, stream_prefix: str) -> list[str]:
    """Return the ids of the log's events in streams of this prefix, as they stand there."""
    connection = await asyncpg.connect(next(iter(system.settings.store_urls.values())))
    try:
        rows = await connection.fetch(
            f"SELECT event_id::text AS id FROM {system.settings.namespace}.events WHERE stream LIKE $1",
            f"{stream_prefix}%",
        )
    finally:
        await connection.close()
    return [row["id"] for row in rows]


async def gaps_in_log(system: RunningSystem) -> list[int]:
    """Return the partitions whose positions are not 1, 2, 3 … without a gap."""
    connection = await asyncpg.connect(next(iter(system.settings.store_urls.values())))
    try:
        rows = await connection.fetch(
            f"SELECT partition FROM {system.settings.namespace}.events GROUP BY partition "
            "HAVING count(*) <> max(position) OR min(position) <> 1"
        )
    finally:
        await connection.close()
    return [row["partition"] for row in rows]


def missing_and_doubled(acknowledged: Iterable[list[str]], stored: list[str]) -> tuple[set[str], int]:
    """Return the acknowledged events that are not stored, and how many stored ones stand there more than once."""
    expected = {event for events in acknowledged for event in events}
    return expected - set(stored), len(stored) - len(set(stored))
