"""
What workflows keep in PostgreSQL beside their checkpoints: answers of reactions in progress, events set aside.

It stands in the database of the checkpoints, so that what a page leaves behind is written in the transaction
that moves the checkpoint.
"""

from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import asyncpg
import orjson

from command_api.workflow import Workflow
from command_api.workflow_answers import Notes
from command_api.workflow_rounds import Effects, SetAside, Take
from event_store.checkpoints import Checkpoint, Connection
from infra.sql import load_sql, storable
from schemas.envelope import CommitMark

ERROR_CHARACTERS_MAX = 2_000
Place = tuple[str, str]
"""A tenant and a workflow's key."""


class Loaded(NamedTuple):
    """What a workflow must know before it takes up a page."""

    now: datetime
    notes: Notes
    held: Set[Place]
    """Of which events are set aside."""


class Parked(NamedTuple):
    """An event that is set aside."""

    place: Place
    position: int


class WorkflowStore:
    """One workflow's rows in one partition."""

    def __init__(self, pool: "asyncpg.Pool[Any]", namespace: str, workflow: Workflow, partition: int) -> None:
        self._pool, self._partition = pool, partition
        self._workflow, self._version = workflow.name, workflow.version
        self._sql = partial(load_sql, "command_api", namespace=namespace)

    async def load(self, first: int, last: int) -> Loaded:
        """Return the database's time, and what was left behind by an earlier attempt at these positions."""
        row = await self._pool.fetchrow(
            self._sql("sql/load_page.sql"), self._partition, self._workflow, first, last
        )
        assert row is not None
        notes = {step: answer.encode() for step, answer in orjson.loads(row["answers"] or "[]")}
        held = frozenset((tenant, key) for tenant, key in orjson.loads(row["held"] or "[]"))
        return Loaded(row["now"], notes, held)

    async def note(self, answers: Sequence[tuple[int, str, bytes]]) -> None:
        """Keep what reactions are told, before they act on it."""
        positions, steps, bodies = zip(*answers, strict=True)
        await self._pool.execute(
            self._sql("sql/note_answers.sql"), self._partition, self._workflow, positions, steps, bodies
        )

    async def write(self, connection: Connection, effects: Effects, noted: Sequence[int]) -> None:
        """Write what reactions leave behind, in the connection's transaction. `noted`: events that have notes."""
        waiting = {aside.take.cause.recorded.position for aside in effects.set_aside}
        if ended := [position for position in noted if position not in waiting]:
            await connection.execute(
                self._sql("sql/forget_answers.sql"), self._partition, self._workflow, ended
            )
        if effects.set_aside:
            await self._park(connection, effects.set_aside)

    async def _park(self, connection: Connection, set_aside: Sequence[SetAside]) -> None:
        rows: dict[tuple[str, str, int], tuple[Any, ...]] = {}
        for aside in set_aside:
            event = aside.take.cause.recorded
            place = event.tenant, aside.key, event.position
            if place not in rows or aside.error is not None:
                rows[place] = (
                    *place, event.stream, event.id, event.type, event.schema_version, _words(aside.error),
                )  # fmt: skip
        await connection.execute(
            self._sql("sql/park.sql"),
            self._partition, self._workflow, *zip(*rows.values(), strict=True), self._version,
        )  # fmt: skip

    async def released(self) -> Sequence[Parked]:
        """Return the events of keys that an operator lets go on: the first of the key has no error any more."""
        rows = await self._pool.fetch(self._sql("sql/released.sql"), self._partition, self._workflow)
        return [Parked((row["tenant"], row["key"]), row["position"]) for row in rows]

    async def hold(self, connection: Connection, checkpoint: Checkpoint) -> None:
        """
        Keep the checkpoint where it is until the end of the connection's transaction.

        Raises:
            Fenced: Somebody else has moved it; the transaction must not be committed.
        """
        mark = checkpoint.mark
        held = await connection.fetchrow(
            self._sql("sql/hold_checkpoint.sql"),
            self._workflow, self._partition, mark.position, mark.hash, checkpoint.revision,
        )  # fmt: skip
        if held is None:
            raise checkpoint.fenced()

    async def unpark(self, connection: Connection, done: Sequence[Take], places: Sequence[Place]) -> None:
        """Take back that events are set aside, whose reactions have now ended."""
        positions = [take.cause.recorded.position for take in done]
        await connection.execute(
            self._sql("sql/unpark.sql"),
            self._partition,
            self._workflow,
            [place[0] for place in places],
            [place[1] for place in places],
            positions,
        )


async def open_workflows(
    pool: "asyncpg.Pool[Any]",
    namespace: str,
    workflows: Sequence[tuple[Workflow, str]],
    heads: Mapping[int, CommitMark],
) -> None:
    """Make the checkpoints of workflows, each with its domain, that have none yet; see the statement's comment."""
    await pool.execute(
        load_sql("command_api", "sql/open_workflows.sql", namespace=namespace),
        [workflow.name for workflow, _ in workflows],
        [domain for _, domain in workflows],
        [workflow.since_beginning for workflow, _ in workflows],
        list(heads),
        [mark.position for mark in heads.values()],
        [mark.hash for mark in heads.values()],
    )


async def release_mended(
    pool: "asyncpg.Pool[Any]", namespace: str, workflows: Sequence[Workflow], partition: int
) -> Sequence[str]:
    """Let keys go on that a lower version of their workflow could not react to; return of which workflows."""
    rows = await pool.fetch(
        load_sql("command_api", "sql/release_mended.sql", namespace=namespace),
        partition,
        [workflow.name for workflow in workflows],
        [workflow.version for workflow in workflows],
    )
    return [row["workflow"] for row in rows]


def _words(error: Exception | None) -> str | None:
    return None if error is None else storable(f"{type(error).__name__}: {error}")[:ERROR_CHARACTERS_MAX]
