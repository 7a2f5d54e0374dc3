"""A pipeline over any log, for tests with the toy domain, and a log with which things go wrong."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from command_api.app import rules_of
from command_api.pipeline import Pipeline
from command_api.requests import Answer, CommandRequest
from event_store.log import Append, EventLog, Outcome
from event_store.memory import MemoryLog
from infra.auth import Principal
from infra.domains import load_registry
from schemas import Command
from schemas.envelope import CommitMark, RecordedEvent
from tests.toy import DOMAIN, Deposit, OpenAccount, Withdraw

REGISTRY = load_registry([DOMAIN])
RULES = rules_of([DOMAIN])
CLERK = Principal("acme", "alice", ("clerk",))
OTHER_TENANT = Principal("globex", "bob", ("clerk",))


def ask(command: Command, *, by: Principal = CLERK, **conditions: Any) -> CommandRequest:
    """Return a request to carry out a command."""
    return CommandRequest(command, by, **conditions)


def open_account(account: str = "A", *, owner: str = "Ann", **conditions: Any) -> CommandRequest:
    """Return a request to open an account."""
    return ask(OpenAccount(account_id=account, owner=owner), **conditions)


def deposit(account: str = "A", cents: int = 1, **conditions: Any) -> CommandRequest:
    """Return a request to pay in."""
    return ask(Deposit(account_id=account, cents=cents), **conditions)


def withdraw(account: str = "A", cents: int = 1, **conditions: Any) -> CommandRequest:
    """Return a request to take out."""
    return ask(Withdraw(account_id=account, cents=cents), **conditions)


@asynccontextmanager
async def pipeline_over(log: EventLog, **bounds: Any) -> AsyncIterator[Pipeline]:
    """Keep a pipeline over a log for a block."""
    pipeline = Pipeline(log, RULES, REGISTRY, **bounds)
    try:
        yield pipeline
    finally:
        await pipeline.close(drain_seconds_max=0.5)


async def events_of(log: EventLog, stream: str, *, tenant: str = "acme") -> list[RecordedEvent]:
    """Return a stream's events."""
    return [event async for event in log.read_stream(tenant, stream)]


def slug(answer: Answer) -> str | None:
    """Return the problem type of an answer; None when it was accepted."""
    return None if answer.error is None else answer.error.slug


class TroubledLog(MemoryLog):
    """A log in memory with which things go wrong as told."""

    def __init__(self, partitions: int = 1) -> None:
        super().__init__(partitions)
        self.appends: list[int] = []
        """How many commands each append had."""
        self.before_append: list[Exception | Callable[[], Awaitable[None]] | None] = []
        """What happens at the next appends, before them: an error, something done meanwhile, or nothing."""
        self.after_append: list[Exception | None] = []
        """What comes back from the next appends instead of their outcomes."""
        self.settle_errors: list[Exception] = []
        self.gate = asyncio.Event()
        """Appends wait for it."""
        self.gate.set()
        self.entered = asyncio.Event()
        """Set when an append has come to the gate."""

    async def append_batch(
        self, partition: int, appends: Sequence[Append], *, known: CommitMark | None = None
    ) -> Sequence[Outcome]:
        """Append, with trouble."""
        self.entered.set()
        await self.gate.wait()
        self.appends.append(len(appends))
        trouble = self.before_append.pop(0) if self.before_append else None
        if isinstance(trouble, Exception):
            raise trouble
        if trouble is not None:
            await trouble()
        outcomes = await super().append_batch(partition, appends, known=known)
        lost = self.after_append.pop(0) if self.after_append else None
        if lost is not None:
            raise lost
        return outcomes

    async def settle(self, partition: int, append: Append) -> Outcome | None:
        """Find out what became of an append, with trouble."""
        if self.settle_errors:
            raise self.settle_errors.pop(0)
        return await super().settle(partition, append)
