"""
Moves a tenant to another partition under traffic: a fence where it leaves, copies, an arrival, and everybody told.

Nothing is copied that is an event (docs/decisions/0020). The fence is one transaction of the server that is left: from
then on none of its partitions takes an event of the tenant. What is needed to append elsewhere, the versions of streams
and what keys are bound to, never changes behind it, so it is copied without a lock, in chunks. The arrival is one
transaction of the other server. The tenant's home, whose word counts, is told last.

Each step finds out from the databases what is done. Killed anywhere, the same call goes on; until then the tenant is
refused. A fence or an arrival that a restore has lost is put up again, before anything else. A lock at its home keeps
two calls apart; should that be lost, each step is still done once, since constraints and placements refuse it a second
time.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import asyncpg

from event_store import failures
from event_store.codec import Batch
from event_store.connections import StoreConnection
from event_store.failures import (
    LOST,
    ClocksApart,
    TenantLivedThere,
    TenantOnItsWay,
    leaves_unknown,
    means_later,
)
from event_store.log import Answer, Append, Outcome
from event_store.move_events import arriving, leaving
from event_store.placement import Placements, home_of, move_of
from event_store.residences import Move, Residences
from event_store.servers import Server, Servers
from infra.failpoints import failpoint
from infra.telemetry import log
from schemas.envelope import BEGINNING
from schemas.errors import StoreUnavailable
from schemas.moves import stream_of

COPIED_TOGETHER = 5_000
CLOCKS_APART_SECONDS_MAX = 5.0
"""More than that a tenant would have to wait for a clock that is behind before it arrives."""
ON_ITS_WAY_BY_ANOTHER = frozenset({"23505", failures.PLACED_ELSEWHERE, failures.HAS_EVENTS})
"""Another call has taken this step meanwhile, having lost the lock: run again, this one finds it done."""


class Mover:
    """Carries out moves."""

    def __init__(self, servers: Servers, placements: Placements) -> None:
        self._servers, self._placements = servers, placements

    async def moves_of(self, tenant: str) -> Sequence[Move]:
        """
        Return the moves of a tenant, in order, as far as any server knows of them.

        Raises:
            StoreUnavailable: A server does not answer.
        """
        said: dict[int, list[Move]] = defaultdict(list)
        for first in self._servers.firsts():
            for row in await self._servers.read(
                first, lambda connection: connection.fetch(self._servers.sql("placement"), tenant)
            ):
                if row["number"] is not None:
                    said[row["number"]].append(move_of(row))
        return [await self._true_of(said[number]) for number in sorted(said)]

    async def _true_of(self, said: Sequence[Move]) -> Move:
        """Return what counts of what servers say of one move, where they differ: what is in the log."""
        move = said[0]
        if len({one.left for one in said}) > 1:
            move = next(iter([one async for one in _those(said, self.has_left)]), move)
        arrived = [one for one in said if one.arrived_position is not None]
        if len({one.arrived_position for one in arrived}) > 1:
            arrived = [one async for one in _those(arrived, self.has_arrived)] or arrived
        if not arrived:
            return move._replace(arrived_position=None, arrived_at=None)
        return move._replace(arrived_position=arrived[0].arrived_position, arrived_at=arrived[0].arrived_at)

    async def move(self, tenant: str, to: int, *, actor: str, reason: str | None) -> None:
        """Move a tenant that has events, or go on with it; see `PostgresLog.move_tenant`."""
        home = home_of(tenant, self._servers.partitions)
        try:
            async with self._servers.of(home).aside("everfold-mover") as lock, lock.transaction():
                await lock.execute(self._servers.sql("lock_tenant"), tenant)
                await self._move(tenant, home, to, actor, reason)
        except asyncpg.PostgresError as error:
            if means_later(error) or leaves_unknown(error) or error.sqlstate in ON_ITS_WAY_BY_ANOTHER:
                raise StoreUnavailable from error
            raise
        except LOST as error:
            raise StoreUnavailable from error

    async def _move(self, tenant: str, home: int, to: int, actor: str, reason: str | None) -> None:
        moves = await self._put_up_again(list(await self.moves_of(tenant)), actor, reason)
        placed = (await self._placements.ask(home, tenant)).present.partition
        lived = Residences(tenant, placed, moves)
        if lived.is_moving and moves[-1].to_partition != to:
            raise TenantOnItsWay(tenant, moves[-1].to_partition)
        if not lived.is_moving and lived.present.partition != to:
            if lived.of(to) is not None:
                raise TenantLivedThere(tenant, to)
            await self._check_clocks(lived.present.partition, to)
            moves.append(
                await self._leave(tenant, lived.present.partition, to, len(moves) + 1, actor, reason)
            )
        if not moves:
            return
        if moves[-1].arrived_position is None:
            moves[-1] = await self._take_over(moves[:-1], moves[-1], actor, reason)
        for server in self._servers.besides(home, first=to):
            for move in moves:
                await self._tell(server, move)
            failpoint("move.told")
        for move in moves:
            await self._tell(self._servers.of(home), move)
        log.info("tenant moved", tenant=tenant, from_partition=moves[-1].from_partition, to_partition=to)

    async def _put_up_again(self, moves: list[Move], actor: str, reason: str | None) -> list[Move]:
        """
        Return a tenant's moves with every fence and arrival in the log: one that a restore has lost, put up again.

        The last arrival is left to the move itself, which then is under way.
        """
        for number, move in enumerate(moves):
            if move.arrived_position is not None and not await self.has_arrived(move):
                moves[number] = move = move._replace(arrived_position=None, arrived_at=None)
            if not await self.has_left(move):
                moves[number] = move = await self._leave_again(moves[:number], move, actor, reason)
            if move.arrived_position is None and number < len(moves) - 1:
                moves[number] = await self._take_over(moves[:number], move, actor, reason)
        return moves

    async def has_left(self, move: Move) -> bool:
        """Say whether the fence that servers know of is in the log; after a restore it may not be."""
        commit = await self._commit_of(move.from_partition, move.left.position)
        return commit is not None and (commit["last_position"], commit["hash"]) == move.left

    async def has_arrived(self, move: Move) -> bool:
        """Say whether an arrival that servers know of is in the log; after a restore it may not be."""
        assert move.arrived_position is not None
        commit = await self._commit_of(move.to_partition, move.arrived_position)
        return commit is not None and commit["recorded_at"] == move.arrived_at

    async def _commit_of(self, partition: int, position: int) -> Any:
        sql = self._servers.sql("commit_of", partition)
        return await self._servers.read(
            partition, lambda connection: connection.fetchrow(sql, partition, position)
        )

    async def _take_over(self, before: Sequence[Move], move: Move, actor: str, reason: str | None) -> Move:
        """Have a tenant that has left arrive, with what it needs there."""
        home = home_of(move.tenant, self._servers.partitions)
        for server in dict.fromkeys((self._servers.of(home), self._servers.of(move.to_partition))):
            for one in (*before, move):
                await self._tell(server, one)
        failpoint("move.told_home")
        await self._copy(move)
        failpoint("move.copied")
        arrived = await self._arrive(before, move, actor, reason)
        failpoint("move.arrived")
        return arrived

    # -- the steps ----------------------------------------------------------------------------------------

    async def _check_clocks(self, left: int, to: int) -> None:
        """Refuse where the arrival would have to wait long until its server's clock shows the fence's time."""
        sql = self._servers.sql("clock")
        here, there = [
            await self._servers.read(partition, lambda connection: connection.fetchval(sql))
            for partition in (left, to)
        ]
        if (seconds := (here - there).total_seconds()) > CLOCKS_APART_SECONDS_MAX:
            raise ClocksApart(round(seconds, 3))

    async def _leave(
        self, tenant: str, left: int, to: int, number: int, actor: str, reason: str | None
    ) -> Move:
        """Put up the fence: whatever was appended before it is all that the partition has of the tenant."""
        server = self._servers.of(left)
        async with server.aside("everfold-mover") as connection:
            async with connection.transaction():
                await connection.execute(self._servers.sql("lock_partitions"))
                version = await self._version(connection, left, tenant)
                append = leaving(tenant, version, number, to, actor=actor, reason=reason)
                outcome, left_at = await self._append(connection, left, append)
                move = Move(tenant, number, left, outcome.commit, left_at, to)
                await self._note(connection, move)
                failpoint("move.before_fence")
            failpoint("move.fenced")
        server.announcer.announce(left, outcome.position)
        return move

    async def _leave_again(self, before: Sequence[Move], move: Move, actor: str, reason: str | None) -> Move:
        """
        Put up a fence that was lost: at the end of what there is, with whatever was appended since before it.

        That the tenant left when it did stays true, unless it has yet to arrive, which must come after the fence.
        """
        server, left = self._servers.of(move.from_partition), move.from_partition
        async with server.aside("everfold-mover") as connection:
            async with connection.transaction():
                await connection.execute(self._servers.sql("lock_partitions"))
                for one in before:
                    await self._note(connection, one)
                await self._stand_in(connection, move)
                version = await self._version(connection, left, move.tenant)
                append = leaving(
                    move.tenant, version, move.number, move.to_partition, actor=actor, reason=reason
                )
                outcome, left_at = await self._append(connection, left, append)
                await connection.execute(self._servers.sql("move_forget"), move.tenant, move.number)
                if move.arrived_position is not None:
                    left_at = move.left_at
                move = move._replace(left=outcome.commit, left_at=left_at)
                await self._note(connection, move)
                failpoint("move.before_fence_again")
            failpoint("move.fenced_again")
        server.announcer.announce(left, outcome.position)
        log.warning("fence put up again", tenant=move.tenant, partition=left, position=outcome.position)
        return move

    async def _stand_in(self, connection: StoreConnection, move: Move) -> None:
        """Have a tenant live where its fence is to stand, in this transaction, whatever its server was told since."""
        await connection.execute(self._servers.sql("move_forget"), move.tenant, move.number)
        if move.number == 1:
            # No move led there, and without one no placement is taken of a tenant that has events elsewhere.
            await connection.execute(
                self._servers.sql("move_stand_in"), move.tenant, move.from_partition, move.left.hash
            )
        await connection.execute(self._servers.sql("move_place_again"), move.tenant, move.from_partition)

    async def _copy(self, move: Move) -> None:
        """Bring along the versions of streams and what keys are bound to; what is there already stays."""
        async with (
            self._servers.of(move.from_partition).aside("everfold-mover") as left,
            self._servers.of(move.to_partition).aside("everfold-mover") as to,
        ):
            for what in ("streams", "keys", "moved_keys"):
                after: tuple[str, ...] = ("",) if what == "streams" else ("", "")
                while rows := await left.fetch(
                    self._servers.sql(f"move_{what}_from"),
                    move.from_partition,
                    move.tenant,
                    COPIED_TOGETHER,
                    *after,
                ):
                    columns = [list(column) for column in zip(*rows, strict=True)]
                    put = "move_streams_to" if what == "streams" else "move_keys_to"
                    await to.execute(self._servers.sql(put), move.to_partition, move.tenant, *columns)
                    after = tuple(rows[-1][: len(after)])
                    failpoint("move.copied_some")

    async def _arrive(self, before: Sequence[Move], move: Move, actor: str, reason: str | None) -> Move:
        """Have the new partition take the tenant's events, from the one on that names the fence."""
        server, to = self._servers.of(move.to_partition), move.to_partition
        async with server.aside("everfold-mover") as connection:
            while (now := await connection.fetchval(self._servers.sql("clock"))) <= move.left_at:
                await asyncio.sleep((move.left_at - now).total_seconds() + 0.001)
            async with connection.transaction():
                await connection.execute(self._servers.sql("lock_partitions"))
                head = await connection.fetchrow(self._servers.sql("head", to), to)
                position = (head["last_position"] if head else 0) + 1
                for earlier in before:
                    await self._note(connection, earlier)
                move = move._replace(arrived_position=position, arrived_at=now)
                await self._note(connection, move)
                version = await self._version(connection, to, move.tenant)
                append = arriving(move, version, actor=actor, reason=reason)
                outcome, arrived_at = await self._append(connection, to, append)
                assert outcome.position == position
                move = move._replace(arrived_at=arrived_at)
                await connection.execute(
                    self._servers.sql("move_arrived_at"), move.tenant, move.number, arrived_at
                )
                failpoint("move.before_arrival")
        server.announcer.announce(to, outcome.position)
        return move

    async def _tell(self, server: Server, move: Move) -> None:
        async with server.aside("everfold-mover") as connection, connection.transaction():
            await self._note(connection, move)

    async def _note(self, connection: StoreConnection, move: Move) -> None:
        await connection.execute(
            self._servers.sql("note_move"), move.tenant, move.number, move.from_partition, *move.left, move.left_at,
            move.to_partition, move.arrived_position, move.arrived_at,
        )  # fmt: skip
        await connection.execute(
            self._servers.sql("move_left_again"), move.tenant, move.number, *move.left, move.left_at
        )

    async def _version(self, connection: StoreConnection, partition: int, tenant: str) -> int:
        """Return the version of a tenant's stream of moves."""
        rows = await connection.fetch(
            self._servers.sql("stream_places"), partition, [tenant], [stream_of(tenant)]
        )
        return int(rows[0]["version"]) if rows else 0

    async def _append(
        self, connection: StoreConnection, partition: int, append: Append
    ) -> tuple[Outcome, Any]:
        """Append one of a move's events in its transaction; return the outcome, and when it was recorded."""
        batch = Batch([append])
        reply: Any = await connection.fetchrow(
            self._servers.sql("append_batch"), partition, 0, *BEGINNING, *batch.arguments()
        )
        (outcome,) = batch.outcomes([append], reply)
        assert outcome.answer is Answer.APPENDED
        return outcome, reply["_recorded_at"]


async def _those(moves: Sequence[Move], hold: Callable[[Move], Awaitable[bool]]) -> AsyncIterator[Move]:
    """Return of some moves those of which something holds."""
    for move in moves:
        if await hold(move):
            yield move
