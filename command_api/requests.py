"""
What the pipeline takes and what it answers: a command with its circumstances in, events or an error out.

An answer is never an exception: in a batch, and for workflows, a refusal is an outcome like any other.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from infra.auth import Principal
from schemas import Command, Event
from schemas.errors import ServiceError
from schemas.position import Position

SIZE_DEFAULT = 512
MUST_EXIST = -2
"""As an expected version: any but 0."""


class CommandRequest(NamedTuple):
    """A command, who sends it, and under which conditions."""

    command: Command
    principal: Principal
    """Its tenant is the command's; platform principals send no commands."""
    key: str | None = None
    """The idempotency key, in the scope of tenant and subject."""
    expected_version: int | None = None
    """Of the command's main stream; 0: it must not exist. None: whatever it is."""
    occurred_at: datetime | None = None
    """When it happened for the business; None: when it is decided."""
    reason: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    traceparent: str | None = None
    size: int = SIZE_DEFAULT
    """How many bytes it came in, for the bounds on what may wait."""

    @property
    def tenant(self) -> str:
        """Whose streams the command is about."""
        if self.principal.tenant is None:
            raise ValueError("a platform principal has no streams")
        return self.principal.tenant


class AppendedEvent(NamedTuple):
    """An event of an answer, as it stands in the log."""

    id: str
    type: str
    schema_version: int
    stream: str
    version: int
    data: bytes


class Answer(NamedTuple):
    """What became of a command: accepted with its events (there may be none), or an error."""

    stream: str
    """The command's main stream."""
    version: int = 0
    """The main stream's version after it."""
    position: Position | None = None
    """Where it stands in the log, or what the decision saw; None where nothing was decided."""
    events: Sequence[AppendedEvent] = ()
    objects: Sequence[Event] = ()
    """The same events, decoded as today's classes."""
    replayed: bool = False
    """Whether this is the first answer to the same key, given again."""
    error: ServiceError | None = None
    culprit: int | None = None
    """Where in an atomic group the command stands whose error this is."""

    @property
    def accepted(self) -> bool:
        """Whether the command was accepted, also when it changed nothing."""
        return self.error is None
