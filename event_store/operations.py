"""
What operators ask for: one row for each operation, which the role that owns the matter carries out.

The command line and the query API only write rows and watch them. A carrier takes a row for some seconds, renews it
while it works, and says with it how far it is; one that dies is succeeded by another, which goes on where it was.
Projectors carry out everything here (`projectors/carrier.py`).
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from getpass import getuser
from socket import gethostname
from typing import Annotated, Any, Literal

import orjson
import uuid_utils
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from event_store.leases import is_gone
from infra.json_body import errors_of
from infra.sql import load_sql
from schemas.errors import IdempotencyKeyReused, Invalid, NotFound, Rejection
from schemas.messages import Id, Instant, format_instant

CHANNEL = "{namespace}_operations"
HOLD_SECONDS = 15.0
ATTEMPTS_MAX = 5
"""How many carriers may die of an operation before it is given up."""
LISTED_MAX = 200
NAMES_MAX = 100
ENDED = frozenset({"done", "failed", "cancelled"})

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
SchemaName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
KeyPart = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Fetch = Callable[..., Awaitable[Sequence[Any]]]
"""Runs a statement with its arguments: a pool's `fetch`, or a server's of the query API."""


def operator() -> str:
    """Return who is at this machine's command line."""
    return f"{getuser()}@{gethostname()}"


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Reason | None = None


class Replay(_Request):
    """Build projections anew beside the live ones, and swap them in; none named: all."""

    kind: Literal["replay"] = "replay"
    projections: tuple[Name, ...] = Field((), max_length=NAMES_MAX)
    verify: bool = False
    throttle: int | None = Field(None, ge=1, le=10_000_000, description="At most so many events a second.")


class ReplayAsOf(_Request):
    """Build projections as they were at a time, into a schema of its own; none named: all."""

    kind: Literal["replay-as-of"] = "replay-as-of"
    projections: tuple[Name, ...] = Field((), max_length=NAMES_MAX)
    as_of: Instant
    into: SchemaName
    throttle: int | None = Field(None, ge=1, le=10_000_000)


class Mend(_Request):
    """Fold one row anew and write it."""

    kind: Literal["mend"] = "mend"
    projection: Name
    tenant: Id
    key: tuple[KeyPart, ...] = Field(max_length=16)
    table: str | None = Field(None, max_length=63, description="The projection's first table unless given.")


class Pause(_Request):
    """Stop applying events to a projection; reads go on."""

    kind: Literal["pause"] = "pause"
    projection: Name


class Resume(_Request):
    """Go on applying events to a projection."""

    kind: Literal["resume"] = "resume"
    projection: Name


class SwapBack(_Request):
    """Bring the generation before up to date, and make it the live one again."""

    kind: Literal["swap-back"] = "swap-back"
    projection: Name


class Drop(_Request):
    """Drop a generation's tables; the live one cannot be dropped."""

    kind: Literal["drop"] = "drop"
    projection: Name
    generation: int = Field(ge=1)


class RetryParked(_Request):
    """Fold the rows again that a tenant's parked events wait at; of one projection or workflow, or one event."""

    kind: Literal["retry"] = "retry"
    tenant: Id
    consumer: Name | None = None
    id: int | None = None


class SkipParked(_Request):
    """Leave one parked event out of its row for good."""

    kind: Literal["skip"] = "skip"
    tenant: Id
    id: int
    reason: Reason


Asked = Replay | ReplayAsOf | Mend | Pause | Resume | SwapBack | Drop | RetryParked | SkipParked
ASKED: TypeAdapter[Asked] = TypeAdapter(Annotated[Asked, Field(discriminator="kind")])
LONG_KINDS = frozenset({"replay", "replay-as-of", "swap-back", "mend"})
SHORT_KINDS = frozenset({"pause", "resume", "drop", "retry", "skip"})


@dataclass(eq=False)
class OperationEnded(Rejection):
    """The operation has ended already, and cannot be cancelled any more."""

    state: str


@dataclass(frozen=True)
class Operation:
    """One operation as it stands."""

    id: str
    asked: Asked
    actor: str
    reason: str | None
    state: str
    attempts: int
    progress: Mapping[str, Any]
    result: Any
    error: str | None
    times: Mapping[str, datetime | None]

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will become of it."""
        return self.state in ENDED

    def document(self) -> dict[str, Any]:
        """Return it as `GET /v1/operations/{id}` answers it."""
        request = self.asked.model_dump(mode="json", exclude={"kind", "reason"})
        times = {name: time and format_instant(time) for name, time in self.times.items()}
        return {
            "id": self.id, "kind": self.asked.kind, "state": self.state, "request": request, "actor": self.actor,
            "reason": self.reason, **times, "attempts": self.attempts, "progress": dict(self.progress),
            "result": self.result, "error": self.error,
        }  # fmt: skip


class Operations:
    """The rows of operations."""

    def __init__(self, fetch: Fetch, namespace: str) -> None:
        self._fetch = fetch
        self._sql = partial(load_sql, "event_store", namespace=namespace)
        self.channel = CHANNEL.format(namespace=namespace)

    # -- asking and watching ------------------------------------------------------------------------------

    async def ask(self, asked: Asked, actor: str, *, request_key: str | None = None) -> Operation:
        """
        Write down what is asked for, and tell those who carry it out; the same key again is the same operation.

        Raises:
            IdempotencyKeyReused: The key was given for something else.
        """
        number = str(uuid_utils.uuid7())
        request = asked.model_dump_json(exclude={"reason"})
        await self._fetch(
            self._sql("sql/queries/operation_ask.sql"),
            number, asked.kind, request, actor, asked.reason, request_key,
        )  # fmt: skip
        await self._fetch("SELECT pg_notify($1, $2)", self.channel, number)
        if request_key is None:
            return await self.find(number)
        rows = await self._fetch(self._sql("sql/queries/operations.sql"), None, request_key, 1)
        found = _operation(rows[0])
        if found.asked.model_dump(exclude={"reason"}) != asked.model_dump(exclude={"reason"}):
            raise IdempotencyKeyReused
        return found

    async def take(self, asked: Asked, actor: str, holder: str) -> Operation:
        """Write down what is asked for by whoever carries it out, so that nobody else does."""
        number, request = str(uuid_utils.uuid7()), asked.model_dump_json(exclude={"reason"})
        await self._fetch(
            self._sql("sql/queries/operation_take.sql"),
            number, asked.kind, request, actor, asked.reason, holder, HOLD_SECONDS,
        )  # fmt: skip
        return await self.find(number)

    async def find(self, number: str) -> Operation:
        """
        Return an operation.

        Raises:
            NotFound: There is none of that id.
        """
        rows = await self._fetch(self._sql("sql/queries/operations.sql"), _id(number), None, 1)
        if not rows:
            raise NotFound(f"operation {number}")
        return _operation(rows[0])

    async def latest(self, limit: int = 50) -> list[Operation]:
        """Return what was asked for last, latest first."""
        rows = await self._fetch(self._sql("sql/queries/operations.sql"), None, None, min(limit, LISTED_MAX))
        return [_operation(row) for row in rows]

    async def cancel(self, number: str) -> Operation:
        """
        Ask for an operation's end; who carries it out ends it soon.

        Raises:
            NotFound: There is none of that id.
            OperationEnded: It has ended by itself.
        """
        await self.find(number)
        rows = await self._fetch(self._sql("sql/queries/operation_cancel.sql"), _id(number))
        found = await self.find(number)
        if not rows and found.state != "cancelled":
            raise OperationEnded(found.state)
        await self._fetch("SELECT pg_notify($1, $2)", self.channel, number)
        return found

    async def carriers(self, group: str) -> int:
        """Return how many processes of a group live, as far as can be told from here."""
        rows = await self._fetch(self._sql("sql/queries/live_members.sql"), group)
        return sum(not is_gone(row["holder"]) for row in rows)

    # -- carrying out -------------------------------------------------------------------------------------

    async def claim(
        self, holder: str, kinds: Collection[str], *, number: str | None = None
    ) -> Operation | None:
        """Take up an operation that nobody carries out: the oldest, or one of an id; None where there is none."""
        held = await self._fetch(self._sql("sql/queries/operation_holders.sql"))
        dead = [row["holder"] for row in held if row["holder"] != holder and is_gone(row["holder"])]
        rows = await self._fetch(
            self._sql("sql/queries/operation_claim.sql"), holder, HOLD_SECONDS, list(kinds), dead, number
        )
        return _operation(rows[0]) if rows else None

    async def renew(self, number: str, holder: str, progress: Mapping[str, Any]) -> bool | None:
        """Keep an operation, and say how far it is; None: somebody else has it; True: its end is asked for."""
        rows = await self._fetch(
            self._sql("sql/queries/operation_renew.sql"),
            number, holder, HOLD_SECONDS, orjson.dumps(progress).decode(),
        )  # fmt: skip
        return rows[0]["cancel_asked_at"] is not None if rows else None

    async def end(
        self, number: str, holder: str, state: str, *, result: Any = None, error: str | None = None
    ) -> None:
        """Say what became of an operation."""
        told = None if result is None else orjson.dumps(result).decode()
        await self._fetch(self._sql("sql/queries/operation_end.sql"), number, holder, state, told, error, 0)

    async def hand_back(self, number: str, holder: str, error: str | None, *, counts: bool) -> None:
        """Let others take an operation up, and tell them; say why, and whether the attempt counts."""
        await self._fetch(
            self._sql("sql/queries/operation_end.sql"),
            number, holder, "waiting", None, error, 0 if counts else 1,
        )  # fmt: skip
        await self._fetch("SELECT pg_notify($1, $2)", self.channel, number)


def read_asked(value: Any) -> Asked:
    """
    Return a request as it came in.

    Raises:
        Invalid: It is none.
    """
    try:
        return ASKED.validate_python(value)
    except ValidationError as error:
        kind = f"/{value.get('kind')}" if isinstance(value, dict) else ""
        errors = [one | {"pointer": one["pointer"].removeprefix(kind)} for one in errors_of(error)]
        raise Invalid(errors) from error


def _id(number: str) -> str:
    try:
        return str(uuid_utils.UUID(number))
    except ValueError as error:
        raise NotFound(f"operation {number}") from error


def _operation(row: Any) -> Operation:
    request = orjson.loads(row["request"])
    if row["reason"] is not None:
        request["reason"] = row["reason"]
    names = ("asked_at", "started_at", "ended_at", "cancel_asked_at")
    return Operation(
        row["id"], ASKED.validate_python(request), row["actor"], row["reason"], row["state"], row["attempts"],
        orjson.loads(row["progress"]), row["result"] and orjson.loads(row["result"]), row["error"],
        {name: row[name] and row[name].astimezone(UTC) for name in names},
    )  # fmt: skip
