"""
The saved states of streams, as an operator sees them: which there are, and none of them.

They are written and read by `EventLog.save_states` and `read_states`. Dropping them is safe at any time, also while
they are written and read: what is not there is folded from the log.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from event_store.servers import Servers

DROPPED_TOGETHER_MAX = 1_000

Progress = Callable[[int], None]
"""Told how many have been dropped so far."""


@dataclass(frozen=True, slots=True)
class SnapshotEntry:
    """One saved state, without the state."""

    partition: int
    tenant: str
    stream: str
    version: int
    decider_version: int
    position: int
    """Of the commit that it rests on."""
    bytes: int
    written_at: datetime
    usable: bool
    """False: the log has lost that commit, and the state is not read."""


class Snapshots:
    """The saved states on all servers of a log."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    async def list(
        self, *, tenant: str | None = None, prefix: str | None = None, entries_max: int
    ) -> AsyncIterator[SnapshotEntry]:
        """Return saved states by partition and stream, of one tenant or all, of streams whose names begin so."""
        left = entries_max
        for partition in self._servers.firsts():
            for row in await self._read(partition, tenant, prefix, left):
                yield SnapshotEntry(**row)
                left -= 1

    async def _read(
        self, partition: int, tenant: str | None, prefix: str | None, entries_max: int
    ) -> Sequence[Mapping[str, Any]]:
        rows: Sequence[Mapping[str, Any]] = await self._servers.read(
            partition,
            lambda connection: connection.fetch(
                self._servers.sql("list_snapshots"), tenant, prefix, entries_max
            ),
        )
        return rows

    async def drop(
        self,
        *,
        tenant: str | None = None,
        prefix: str | None = None,
        progress: Progress = lambda _dropped: None,
    ) -> int:
        """Delete saved states, some at a time; return how many there were."""
        dropped = 0
        for partition in self._servers.firsts():
            while True:
                row = await self._servers.read(
                    partition,
                    lambda connection: connection.fetchrow(
                        self._servers.sql("drop_snapshots"), tenant, prefix, DROPPED_TOGETHER_MAX
                    ),
                )
                dropped += row[0]
                progress(dropped)
                if row[0] < DROPPED_TOGETHER_MAX:
                    break
        return dropped
