"""What an outsider can check about a system: the log's own tables, read with SQL, against what clients were told."""

from collections.abc import Iterable
from typing import NamedTuple

import asyncpg

from infra.system import RunningSystem


class Stored(NamedTuple):
    """An event as it stands in the log."""

    id: str
    type: str
    stream: str


async def events_in_log(system: RunningSystem, tenant: str = "demo") -> list[Stored]:
    """Return a tenant's events, as they stand there."""
    connection = await asyncpg.connect(next(iter(system.settings.store_urls.values())))
    try:
        rows = await connection.fetch(
            f"SELECT id::text, type, stream FROM {system.settings.namespace}.events WHERE tenant = $1", tenant
        )
    finally:
        await connection.close()
    return [Stored(*row) for row in rows]


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


def missing_and_doubled(acknowledged: Iterable[list[str]], stored: Iterable[Stored]) -> tuple[set[str], int]:
    """Return the acknowledged events that are not stored, and how many stored ones stand there more than once."""
    ids = [event.id for event in stored]
    expected = {event for events in acknowledged for event in events}
    return expected - set(ids), len(ids) - len(set(ids))
