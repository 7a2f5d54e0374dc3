"""
A command on its way through the pipeline, and the one who waits for it.

Several commands of one request share a ticket: the waiter wakes once, when the last of them is answered.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from command_api.decider import Decider
from command_api.keys import key_of
from command_api.requests import Answer, CommandRequest
from event_store.log import IdempotencyKey
from infra.telemetry import Counter

_commands = Counter("everfold_commands_total", "Commands answered", ["command", "outcome"])
_counters: dict[tuple[str, str], Any] = {}


class Ticket:
    """What the sender of some commands waits on."""

    __slots__ = ("done", "remaining")

    def __init__(self, commands: int) -> None:
        self.remaining = commands
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, commands: int = 1) -> None:
        """Note that commands have been answered; the sender may have left meanwhile."""
        self.remaining -= commands
        if self.remaining <= 0 and not self.done.done():
            self.done.set_result(None)


class Pending:
    """One command that waits for its answer."""

    __slots__ = (
        "alone", "answer", "attempts", "decider", "key", "request", "size", "stream", "streams", "tenant", "ticket",
    )  # fmt: skip
    count = 1
    """How many commands it is."""

    def __init__(
        self, request: CommandRequest, ticket: Ticket, decider: Decider[Any], secret: bytes | None = None
    ) -> None:
        """`secret` is the system's, where the command has personal fields; see `key_of`."""
        self.request, self.ticket, self.decider = request, ticket, decider
        self.tenant = request.tenant
        self.stream = request.command.stream
        self.size = request.size
        self.key: IdempotencyKey | None = key_of(request, secret)
        self.streams: Sequence[str] | None = None
        """The streams that the command's fields tell the decision needs, its own first; asked for once."""
        self.attempts = 0
        self.alone = False
        """Whether it goes into a batch of its own, because a batch that it was in failed as a whole."""
        self.answer: Answer | None = None

    @property
    def names_further(self) -> bool:
        """Whether what is needed besides can depend on states."""
        return type(self.decider).further_streams is not Decider.further_streams

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.ticket.done.cancelled()

    @property
    def commands(self) -> Sequence["Pending"]:
        """Itself: a group has several."""
        return (self,)

    def settle(self, answer: Answer) -> None:
        """Give the answer, once."""
        if self.answer is None:
            self.answer = answer
            count(self.request.command.command_name, answer)
            self.ticket.settle()


class Group:
    """Commands of one tenant that are carried out together or not at all."""

    alone = True

    __slots__ = ("attempts", "count", "members", "size", "tenant", "ticket")

    def __init__(self, members: Sequence[Pending], ticket: Ticket) -> None:
        self.members, self.ticket = members, ticket
        self.tenant = members[0].tenant
        self.count = len(members)
        self.size = sum(member.size for member in members)
        self.attempts = 0

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.ticket.done.cancelled()

    @property
    def commands(self) -> Sequence[Pending]:
        """Its members."""
        return self.members

    def refuse(self, answer: Answer) -> None:
        """Give all members the one answer."""
        for member in self.members:
            member.settle(answer)


def count(command: str, answer: Answer) -> None:
    """Count one answer."""
    if answer.error is not None:
        outcome = answer.error.slug
    elif answer.replayed:
        outcome = "replayed"
    else:
        outcome = "accepted" if answer.events else "unchanged"
    counter = _counters.get((command, outcome))
    if counter is None:
        counter = _counters[command, outcome] = _commands.labels(command, outcome)
    counter.inc()
