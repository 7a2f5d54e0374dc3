"""
Has a restored log keep to where its tenants have gone: what one server has lost of a move, the others still know.

A server that was put back to before a tenant left it would take that tenant's events again, beside the partition that
it has gone to. So `everfold recover` carries out each move again that any server knows of, and each placement: a fence
or an arrival that is not in the log is put up again, and every server told (moving.py). Then it looks what was torn.

Where the restored server has not taken anything of the tenant since, all that is missing is what stood between the copy
and the fence: the streams concerned have a hole, as wherever the end of a log is lost, and the keys that were bound to
it are forgotten. Where it has, the tenant has two histories. Nobody can join them: that is said, and recovers nothing.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from event_store.moving import Mover
from event_store.placement import Placements, home_of
from event_store.postgres import PostgresLog
from event_store.residences import Move
from schemas.moves import arrival_of, stream_of

STREAMS_TOGETHER = 5_000
STREAMS_NAMED_MAX = 20


@dataclass
class MovesKept:
    """What was found of one tenant, and done."""

    tenant: str
    partition: int
    """Where it lives."""
    fences: dict[int, int] = field(default_factory=dict)
    """By partition, where a fence now stands that was lost."""
    arrivals: dict[int, int] = field(default_factory=dict)
    """By partition, where an arrival now stands that was lost."""
    torn: list[int] = field(default_factory=list)
    """Partitions whose fence was lost, now or before an earlier run."""
    placed: bool = False
    """Whether a server that did not know has been told where it lives."""
    keys_forgotten: int = 0
    streams_cut: int = 0
    """Streams that lack what they had when the tenant left."""
    streams_doubled: int = 0
    """Streams with two histories: the partition that the tenant had left has taken events of it again."""
    named: list[str] = field(default_factory=list)
    """Some of these streams."""

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing to be told."""
        return not (
            self.fences
            or self.arrivals
            or self.torn
            or self.placed
            or self.streams_cut
            or self.streams_doubled
        )

    def document(self) -> dict[str, Any]:
        """Return it as a report has it, which is JSON."""
        return asdict(self) | {
            "fences": {str(partition): position for partition, position in self.fences.items()},
            "arrivals": {str(partition): position for partition, position in self.arrivals.items()},
        }


class LostMoves:
    """Carries out again what a restored log has lost of its tenants' moves."""

    def __init__(self, log: PostgresLog, *, actor: str, reason: str) -> None:
        self.log, self.actor, self.reason = log, actor, reason
        self.mover = Mover(log.servers, Placements(log.servers))

    async def put_up_again(self) -> Sequence[MovesKept]:
        """
        Have every server keep to every move and placement that any of them knows of; return what there is to tell.

        Raises:
            StoreUnavailable: A server does not answer.
        """
        placed: dict[str, dict[int, int | None]] = {}
        moved: set[str] = set()
        for first in (firsts := self.log.servers.firsts()):
            for tenant, partition, has_moved in await self._known_at(first):
                placed.setdefault(tenant, dict.fromkeys(firsts))[first] = partition
                if has_moved:
                    moved.add(tenant)
        found = [
            await (
                self._keep_moves(tenant) if tenant in moved else self._keep_placement(tenant, placed[tenant])
            )
            for tenant in sorted(placed)
        ]
        return [one for one in found if not one.is_whole]

    async def _known_at(self, first: int) -> Sequence[Any]:
        servers = self.log.servers
        rows: Sequence[Any] = await servers.read(
            first, lambda connection: connection.fetch(servers.sql("known_tenants"))
        )
        return rows

    async def _keep_moves(self, tenant: str) -> MovesKept:
        """Carry out the last of a tenant's moves again, which puts up all that is lost of them."""
        before = {move.number: move for move in await self.mover.moves_of(tenant)}
        await self.log.move_tenant(
            tenant, before[max(before)].to_partition, actor=self.actor, reason=self.reason
        )
        moves = await self.mover.moves_of(tenant)
        kept = MovesKept(tenant, moves[-1].to_partition)
        for move in moves:
            assert move.arrived_position is not None
            if move.left != before[move.number].left:
                kept.fences[move.from_partition] = move.left.position
            if move.arrived_position != before[move.number].arrived_position:
                kept.arrivals[move.to_partition] = move.arrived_position
            if await self._was_lost(move):
                kept.torn.append(move.from_partition)
                await self._look_for_tears(move, kept)
                await self.log.snapshots.drop(tenant=tenant)  # they may rest on what is lost
        return kept

    async def _was_lost(self, move: Move) -> bool:
        """Say whether a fence is another one than its arrival names: it was put up again, now or by a run before."""
        assert move.arrived_position is not None
        (event,) = await self.log.read_range(move.to_partition, move.arrived_position, move.arrived_position)
        arrival = arrival_of(event)
        return arrival is not None and arrival.fence != move.left

    async def _look_for_tears(self, move: Move, kept: MovesKept) -> None:
        """Compare what a partition has of each stream with what came along from it."""
        async for stream, has, brought in self._versions(move):
            if has != brought:
                kept.streams_cut += has < brought
                kept.streams_doubled += has > brought
                if len(kept.named) < STREAMS_NAMED_MAX:
                    kept.named.append(stream)
        servers = self.log.servers
        for server in servers.all():
            async with server.aside("everfold-mover") as connection:
                rows = await connection.fetch(
                    servers.sql("forget_lost_moved_keys"),
                    move.tenant,
                    move.from_partition,
                    move.left.position,
                )
                kept.keys_forgotten += len(rows)

    async def _versions(self, move: Move) -> AsyncIterator[tuple[str, int, int]]:
        """Return each stream's version where the tenant left, and the one that came along to where it went."""
        left, to = move.from_partition, move.to_partition
        is_archived = await self.log.archived_to(to) > 0
        async for streams in self._streams(to, move.tenant):
            has = {row["stream"]: row["version"] for row in await self._places(left, move.tenant, streams)}
            for row in await self._places(to, move.tenant, streams):
                if row["first_position"] == 0 or row["stream"] in has:
                    yield (
                        row["stream"],
                        has.get(row["stream"], 0),
                        await self._brought(move, row, is_archived=is_archived),
                    )
        async for streams in self._streams(left, move.tenant):
            known = {row["stream"] for row in await self._places(to, move.tenant, streams)}
            for row in await self._places(left, move.tenant, [one for one in streams if one not in known]):
                yield row["stream"], row["version"], 0

    async def _brought(self, move: Move, row: Any, *, is_archived: bool) -> int:
        """Return the version with which a stream came along; its own events there follow it."""
        if row["first_position"] > 0:
            return 0
        first = row["first_version"]
        if is_archived:
            first = await self.log.first_version(move.to_partition, move.tenant, row["stream"])
        return int(row["version"] if first is None else first - 1)

    async def _streams(self, partition: int, tenant: str) -> AsyncIterator[Sequence[str]]:
        servers, after = self.log.servers, ""
        while True:
            arguments = (partition, tenant, STREAMS_TOGETHER, after)
            rows = await servers.read(
                partition,
                lambda connection, given=arguments: connection.fetch(  # type: ignore[misc]  # bound to this turn
                    servers.sql("move_streams_from"), *given
                ),
            )
            if not rows:
                return
            after = rows[-1][0]
            yield [row[0] for row in rows if row[0] != stream_of(tenant)]

    async def _places(self, partition: int, tenant: str, streams: Sequence[str]) -> Sequence[Any]:
        servers = self.log.servers
        rows: Sequence[Any] = await servers.read(
            partition,
            lambda connection: connection.fetch(
                servers.sql("move_versions", partition), partition, tenant, list(streams)
            ),
        )
        return rows

    # -- placements ---------------------------------------------------------------------------------------

    async def _keep_placement(self, tenant: str, said: dict[int, int | None]) -> MovesKept:
        """Tell every server of a placement that some have lost; its events, if it has any, say which one counts."""
        home = home_of(tenant, self.log.partitions)
        known = [partition for partition in said.values() if partition is not None]
        kept = MovesKept(tenant, known[0])
        if len(set(said.values())) == 1:
            return kept
        written = [place for place in sorted({*known, home}) if await self._has_streams(place, tenant)]
        if len(written) > 1:
            kept.streams_doubled = len(written)
            kept.named = [f"partition {place}" for place in written]
            return kept
        kept.partition = written[0] if written else known[0]
        await self.log.place_tenant(tenant, kept.partition)
        kept.placed = True
        return kept

    async def _has_streams(self, partition: int, tenant: str) -> bool:
        async for streams in self._streams(partition, tenant):
            return bool(streams)
        return False


def refusals(kept: Sequence[MovesKept]) -> Sequence[str]:
    """Return of which tenants there are two histories, and what to do, in words."""
    return [
        f"tenant {one.tenant} has two histories: it lives in partition {one.partition}, and another one has taken "
        f"events of it again since the restore ({', '.join(one.named)}). Restore that server once more from the same "
        "copy, and recover before anything is served"
        for one in kept
        if one.streams_doubled
    ]
