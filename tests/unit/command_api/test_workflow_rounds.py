"""Rounds: many reactions side by side, in order where they share a key, and none in another's way."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from command_api.workflow import Outcome, Reaction, Schedule, Send, Trigger, Unschedule, Workflow, on
from command_api.workflow_rounds import Cause, Effects, Fault, Request, Rounds, Take
from schemas.envelope import Metadata, RecordedEvent
from schemas.errors import BadDefinition, ServiceError
from tests.toy import AccountOpened, CloseAccount, Deposit, InsufficientFunds, Withdraw

NOW = datetime(2026, 1, 15, tzinfo=UTC)


class Talkative(Workflow):
    """Does what the owner's words say, one round a word."""

    name = "talkative"
    commands = (Deposit, CloseAccount)

    @on(AccountOpened)
    def opened(self, trigger: Trigger) -> Reaction:
        (account_id,) = trigger.ids
        for word in trigger.event.owner.split():
            match word:
                case "fail":
                    raise ValueError(word)
                case "rogue":
                    yield [Send(Withdraw(account_id=account_id, cents=1))]
                case "timer":
                    yield [Schedule("t", NOW, CloseAccount(account_id=account_id))]
                case "forget":
                    yield [Unschedule("t")]
                case _:
                    (outcome,) = yield [Send(Deposit(account_id=account_id, cents=int(word)))]
                    if not outcome.accepted:
                        return


class Notebook:
    """A carrier that writes down what it is asked for."""

    def __init__(self, answers: dict[int, Outcome | Fault] | None = None) -> None:
        self.rounds: list[list[tuple[str, int, int]]] = []
        self.answers = answers or {}

    async def carry(self, requests: Sequence[Request]) -> Sequence[Outcome | Fault]:
        steps: list[Any] = [request.step for request in requests]
        self.rounds.append(
            [
                (step.command.account_id, request.number, step.command.cents)
                for request, step in zip(requests, steps, strict=True)
            ]
        )
        return [self.answers.get(step.command.cents, Outcome()) for step in steps]


def take(account_id: str, owner: str, position: int) -> Take:
    event = AccountOpened(owner=owner)
    stream = f"accounts/{account_id}"
    recorded = RecordedEvent(
        0, position, "t", stream, 1, f"event-{position}", event.type, 1, event.encode(), b"", NOW
    )
    cause = Cause(recorded, Metadata("a", (), "c", NOW, "c"))
    return Take(cause, Trigger(event, stream, 1, position, NOW, NOW, NOW, "t"))


async def run(*takes: tuple[str, str], carrier: Notebook | None = None, held: Any = frozenset()) -> Effects:
    numbered = [take(account_id, owner, position) for position, (account_id, owner) in enumerate(takes, 1)]
    return await Rounds(Talkative(), carrier or Notebook(), held=held).run(numbered)


async def test_reactions_of_different_keys_share_their_rounds() -> None:
    carrier = Notebook()
    await run(("A", "1 2"), ("B", "3"), ("C", "4 5 6"), carrier=carrier)
    assert carrier.rounds == [
        [("A", 0, 1), ("B", 0, 3), ("C", 0, 4)],
        [("A", 1, 2), ("C", 1, 5)],
        [("C", 2, 6)],
    ]


async def test_reactions_of_one_key_follow_each_other() -> None:
    carrier = Notebook()
    await run(("A", "1 2"), ("A", "3"), ("B", "4"), carrier=carrier)
    assert carrier.rounds == [[("A", 0, 1), ("B", 0, 4)], [("A", 1, 2)], [("A", 0, 3)]]


async def test_a_refusal_is_told_to_its_reaction() -> None:
    carrier = Notebook({1: Outcome(error=InsufficientFunds(0, 1))})
    effects = await run(("A", "1 2"), ("B", "3"), carrier=carrier)
    assert len(carrier.rounds) == 1
    assert len(effects.done) == 2


async def test_a_reaction_that_raises_is_set_aside_with_all_that_follows_in_its_key() -> None:
    carrier = Notebook()
    effects = await run(("A", "1 fail"), ("A", "2"), ("B", "3"), ("A", "4"), carrier=carrier)
    assert carrier.rounds == [[("A", 0, 1), ("B", 0, 3)]]
    assert [(aside.take.trigger.position, type(aside.error)) for aside in effects.set_aside] == [
        (1, ValueError),
        (2, type(None)),
        (4, type(None)),
    ]
    assert [done.trigger.position for done in effects.done] == [3]


async def test_a_step_that_cannot_be_carried_out_sets_its_reaction_aside() -> None:
    error = ServiceError()
    effects = await run(("A", "1 2"), ("B", "3"), carrier=Notebook({1: Fault(error)}))
    assert [(aside.key, aside.error) for aside in effects.set_aside] == [("accounts/A", error)]


async def test_a_key_that_is_on_hold_stays_there() -> None:
    carrier = Notebook()
    effects = await run(("A", "1"), ("B", "2"), carrier=carrier, held={("t", "accounts/A")})
    assert carrier.rounds == [[("B", 0, 2)]]
    assert [(aside.key, aside.error) for aside in effects.set_aside] == [("accounts/A", None)]


async def test_a_command_that_is_not_declared_is_never_sent() -> None:
    carrier = Notebook()
    effects = await run(("A", "rogue"), carrier=carrier)
    assert carrier.rounds == []
    assert isinstance(effects.set_aside[0].error, BadDefinition)


async def test_the_last_word_about_a_timer_counts() -> None:
    effects = await run(("A", "timer"), ("B", "timer forget"), ("C", "forget"))
    assert effects.timers == {("t", "t"): None}
    effects = await run(("A", "forget timer"))
    (timer,) = effects.timers.values()
    assert timer is not None
    assert timer.cause.step_key(timer.number) == "event-1/0/1"


async def test_what_a_reaction_scheduled_before_it_failed_stays_scheduled() -> None:
    effects = await run(("A", "timer fail"))
    assert list(effects.timers) == [("t", "t")]
    assert effects.set_aside
