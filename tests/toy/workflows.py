"""
A workflow of the toy domain: an account's owner says, in words, what it is to do when the account is opened.

    "gift"          deposits 100, withdraws 30
    "greedy"        withdraws 1000, which is refused, and then deposits what it was told it lacks
    "soon", "late"  has the account closed in a tenth of a second, in an hour
    "odd"           fails
    "rogue"         sends what it does not declare
    "curious"       deposits as many cents as its account has events
    "polite"        is greeted, in the outside world
    "shy"           fails after it was to be greeted
    "stranger"      is to be told what is not declared
"""

from datetime import timedelta

from command_api.workflow import Reaction, Read, Schedule, Send, Tell, Trigger, Unschedule, Workflow, on
from schemas import Notice
from tests.toy import (
    AccountClosed,
    AccountGreeted,
    AccountOpened,
    CloseAccount,
    Deposit,
    InsufficientFunds,
    OpenAccount,
    Withdraw,
)

SOON, LATE = timedelta(seconds=0.1), timedelta(hours=1)


class Undeclared(Notice, channel="greetings", type="toy.Undeclared.v1"):
    """What the workflow does not say that it tells."""


class Concierge(Workflow):
    """Does what owners say."""

    name = "concierge"
    commands = (Deposit, Withdraw, CloseAccount)
    notices = (AccountGreeted,)

    @on(AccountOpened)
    def opened(self, trigger: Trigger) -> Reaction:
        """Do it."""
        (account_id,) = trigger.ids
        match trigger.event.owner:
            case "gift":
                yield [Send(Deposit(account_id=account_id, cents=100))]
                yield [Send(Withdraw(account_id=account_id, cents=30))]
            case "greedy":
                (outcome,) = yield [Send(Withdraw(account_id=account_id, cents=1000))]
                if isinstance(outcome.error, InsufficientFunds):
                    lacks = outcome.error.requested_cents - outcome.error.balance_cents
                    yield [Send(Deposit(account_id=account_id, cents=lacks))]
            case "soon" | "late" as when:
                at = trigger.now + (SOON if when == "soon" else LATE)
                yield [Schedule("close/" + account_id, at, CloseAccount(account_id=account_id))]
            case "odd":
                yield [Send(Deposit(account_id=account_id, cents=1))]
                raise ValueError("odd owner")
            case "rogue":
                yield [Send(OpenAccount(account_id="another", owner="rogue's"))]
            case "curious":
                (history,) = yield [Read(trigger.stream)]
                yield [Send(Deposit(account_id=account_id, cents=len(history.events)))]
            case "polite":
                yield [Tell(AccountGreeted(account_id=account_id, owner="polite"))]
            case "shy":
                yield [Tell(AccountGreeted(account_id=account_id, owner="shy"))]
                raise ValueError("shy owner")
            case "stranger":
                yield [Tell(Undeclared())]

    @on(AccountClosed)
    def closed(self, trigger: Trigger) -> Reaction:
        """Forget the timer."""
        (account_id,) = trigger.ids
        yield [Unschedule("close/" + account_id)]
