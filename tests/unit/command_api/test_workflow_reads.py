"""What a workflow reads of a stream: events as they are today, chosen by what they are today."""

from datetime import UTC, datetime
from typing import Any

import pytest

from command_api.workflow import Outcome, Read, Trigger
from command_api.workflow_carrier import PipelineCarrier
from command_api.workflow_rounds import Cause, Fault, Request
from event_store.log import Append, Check, Expect, NewEvent
from event_store.memory import MemoryLog
from schemas import Event
from schemas.envelope import Metadata
from schemas.errors import UnknownEvent
from tests.toy import AccountClosed, AccountOpened, Deposited
from tests.toy.world import REGISTRY, events_of

STREAM = "accounts/A"
NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
STORED = [
    ("AccountOpenedWith", b'{"owner":"Ann","cents":7}'),
    ("AccountPolished", b"{}"),
    ("AccountShut", b"{}"),
]


class Noted:
    """Keeps what reads were told."""

    async def note(self, answers: Any) -> None:
        """Keep it; nobody asks."""


async def read(*stored: tuple[str, bytes], types: tuple[str, ...] = ()) -> Outcome | Fault:
    log = MemoryLog()
    new = [
        NewEvent(STREAM, f"0199a1b2-0000-7000-8000-{number:012d}", type_, 1, data)
        for number, (type_, data) in enumerate(stored)
    ]
    await log.append_batch(0, [Append("acme", STREAM, [Check(STREAM, Expect.ANY)], new)])
    first, *_ = await events_of(log, STREAM)
    cause = Cause(first, Metadata("ann", (), "", NOON, "c"))
    trigger = Trigger(None, STREAM, 1, 1, NOON, NOON, NOON, "acme")
    sender: Any = None  # only reads are carried here
    carrier = PipelineCarrier("reader", 0, sender, log, REGISTRY, Noted(), {})
    (outcome,) = await carrier.carry([Request(cause, trigger, 0, Read(STREAM, types))])
    return outcome


@pytest.mark.parametrize(
    ("types", "events"),
    [
        ((), [AccountOpened(owner="Ann"), Deposited(cents=7, source="unknown"), AccountClosed()]),
        (("AccountClosed",), [AccountClosed()]),
        (("Deposited",), [Deposited(cents=7, source="unknown")]),
        (("AccountShut",), []),
    ],
)
async def test_old_names_are_read_and_chosen_as_what_they_are_today(
    types: tuple[str, ...], events: list[Event]
) -> None:
    outcome = await read(*STORED, types=types)
    assert isinstance(outcome, Outcome)
    assert list(outcome.events) == events


@pytest.mark.parametrize("types", [(), ("AccountClosed",)])
async def test_what_nobody_knows_is_not_left_out_of_what_is_read(types: tuple[str, ...]) -> None:  # F39
    outcome = await read(*STORED, ("AccountFrozen", b"{}"), types=types)
    assert isinstance(outcome, Fault)
    assert isinstance(outcome.error, UnknownEvent)
    assert outcome.error.type == "AccountFrozen"
