"""
An archive for tests, and a log that moves everything it can to it after every append.

    python -m tests.archives URL FOLDER       archives what is full in partition 0, as a process that may be killed
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any

from event_store.archive import Archived, Archiver, Policy
from event_store.connections import connect
from event_store.log import Append, Outcome
from event_store.object_store import DirectoryStore, ObjectStore
from event_store.postgres import PostgresLog
from event_store.servers import OF_ACCOUNT, LogRoles
from schemas.envelope import CommitMark
from tests.services import NAMESPACE, PARTITIONS, SMALL_RANGE_EVENTS

RANGES_ARCHIVED = 6
"""How many ranges of a partition `ArchivingLog` archives at most: enough to cross their border in every way."""
EVERYTHING = Policy(keep=0, age_min=timedelta())


def archiver_of(log: PostgresLog, store: ObjectStore, url: str, **more: Any) -> Archiver:
    """Return an archiver of a log on one server."""
    return Archiver(log, store, url_of=lambda _partition: url, namespace=NAMESPACE, **more)


async def archive(
    log: PostgresLog, store: ObjectStore, url: str, partition: int = 0, policy: Policy = EVERYTHING
) -> list[Archived]:
    """Archive what a policy takes of a partition, and return what that was."""
    archiver = archiver_of(log, store, url)
    async with aclosing(archiver.run(partition, policy, actor="test", reason="tests")) as done:
        return [archived async for archived in done]


class ArchivingLog(PostgresLog):
    """A log on one server whose first few ranges go to the archive as soon as they are full."""

    def __init__(self, store_urls: Mapping[range, str], folder: Path, roles: LogRoles = OF_ACCOUNT) -> None:
        self.store = DirectoryStore(folder)
        self.url = next(iter(store_urls.values()))
        super().__init__(store_urls, NAMESPACE, archive=self.store, roles=roles)
        self._keeping = asyncio.Lock()
        self._full: dict[int, int] = {}

    async def append_batch(
        self, partition: int, appends: Sequence[Append], *, known: CommitMark | None = None
    ) -> Sequence[Outcome]:
        """Append, and archive what is full now."""
        async with self._keeping:
            if partition not in self._full:
                await make_ranges(self.url, partition)
                self._full[partition] = 0
        outcomes = await super().append_batch(partition, appends, known=known)
        head = max((outcome.position for outcome in outcomes), default=0)
        full = min(head // SMALL_RANGE_EVENTS, RANGES_ARCHIVED)
        async with self._keeping:
            if full > self._full[partition]:
                self._full[partition] = full
                kept = max(0, head - (RANGES_ARCHIVED * SMALL_RANGE_EVENTS - 1))
                await archive(self, self.store, self.url, partition, Policy(keep=kept, age_min=timedelta()))
        return outcomes


async def make_ranges(url: str, partition: int) -> None:
    """Make the tables of the ranges that are to be archived, and one for all that comes after them."""
    bounds = [(number, number + 1) for number in range(2, RANGES_ARCHIVED)]
    connection = await connect(url)
    try:
        for number, end in [*bounds, (RANGES_ARCHIVED, 1_000_000)]:
            table = f"everfold.events_p{partition}_r{number}"
            await connection.execute(
                f"CREATE TABLE {table} (LIKE everfold.events INCLUDING ALL);"
                f"CREATE UNIQUE INDEX ON {table} (stream, tenant, version);"
                f"SELECT everfold.guard_v1('{table}'::regclass), everfold.guard_tenants_v1('{table}'::regclass);"
                f"ALTER TABLE everfold.events_p{partition} ATTACH PARTITION {table}"
                f" FOR VALUES FROM ({number * SMALL_RANGE_EVENTS}) TO ({end * SMALL_RANGE_EVENTS})"
            )
    finally:
        connection.terminate()


async def main(url: str, folder: str) -> None:
    """Archive what is full in partition 0."""
    store = DirectoryStore(Path(folder))
    async with PostgresLog({range(PARTITIONS): url}, NAMESPACE, archive=store) as log:
        await archive(log, store, url)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
