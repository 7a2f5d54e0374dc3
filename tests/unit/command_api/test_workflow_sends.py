"""Commands of workflows: sent again with the same key for as long as nothing was said about them; refusals are told."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from command_api import workflow_carrier
from command_api.requests import Answer, CommandRequest
from command_api.workflow import Outcome, Send, Trigger
from command_api.workflow_carrier import ATTEMPTS_MAX, PipelineCarrier
from command_api.workflow_rounds import Cause, Fault, Request
from schemas.envelope import Metadata, RecordedEvent
from schemas.errors import (
    ConcurrentUpdate,
    Forbidden,
    OutcomeUnknown,
    Overloaded,
    ServiceError,
    StoreUnavailable,
)
from tests.toy import AccountOpened, Deposit, Deposited, InsufficientFunds
from tests.toy.world import REGISTRY

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
STREAM = "accounts/A"


class Store:
    """A pipeline that answers as told, and then accepts."""

    def __init__(self, *errors: ServiceError) -> None:
        self.errors = list(errors)
        self.keys: list[str | None] = []

    async def submit_many(self, requests: Sequence[CommandRequest]) -> Sequence[Answer]:
        """Answer each."""
        self.keys += [request.key for request in requests]
        error = self.errors.pop(0) if self.errors else None
        events = () if error else (Deposited(cents=1),)
        return [Answer(request.command.stream, objects=events, error=error) for request in requests]


class Notes:
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    async def note(self, answers: Sequence[tuple[int, str, bytes]]) -> None:
        """Keep it."""
        self.kept += [step for _, step, _ in answers]


async def send(store: Store, notes: Notes) -> Outcome | Fault:
    event = AccountOpened(owner="Ann")
    recorded = RecordedEvent(0, 1, "t", STREAM, 1, "e1", event.type, 1, event.encode(), b"", NOON)
    cause = Cause(recorded, Metadata("ann", (), "", NOON, "c"))
    trigger = Trigger(event, STREAM, 1, 1, NOON, NOON, NOON, "t")
    log: Any = None  # only commands are carried here
    carrier = PipelineCarrier("w", 0, store, log, REGISTRY, notes, {})
    (outcome,) = await carrier.carry([Request(cause, trigger, 0, Send(Deposit(account_id="A", cents=1)))])
    return outcome


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow_carrier, "PAUSE_SECONDS_MIN", 0.0)
    monkeypatch.setattr(workflow_carrier, "PAUSE_SECONDS_MAX", 0.0)


@pytest.mark.parametrize(
    "error", [StoreUnavailable(), OutcomeUnknown(), ConcurrentUpdate(STREAM, 5), Overloaded(), ServiceError()]
)
async def test_what_says_nothing_about_a_command_is_tried_again_with_the_same_key(
    error: ServiceError,
) -> None:
    store, notes = Store(error, error), Notes()
    outcome = await send(store, notes)
    assert outcome == Outcome((Deposited(cents=1),))
    assert store.keys == ["e1/0/0"] * 3
    assert notes.kept == []


async def test_a_store_that_stays_away_has_the_page_taken_again_later() -> None:
    store = Store(*[StoreUnavailable()] * 10)
    with pytest.raises(StoreUnavailable):
        await send(store, Notes())
    assert len(store.keys) == ATTEMPTS_MAX


async def test_a_refusal_is_told_and_noted() -> None:
    notes = Notes()
    refused = InsufficientFunds(balance_cents=1, requested_cents=2)
    assert await send(Store(refused), notes) == Outcome(error=refused)
    assert notes.kept == ["e1/0/0"]


@pytest.mark.parametrize("error", [Forbidden("clerk"), ServiceError()])
async def test_what_no_trying_again_will_mend_sets_the_reaction_aside(error: ServiceError) -> None:
    assert await send(Store(*[error] * ATTEMPTS_MAX), Notes()) == Fault(error)
