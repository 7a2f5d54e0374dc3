"""
Messages to the outside world as they stand in PostgreSQL: written with the checkpoint, taken up, ended.

A message is written once, in the transaction that moves its workflow's checkpoint, and is sent at least once: who
sends it may die before it has noted the answer. Its id is derived from the event, the workflow and the step, so every
attempt bears the same one, and a receiver that keeps the ids it has seen for some days has the effect once. Nothing
else writes messages, so a replay of projections sends none. Taking one up is committed to disk before it is sent, and
with it all that was written before: a server that crashes forgets no message that has left.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import asyncpg
import orjson

from command_api.workflow_rounds import Message
from event_store.checkpoints import Connection
from infra.sql import load_sql
from schemas.messages import format_instant

MESSAGE_NAMES = UUID("0c3f3ad1-9d5c-5f0e-8f0e-6d1b7c0a5e11")
"""The space of names in which messages' ids are derived; with another one they would all change."""
ERROR_CHARACTERS_MAX = 500
FORGET_MAX = 5_000
"""Messages taken away at a time."""
KEPT = {"delivered": timedelta(days=7), "unrouted": timedelta(days=30)}
"""How long ended messages are kept. Dead ones stay until an operator decides."""


class Outgoing(NamedTuple):
    """A message that was taken up for an attempt."""

    id: str
    tenant: str
    workflow: str
    channel: str
    type: str
    summary: str
    body: bytes
    created_at: datetime
    attempts: int
    """This one included."""
    traceparent: str | None


class Free(NamedTuple):
    """How much a route can take up now."""

    channel: str
    tenant: str | None
    """None: the tenants that have no route of their own in this channel."""
    places: int
    seconds: float
    """How long an attempt may take."""


def message_id(workflow: str, step: str) -> str:
    """Return the id of what a workflow tells at a step: the same whenever its reaction runs again."""
    return f"msg_{uuid5(MESSAGE_NAMES, f'{workflow}/{step}').hex}"


async def write_messages(
    connection: Connection, namespace: str, partition: int, workflow: str, messages: Sequence[Message]
) -> None:
    """Write what reactions tell, in the connection's transaction."""
    rows = [_row(workflow, message) for message in messages]
    await connection.execute(
        load_sql("command_api", "sql/tell.sql", namespace=namespace),
        partition, workflow, *zip(*rows, strict=True),
    )  # fmt: skip


def _row(workflow: str, message: Message) -> tuple[Any, ...]:
    notice, (recorded, metadata, _) = message.notice, message.cause
    body = orjson.dumps(
        {
            "type": notice.type,
            "timestamp": format_instant(recorded.recorded_at),
            "tenant": recorded.tenant,
            "data": orjson.Fragment(notice.model_dump_json()),
        }
    )
    return (
        message_id(workflow, message.cause.step_key(message.number)), recorded.tenant, notice.channel,
        notice.type, notice.summary(), body, recorded.stream, recorded.position, recorded.id,
        metadata.correlation_id, metadata.traceparent,
    )  # fmt: skip


class OutgoingMessages:
    """The messages of all workflows, in any partition: who takes one up is decided by its row."""

    def __init__(self, pool: "asyncpg.Pool[Any]", namespace: str) -> None:
        self._pool = pool
        self._sql = partial(load_sql, "command_api", namespace=namespace)

    async def claim(self, free: Sequence[Free]) -> Sequence[tuple[int, Outgoing]]:
        """Take up messages for all routes that there are; return each with its route's number."""
        rows = await self._pool.fetch(
            self._sql("sql/claim_messages.sql"),
            [route.channel for route in free],
            [route.tenant for route in free],
            [route.places for route in free],
            [timedelta(seconds=route.seconds) for route in free],
        )
        return [(number, Outgoing(*message)) for number, *message in rows]

    async def end(self, message: Outgoing, state: str, error: str | None = None) -> None:
        """Note that a message was delivered or given up."""
        await self._pool.execute(
            self._sql("sql/end_message.sql"), message.id, state, message.attempts, _words(error)
        )

    async def postpone(self, message: Outgoing, error: str, seconds: float) -> None:
        """Have a message tried again later."""
        await self._pool.execute(
            self._sql("sql/postpone_message.sql"),
            message.id, message.attempts, _words(error), timedelta(seconds=seconds),
        )  # fmt: skip

    async def forget_old(self) -> int:
        """Take away some of the messages that ended long ago; return how many."""
        forgotten = 0
        for state, kept in KEPT.items():
            done = await self._pool.execute(self._sql("sql/forget_messages.sql"), state, kept, FORGET_MAX)
            forgotten += int(done.split()[-1])
        return forgotten

    async def counts(self) -> Mapping[tuple[str, str], int]:
        """Return by channel and state how many messages are not delivered."""
        rows = await self._pool.fetch(self._sql("sql/count_messages.sql"))
        return {(row["channel"], row["state"]): row["messages"] for row in rows}


def _words(error: str | None) -> str | None:
    return None if error is None else error[:ERROR_CHARACTERS_MAX]
