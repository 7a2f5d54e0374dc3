"""
How far each consumer is in each partition, and the rule that only who knows the checkpoint may move it.

A checkpoint moves in one transaction with what it is the checkpoint of, and only from the value that its mover
believes it to have: a process that lost its lease without noticing writes nothing.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import asyncpg

from event_store.residences import Residences
from event_store.waits import tag_of
from infra.sql import load_sql
from schemas.envelope import BEGINNING, CommitMark
from schemas.errors import ServiceError
from schemas.moves import Arrival

FENCED_SQLSTATE = "EF001"
Connection = Any
"""An asyncpg connection, from a pool or not."""
ResidencesOf = Callable[[str], Awaitable[Residences]]
"""Tells where a tenant lives and has lived."""


@dataclass(eq=False)
class Fenced(ServiceError):
    """Somebody else has moved the checkpoint; nothing was written, and what was remembered is void."""

    consumer: str
    partition: int
    position: int


@dataclass(slots=True)
class Checkpoint:
    """One consumer's place in one partition, as its holder believes it to be."""

    kind: str
    consumer: str
    partition: int
    generation: int = 0
    mark: CommitMark = BEGINNING
    revision: int = 0

    def fenced(self) -> Fenced:
        """Return the error that says that it is not there any more."""
        return Fenced(self.consumer, self.partition, self.mark.position)


class Checkpoints:
    """Reads and moves checkpoints."""

    def __init__(
        self, pool: "asyncpg.Pool[Any]", namespace: str, residences_of: ResidencesOf | None = None
    ) -> None:
        """`residences_of` is the log's; who follows no tenants that move can do without it."""
        self.pool = pool
        self.namespace = namespace
        self._residences_of = residences_of
        self._sql = partial(load_sql, "event_store", namespace=namespace)
        self.advance_call = f"{namespace}.advance_checkpoint_v1"

    async def open(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Bring checkpoints of one kind and partition up to what the database says; new ones start at the beginning."""
        if not checkpoints:
            return
        rows = await self.pool.fetch(
            self._sql("sql/queries/open_checkpoints.sql"),
            checkpoints[0].kind,
            [checkpoint.consumer for checkpoint in checkpoints],
            [checkpoint.generation for checkpoint in checkpoints],
            checkpoints[0].partition,
        )
        found = {(row["consumer"], row["generation"]): row for row in rows}
        for checkpoint in checkpoints:
            row = found[checkpoint.consumer, checkpoint.generation]
            checkpoint.mark = CommitMark(row["position"], row["commit_hash"])
            checkpoint.revision = row["revision"]

    async def fence_of(self, arrival: Arrival) -> int:
        """
        Return where a tenant left the partition that it arrives from: mostly what the arrival itself says.

        A fence that was lost in a restore stands elsewhere since it was put up again, and the log knows where.
        """
        if self._residences_of is None:
            return arrival.fence.position
        stay = (await self._residences_of(arrival.tenant)).of(arrival.from_partition)
        return stay.last_position if stay and stay.last_position else arrival.fence.position

    async def has_passed(self, checkpoint: Checkpoint, partition: int, position: int) -> bool:
        """Say whether the consumer of a checkpoint has taken another partition up to a position."""
        reached = await self.pool.fetchval(
            self._sql("sql/queries/reached.sql"),
            checkpoint.kind,
            checkpoint.consumer,
            checkpoint.generation,
            partition,
        )
        return (reached or 0) >= position

    async def advance(
        self, connection: Connection, checkpoint: Checkpoint, to: CommitMark, recorded_at: datetime | None
    ) -> None:
        """
        Move one checkpoint in the connection's transaction. The caller sets `mark` once that is committed.

        Raises:
            Fenced: It is not where it was believed to be; the transaction must not be committed.
        """
        try:
            tag = tag_of(checkpoint.consumer, checkpoint.generation)
            await connection.execute(
                f"{tag} SELECT {self.advance_call}($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                *self.advance_arguments(checkpoint, to, recorded_at),
            )
        except asyncpg.PostgresError as error:
            if error.sqlstate == FENCED_SQLSTATE:
                raise checkpoint.fenced() from error
            raise

    @staticmethod
    def advance_arguments(
        checkpoint: Checkpoint, to: CommitMark, recorded_at: datetime | None
    ) -> tuple[Any, ...]:
        """Return the arguments of `advance_checkpoint_v1`, in order."""
        mark = checkpoint.mark
        return (
            checkpoint.kind, checkpoint.consumer, checkpoint.generation, checkpoint.partition,
            mark.position, mark.hash, checkpoint.revision,
            to.position, to.hash, recorded_at,
        )  # fmt: skip

    async def advance_idle(
        self, checkpoints: Sequence[Checkpoint], to: CommitMark, recorded_at: datetime | None
    ) -> list[Checkpoint]:
        """Move the checkpoints of consumers that had nothing to do; return those that did not move."""
        first = checkpoints[0]
        rows = await self.pool.fetch(
            self._sql("sql/queries/advance_idle.sql"),
            first.kind,
            [checkpoint.consumer for checkpoint in checkpoints],
            [checkpoint.generation for checkpoint in checkpoints],
            first.partition,
            [checkpoint.mark.position for checkpoint in checkpoints],
            [checkpoint.mark.hash for checkpoint in checkpoints],
            [checkpoint.revision for checkpoint in checkpoints],
            to.position,
            to.hash,
            recorded_at,
        )
        moved = {(row["consumer"], row["generation"]) for row in rows}
        left = []
        for checkpoint in checkpoints:
            if (checkpoint.consumer, checkpoint.generation) in moved:
                checkpoint.mark = to
            else:
                left.append(checkpoint)
        return left

    async def note_waiting(self, checkpoint: Checkpoint, reason: str) -> None:
        """Say why a consumer stands still; moving on takes it back."""
        await self.pool.execute(
            self._sql("sql/queries/note_waiting.sql"),
            checkpoint.kind,
            checkpoint.consumer,
            checkpoint.generation,
            checkpoint.partition,
            reason,
        )
