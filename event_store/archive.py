"""
Moves old events to the archive, a whole range of positions at a time, and takes their tables away.

The steps of a range, each of which may be the last before a kill; the next run goes on where this one ended:

1. copy: read its events in order and put them, their places by stream and a manifest into the archive;
2. check: read all of it back; hashes, and the chain of commits recomputed from it, must be the database's;
3. publish: one transaction records the range, and from then on readers take it from the archive;
4. wait until no statement runs that began before that, so that none misses the table;
5. detach the table, without keeping appends waiting; 6. drop it, and record that.

A range that was published in an earlier run is checked again before its table goes. Each copy has a folder of its
own, so nothing that is published is ever written over, also by somebody who was believed dead; a copy that was cut
short is made anew, and its folder is waste. Only a range that is full, the partition's oldest, and older than anybody
may still ask the outcome of its appends is taken.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from event_store.archive_copy import Candidate, Progress, check_range, copy_range, table_of
from event_store.archive_format import Manifest
from event_store.archive_reading import ArchivedRange
from event_store.connections import StoreConnection, connect
from event_store.failures import LOCK_NOT_AVAILABLE
from event_store.object_store import ObjectStore
from event_store.postgres import PostgresLog
from infra.failpoints import failpoint
from infra.sql import load_sql
from schemas.errors import Rejection, StoreUnavailable

RANGES_LISTED_MAX = 1_000
AGE_MIN = timedelta(hours=1)
"""An append whose outcome is unknown is looked for in the tables; this is far beyond any attempt to settle it."""
LOCK_WAIT_SECONDS_MAX = 2
UNAWARE_SECONDS_MAX = 600.0
POLL_SECONDS = 0.1
DETACH_ATTEMPTS_MAX = 20
DETACH_PAUSE_SECONDS = 0.5


@dataclass(eq=False)
class BeingArchived(Rejection):
    """Another process is archiving this partition."""

    partition: int


@dataclass(eq=False)
class StillRead(StoreUnavailable):
    """Statements that began before the range was published are still running; run the archiving again later."""

    partition: int = 0
    range: int = 0


@dataclass(frozen=True, slots=True)
class Archived:
    """A range that is in the archive alone."""

    partition: int
    range: int
    first_position: int
    last_position: int
    octets: int
    stored_octets: int


@dataclass(frozen=True, slots=True)
class Policy:
    """Which ranges are old enough."""

    older_than: timedelta | None = None
    """Their last event was recorded so long ago."""
    keep: int | None = None
    """So many of the newest positions of each partition stay in the database."""
    age_min: timedelta = AGE_MIN

    def takes(self, candidate: Candidate, now: datetime) -> bool:
        """Say whether a range is to be archived."""
        age = now - candidate.recorded_at
        return (
            age >= max(self.age_min, self.older_than or timedelta())
            and candidate.positions_after >= (self.keep or 0)
            and (self.older_than is not None or self.keep is not None)
        )


class Archiver:
    """Archives ranges of a log's partitions."""

    def __init__(
        self,
        log: PostgresLog,
        store: ObjectStore,
        *,
        url_of: Callable[[int], str],
        namespace: str,
        progress: Progress = lambda _partition, _range, _position: None,
    ) -> None:
        """Make an archiver; `url_of` tells where a partition is."""
        self._log = log
        self._store = store
        self._url_of = url_of
        self._namespace = namespace
        self._progress = progress

    async def candidates(self, partition: int, policy: Policy) -> Sequence[Candidate]:
        """Return the ranges of a partition that a run would archive now, in order."""
        async with self._connected(partition) as connection:
            return await self._candidates(connection, partition, policy)

    async def run(
        self, partition: int, policy: Policy, *, actor: str, reason: str | None = None
    ) -> AsyncGenerator[Archived, None]:
        """
        Finish what an earlier run has begun in a partition, then archive what is old enough; tell each range done.

        Raises:
            BeingArchived: Another process does it already.
            ArchiveUnavailable: The archive cannot be reached; everything is still read where it was.
            ArchiveDamaged: What was read back is not what was put there; nothing was dropped.
            StillRead: A statement has been running for very long.
            StoreUnavailable: The database does not answer, or somebody holds what must be changed.
        """
        async with self._connected(partition) as connection, self._alone(connection, partition):
            for row in await connection.fetch(self._sql("archive_unfinished"), partition):
                part = ArchivedRange(*row)
                manifest = await check_range(self._log, self._store, partition, part)
                yield await self._take_away(connection, manifest)
            while candidates := await self._candidates(connection, partition, policy):
                for candidate in candidates:
                    manifest, part = await copy_range(
                        self._log, self._store, connection, self._namespace, candidate, self._progress
                    )
                    failpoint("archive.copied")
                    await check_range(self._log, self._store, partition, part)
                    failpoint("archive.checked")
                    await self._publish(connection, manifest, part, actor, reason)
                    failpoint("archive.published")
                    yield await self._take_away(connection, manifest)

    async def _candidates(
        self, connection: StoreConnection, partition: int, policy: Policy
    ) -> Sequence[Candidate]:
        rows = await connection.fetch(self._sql("archive_candidates"), partition, RANGES_LISTED_MAX)
        now = datetime.now(UTC)
        found: list[Candidate] = []
        for row in rows:
            candidate = Candidate(partition, *row)
            if not policy.takes(candidate, now):
                break
            found.append(candidate)
        return found

    # -- publish and take away ----------------------------------------------------------------------------

    async def _publish(
        self,
        connection: StoreConnection,
        manifest: Manifest,
        part: ArchivedRange,
        actor: str,
        reason: str | None,
    ) -> None:
        await connection.execute(
            self._sql("archive_publish"), manifest.partition, part.range, part.first_position, part.last_position,
            manifest.octets, _stored_octets(manifest), part.manifest, part.manifest_sha256, actor, reason,
        )  # fmt: skip

    async def _take_away(self, connection: StoreConnection, manifest: Manifest) -> Archived:
        partition, number = manifest.partition, manifest.range
        table = f"{self._namespace}.{table_of(partition, number)}"
        await self._wait_for_the_unaware(connection, partition, number)
        await self._detach(connection, partition, table)
        failpoint("archive.detached")
        async with connection.transaction():
            await connection.execute(f"DROP TABLE IF EXISTS {table}")
            await connection.execute(self._sql("archive_done"), partition, number, True, True)
        failpoint("archive.dropped")
        return Archived(
            partition, number, manifest.first_position, manifest.last_position, manifest.octets,
            _stored_octets(manifest),
        )  # fmt: skip

    async def _wait_for_the_unaware(self, connection: StoreConnection, partition: int, number: int) -> None:
        """Wait until every statement that runs has begun after the range was published."""
        barrier = await connection.fetchval("SELECT pg_current_xact_id()::text")
        deadline = asyncio.get_running_loop().time() + UNAWARE_SECONDS_MAX
        while await connection.fetchval(self._sql("archive_unaware"), barrier):
            if asyncio.get_running_loop().time() > deadline:
                raise StillRead(partition, number)
            await asyncio.sleep(POLL_SECONDS)

    async def _detach(self, connection: StoreConnection, partition: int, table: str) -> None:
        """Take a table out of the log; appends and reads go on meanwhile."""
        parent = f"{self._namespace}.events_p{partition}"
        await connection.execute(f"SET lock_timeout = '{LOCK_WAIT_SECONDS_MAX}s'")
        for attempt in range(1, DETACH_ATTEMPTS_MAX + 1):
            row = await connection.fetchrow(self._sql("archive_table"), table)
            assert row is not None
            if not row["is_attached"]:
                return
            manner = "FINALIZE" if row["is_pending"] else "CONCURRENTLY"
            try:
                await connection.execute(f"ALTER TABLE {parent} DETACH PARTITION {table} {manner}")
            except asyncpg.PostgresError as error:
                if error.sqlstate != LOCK_NOT_AVAILABLE:
                    raise
                if attempt == DETACH_ATTEMPTS_MAX:
                    raise StoreUnavailable from error
                await asyncio.sleep(DETACH_PAUSE_SECONDS)

    # -- connections --------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _connected(self, partition: int) -> AsyncIterator[StoreConnection]:
        """Keep a connection of one's own: what changes tables needs a session, and may take long."""
        connection = await connect(self._url_of(partition), name="everfold-archive")
        try:
            yield connection
        finally:
            connection.terminate()

    @asynccontextmanager
    async def _alone(self, connection: StoreConnection, partition: int) -> AsyncIterator[None]:
        """Keep other archivers from this partition for as long as the connection lasts."""
        lock = "SELECT pg_try_advisory_lock(hashtextextended($1, $2))"
        if not await connection.fetchval(lock, f"{self._namespace}/archive", partition):
            raise BeingArchived(partition)
        yield

    def _sql(self, name: str, **names: str) -> str:
        return load_sql("event_store", f"sql/queries/{name}.sql", namespace=self._namespace, **names)


def _stored_octets(manifest: Manifest) -> int:
    return sum(stored.octets for stored in manifest.objects)
