"""
Commands to be sent later: late rather than early, once.

Times are the database's, so a clock that is set forward or back does no harm. A timer is written in the
transaction that moves its workflow's checkpoint, and its command has a key of its own, so a crash between sending
and forgetting it sends the same command again and gets the first answer. It is fired by whoever holds the
partition, and not before the workflow has taken up everything that was recorded before the timer's time: what a
backlog of ours holds back may be the very event that would have forgotten it. When that is, `timekeeper.py` knows.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import asyncpg

from command_api.requests import Answer, CommandRequest
from command_api.sealed_commands import Scheduled, SealedCommands
from command_api.workflow import Workflow
from command_api.workflow_carrier import Sender
from command_api.workflow_rounds import Timer
from command_api.workflow_steps import in_calls, is_told, request_of
from event_store.checkpoints import Connection
from infra.failpoints import failpoint
from infra.sql import load_sql, storable
from infra.telemetry import Counter, log
from schemas import Command
from schemas.errors import BadDefinition, ServiceError
from schemas.registry import Registry

DUE_MAX = 500
"""Timers that are fired together."""
POSTPONE_SECONDS_MIN, POSTPONE_SECONDS_MAX = 0.5, 300.0
ERROR_CHARACTERS_MAX = 500
SEEN_SECONDS_MAX = 3.0
"""How old a look at what is due may be when its commands are sent: less than a lease lasts. A process that stood still
meanwhile looks again, as another may have forgotten these timers."""

FIRED = Counter("everfold_scheduled_commands_total", "Scheduled commands sent", ["workflow", "outcome"])


class Due(NamedTuple):
    """A scheduled command whose time has come."""

    tenant: str
    key: str
    due_at: datetime
    attempts: int
    command: str
    fields: bytes
    idempotency_key: str
    causation_id: str
    correlation_id: str
    traceparent: str | None


class Row(NamedTuple):
    """A scheduled command as it is written."""

    tenant: str
    key: str
    due_at: datetime
    command: str
    fields: bytes
    step: str
    causation_id: str
    correlation_id: str
    traceparent: str | None


class ScheduledCommands:
    """One workflow's timers in one partition."""

    def __init__(
        self,
        pool: "asyncpg.Pool[Any]",
        namespace: str,
        workflow: str,
        partition: int,
        sealed: SealedCommands | None = None,
    ) -> None:
        self._pool, self._place, self._sealed = pool, (partition, workflow), sealed
        self._sql = partial(load_sql, "command_api", namespace=namespace)

    async def write(self, connection: Connection, timers: Mapping[tuple[str, str], Timer | None]) -> None:
        """Set and forget timers, by tenant and key, in the connection's transaction."""
        forgotten = [place for place, timer in timers.items() if timer is None]
        if forgotten:
            await connection.execute(
                self._sql("sql/unschedule.sql"), *self._place, *zip(*forgotten, strict=True)
            )
        rows = [_row(place, timer) for place, timer in timers.items() if timer is not None]
        if rows:
            if self._sealed is not None:
                rows = await self._seal(rows, self._sealed)
            await connection.execute(self._sql("sql/schedule.sql"), *self._place, *zip(*rows, strict=True))

    async def due(self, now: datetime, *, up_to_date: bool) -> Sequence[Due]:
        """Return timers to be fired; `up_to_date`: the workflow has taken up everything before `now`."""
        rows = await self._pool.fetch(self._sql("sql/due.sql"), *self._place, now, up_to_date, DUE_MAX)
        due = [Due(*row) for row in rows]
        if self._sealed is None:
            return due
        opened = await self._sealed.open([_sealable(timer) for timer in due])
        return [timer._replace(fields=fields) for timer, fields in zip(due, opened, strict=True)]

    @staticmethod
    async def _seal(rows: Sequence[Row], sealed: SealedCommands) -> list[Row]:
        """Seal the personal fields of rows that are to be written."""
        fields = await sealed.seal([Scheduled(row.tenant, row.command, row.step, row.fields) for row in rows])
        return [row._replace(fields=one) for row, one in zip(rows, fields, strict=True)]

    async def hand_over(
        self, connection: Connection, tenant: str, to_partition: int, arrived_position: int | None
    ) -> None:
        """
        Let go of the timers of a tenant that leaves, in the connection's transaction.

        They are the other partition's at once where the workflow has taken the arrival there, else when it has.
        """
        await connection.execute(
            self._sql("sql/hand_over_timers.sql"), *self._place, tenant, to_partition, arrived_position
        )

    async def take_over(self, connection: Connection, tenant: str) -> None:
        """Take up the timers of a tenant that arrives, in the connection's transaction."""
        await connection.execute(self._sql("sql/take_over_timers.sql"), *self._place, tenant)

    async def fired(self, timers: Sequence[Due]) -> None:
        """Forget timers that have done their work."""
        rows = [(timer.tenant, timer.key, timer.idempotency_key) for timer in timers]
        await self._pool.execute(self._sql("sql/fired.sql"), *self._place, *zip(*rows, strict=True))

    async def postpone(self, timers: Sequence[tuple[Due, ServiceError]]) -> None:
        """Try again later, each at a time that its own attempts say."""
        rows = [
            (timer.tenant, timer.key, timer.idempotency_key, _words(error), _wait(timer.attempts))
            for timer, error in timers
        ]
        await self._pool.execute(self._sql("sql/postpone.sql"), *self._place, *zip(*rows, strict=True))


def _sealable(due: Due) -> Scheduled:
    return Scheduled(due.tenant, due.command, due.idempotency_key, due.fields)


def _row(place: tuple[str, str], timer: Timer) -> Row:
    command, cause = timer.schedule.command, timer.cause
    return Row(
        *place,
        timer.schedule.at,
        command.command_name,
        command.__pydantic_serializer__.to_json(command),
        cause.step_key(timer.number),
        cause.recorded.id,
        cause.metadata.correlation_id,
        cause.metadata.traceparent,
    )


def _words(error: ServiceError) -> str:
    return storable(f"{type(error).__name__}: {error}")[:ERROR_CHARACTERS_MAX]


def _wait(attempts: int) -> timedelta:
    return timedelta(seconds=min(POSTPONE_SECONDS_MIN * 2 ** min(attempts, 20), POSTPONE_SECONDS_MAX))


@dataclass(frozen=True)
class Firing:
    """Sends what is due of one workflow."""

    workflow: Workflow
    timers: ScheduledCommands
    sender: Sender
    registry: Registry

    async def fire(self, due: Sequence[Due], *, seen_at: float) -> bool:
        """
        Send scheduled commands together; forget those that were answered, try the others later.

        False: what was seen at `seen_at`, by the monotonic clock, is too old, and nothing was sent.
        """
        requests: list[tuple[Due, CommandRequest]] = []
        failed: list[tuple[Due, ServiceError]] = []
        for timer in due:
            try:
                requests.append((timer, self._request(timer)))
            except ServiceError as error:
                failed.append((timer, error))
        failpoint("scheduled.before_send")
        if time.monotonic() - seen_at > SEEN_SECONDS_MAX:
            return False
        answered = []
        for timer, answer in await self._send(requests):
            self._note(timer, answer)
            if is_told(answer.error):
                answered.append(timer)
            else:
                assert answer.error is not None
                failed.append((timer, answer.error))
        failpoint("scheduled.after_send")
        if answered:
            await self.timers.fired(answered)
        if failed:
            log.warning(
                "scheduled commands postponed",
                workflow=self.workflow.name, commands=len(failed), error=_words(failed[0][1]),
            )  # fmt: skip
            await self.timers.postpone(failed)
        return True

    async def _send(self, requests: Sequence[tuple[Due, CommandRequest]]) -> list[tuple[Due, Answer]]:
        commands = [request for _, request in requests]
        answered: list[tuple[Due, Answer]] = []
        for call in in_calls(commands):
            answers = await self.sender.submit_many([commands[number] for number in call])
            answered.extend(zip((requests[number][0] for number in call), answers, strict=True))
        return answered

    def _request(self, timer: Due) -> CommandRequest:
        """Return the command; it says that it happened when it was due."""
        return request_of(
            self._command(timer),
            workflow=self.workflow.name,
            tenant=timer.tenant,
            key=timer.idempotency_key,
            occurred_at=timer.due_at,
            causation_id=timer.causation_id,
            correlation_id=timer.correlation_id,
            traceparent=timer.traceparent,
        )

    def _command(self, timer: Due) -> Command:
        model = self.registry.commands.get(timer.command)
        if model is None or model not in self.workflow.commands:
            raise BadDefinition(
                timer.command, f"is scheduled, and workflow {self.workflow.name} does not declare it"
            )
        try:
            return model.model_validate_json(timer.fields)
        except ValueError as error:
            raise BadDefinition(
                timer.command, f"was scheduled with fields that it does not take: {error}"
            ) from error

    def _note(self, timer: Due, answer: Answer) -> None:
        outcome = "accepted" if answer.error is None else answer.error.slug
        FIRED.labels(self.workflow.name, outcome).inc()
        if answer.error is not None:
            log.info(
                "scheduled command not accepted",
                workflow=self.workflow.name, command=timer.command, key=timer.key, error=str(answer.error),
            )  # fmt: skip
