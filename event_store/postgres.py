"""
The log on PostgreSQL.

What must hold is in the functions under `sql/functions`; this module takes calls there and back, and draws the line
between *nothing happened* and *nobody knows*: an error that the server reports means that the transaction was
undone; anything else that comes between sending an append and reading its reply leaves its outcome unknown, a
cancelled wait for a standby (which PostgreSQL calls success, with a warning) too. Each append call has a number, and
`settle` forbids the numbers of lost calls before it looks, so "it was not appended" stays true.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from event_store import failures
from event_store.codec import Batch, mark_of
from event_store.connections import STATEMENTS_CACHED_MAX
from event_store.failures import (
    LOST,
    PartitionNotHere,
    StoreNotMigrated,
    TenantHasEvents,
    leaves_unknown,
    means_later,
)
from event_store.log import Answer, Append, Outcome, Snapshot
from event_store.moving import Mover
from event_store.object_store import ObjectStore
from event_store.old_keys import drop_old_keys
from event_store.placement import home_of
from event_store.postgres_reading import PostgresReading
from event_store.residences import Residences
from event_store.servers import CALL_SECONDS_MAX, OF_ACCOUNT, LogRoles
from event_store.snapshots import Snapshots
from infra.failpoints import failpoint
from schemas.envelope import BEGINNING, CommitMark
from schemas.errors import EpochChanged, OutcomeUnknown, StoreUnavailable, TenantMoving

LOST_CALLS_MAX = 1_000
FILLED_EVENTS_MAX = 65_536
"""How many events are looked at in one transaction that notes where types and tenants occur."""


class PostgresLog(PostgresReading):
    """The log, on one or several PostgreSQL servers. Keeps `event_store.log.EventLog`."""

    def __init__(
        self,
        store_urls: Mapping[range, str],
        namespace: str = "everfold",
        *,
        archive: ObjectStore | None = None,
        statements_cached_max: int = STATEMENTS_CACHED_MAX,
        roles: LogRoles = OF_ACCOUNT,
    ) -> None:
        """Make a log that connects when it is first used; see `PostgresReading`."""
        super().__init__(
            store_urls, namespace, archive=archive, statements_cached_max=statements_cached_max, roles=roles
        )
        self._lost: dict[int, list[int]] = defaultdict(list)
        self.snapshots = Snapshots(self._servers)

    async def append_batch(
        self, partition: int, appends: Sequence[Append], *, known: CommitMark | None = None
    ) -> Sequence[Outcome]:
        """Carry out independent appends in order, in one commit; see `EventLog.append_batch`."""
        if not appends:
            return ()
        past = await self._past.answers(partition, appends)
        if past is None:
            return await self._append_batch(partition, appends, known)
        return past.answers(appends, await self._append_batch(partition, past.barred(appends), known))

    async def _append_batch(
        self, partition: int, appends: Sequence[Append], known: CommitMark | None
    ) -> Sequence[Outcome]:
        batch = Batch(appends)
        server, call = self._servers.of(partition), random.getrandbits(63)
        position, hash_ = known or BEGINNING
        arguments = (partition, call, position, hash_, *batch.arguments())
        is_lost = False
        try:
            async with server.writers.borrow() as connection:
                failpoint("append.before_send")
                is_lost = True
                async with asyncio.timeout(CALL_SECONDS_MAX):
                    reply: Any = await connection.fetchrow(self._servers.sql("append_batch"), *arguments)
                failpoint("append.after_reply")
                if connection.warned:
                    raise OutcomeUnknown
                is_lost = False
        except asyncpg.PostgresError as error:
            is_lost = leaves_unknown(error)
            if error.sqlstate == failures.NO_RANGE:
                await self._make_ranges(partition)
            raise self._append_error(error, partition, position) from error
        except LOST as error:
            raise OutcomeUnknown from error
        finally:
            if is_lost:
                self._remember_lost(partition, call)
        if reply["_last"] > reply["_base"]:
            server.announcer.announce(partition, reply["_last"])
        return batch.outcomes(appends, reply)

    async def settle(self, partition: int, append: Append) -> Outcome | None:
        """Say what became of an append whose outcome is unknown; see `EventLog.settle`."""
        failpoint("append.before_settle")
        calls = list(self._lost[partition])
        key = append.key
        event_stream, event_version, event_id = _first_event(append)
        try:
            async with (
                self._servers.of(partition).writers.borrow() as connection,
                asyncio.timeout(CALL_SECONDS_MAX),
            ):
                row = await connection.fetchrow(
                    self._servers.sql("settle"), partition, calls, append.tenant, append.stream, key and key.subject,
                    key and key.key, event_stream, event_version, event_id, len(append.events),
                )  # fmt: skip
                if connection.warned:
                    raise OutcomeUnknown
        except (asyncpg.PostgresError, *LOST) as error:
            raise StoreUnavailable from error
        failpoint("append.after_settle")
        self._lost[partition] = [call for call in self._lost[partition] if call not in calls]
        if row is None:
            return None
        answer = Answer.APPENDED if row["own"] else Answer.DUPLICATE
        if key is not None and row["fingerprint"] not in (None, key.fingerprint):
            answer = Answer.REUSED
        commit = mark_of(row["commit_position"], row["commit_hash"])
        return Outcome(answer, row["position"], row["events"], commit, row["stream"], row["version"])

    async def place_tenant(self, tenant: str, partition: int) -> None:
        """
        Have a tenant without events live in a partition of choice.

        Each server is told, first the one where the tenant lives now, which from then on takes no events of it; last
        the one where placements are looked up, whose word counts. Cut short, it is run again.

        Raises:
            TenantHasEvents: It has events elsewhere already.
            PartitionNotHere: The log has no such partition.
            StoreUnavailable: A server does not answer.
        """
        self._servers.of(partition)
        home, place = home_of(tenant, self.partitions), self._servers.sql("place_tenant")
        try:
            async with self._servers.of(home).aside("everfold-mover") as connection, connection.transaction():
                # Two placements of a tenant at once would each take the other's partition for the one to leave.
                await connection.execute(self._servers.sql("lock_tenant"), tenant)
                rows = await connection.fetch(self._servers.sql("placement"), tenant)
                first = home if rows[0]["partition"] is None else rows[0]["partition"]
                if first < 0 or rows[0]["number"] is not None:
                    raise TenantHasEvents(tenant)
                for server in self._servers.besides(home, first=first):
                    async with server.aside("everfold-mover") as other:
                        await other.execute(place, tenant, partition)
                await connection.execute(place, tenant, partition)
        except asyncpg.PostgresError as error:
            if error.sqlstate == failures.HAS_EVENTS:
                raise TenantHasEvents(tenant) from error
            if means_later(error) or leaves_unknown(error):
                raise StoreUnavailable from error
            raise
        except LOST as error:
            raise StoreUnavailable from error
        self._placements.forget(tenant)

    async def move_tenant(
        self, tenant: str, partition: int, *, actor: str = "operator", reason: str | None = None
    ) -> Residences:
        """
        Move a tenant to another partition, and return where it has lived; cut short, it is run again.

        One without events is placed there. Done already, every server is told anew.

        Raises:
            PartitionNotHere: The log has no such partition.
            TenantLivedThere: It has been there before, and left.
            TenantOnItsWay: Another move of it has not ended.
            ClocksApart: The clocks of the two servers differ by too much.
            StoreUnavailable: A server does not answer; the tenant may be on its way.
        """
        self._servers.of(partition)
        mover = Mover(self._servers, self._placements)
        if not await mover.moves_of(tenant):
            with suppress(TenantHasEvents):
                await self.place_tenant(tenant, partition)
                return await self.residences_of(tenant)
        await mover.move(tenant, partition, actor=actor, reason=reason)
        self._placements.forget(tenant)
        return await self.residences_of(tenant)

    async def keep_house(self, partition: int, *, keys_kept: timedelta) -> None:
        """Make the tables that a partition will need next, drop keys that are old enough, note where what occurs."""
        await self._make_ranges(partition)
        await self._servers.read(
            partition,
            lambda connection: drop_old_keys(connection, self._servers.namespace, partition, keys_kept),
            keeps_house=True,
        )

        while await self.fill_occurrences(partition):
            pass

    async def fill_occurrences(self, partition: int) -> int:
        """Note where types and tenants occur in the next stretch of the log; return how many events were looked at."""
        row = await self._servers.read(
            partition,
            lambda connection: connection.fetchrow(
                self._servers.sql("fill_occurrences"), partition, FILLED_EVENTS_MAX
            ),
            keeps_house=True,
        )
        return int(row[0])

    async def save_states(self, partition: int, snapshots: Sequence[Snapshot]) -> int:
        """Keep states of streams, each in place of an older one of the same shape; see `EventLog.save_states`."""
        if not snapshots:
            return 0
        columns = zip(*(
            (one.tenant, one.stream, one.shape, one.decider_version, one.version, *one.commit, one.state)
            for one in sorted(snapshots)
        ), strict=True)  # fmt: skip
        arguments = [list(column) for column in columns]
        row = await self._servers.read(
            partition,
            lambda connection: connection.fetchrow(self._servers.sql("save_states"), partition, *arguments),
        )
        return int(row[0])

    async def forget_states(self, tenant: str, streams: Sequence[str]) -> int:
        """Delete the saved states of streams, and never keep one of them again; see `EventLog.forget_states`."""
        lived = await self._placements.ask(home_of(tenant, self.partitions), tenant)
        forgotten = 0
        for one in lived:
            forgotten += await self._forget_states(one.partition, tenant, streams)
        return forgotten

    async def _forget_states(self, partition: int, tenant: str, streams: Sequence[str]) -> int:
        row = await self._servers.read(
            partition,
            lambda connection: connection.fetchrow(
                self._servers.sql("forget_states"), partition, tenant, list(streams)
            ),
        )
        return int(row[0])

    async def _make_ranges(self, partition: int) -> None:
        await self._servers.read(
            partition,
            lambda connection: connection.execute(self._servers.sql("ensure_ranges"), partition),
            keeps_house=True,
        )

    def _remember_lost(self, partition: int, call: int) -> None:
        lost = self._lost[partition]
        lost.append(call)
        del lost[:-LOST_CALLS_MAX]

    def _append_error(self, error: asyncpg.PostgresError, partition: int, position: int) -> Exception:
        """Return what an error of the server means for the caller of an append."""
        if leaves_unknown(error):
            return OutcomeUnknown()
        match error.sqlstate:
            case failures.EPOCH_CHANGED:
                return EpochChanged(partition, position)
            case failures.NOT_HERE:
                return PartitionNotHere(f"partition {partition}", "is not on the server that is to have it")
            case failures.PLACED_ELSEWHERE:
                self._placements.forget()
                return TenantMoving()
        if error.sqlstate in failures.NOT_MIGRATED:
            return StoreNotMigrated()
        return StoreUnavailable() if means_later(error) else error


def _first_event(append: Append) -> tuple[str | None, int | None, UUID | None]:
    """Return the stream, the version and the id that the first event of an append has, if it was appended."""
    if not append.events:
        return None, None, None
    first = append.events[0]
    expected = next((check.expected for check in append.checks if check.stream == first.stream), -1)
    return first.stream, expected + 1 if expected >= 0 else None, UUID(first.id)
