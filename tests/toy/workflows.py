"""
A workflow of the toy domain: an account's owner says, in words, what it is to do when the account is opened.

    "gift"          deposits 100, withdraws 30
    "greedy"        withdraws 1000, which is refused, and then deposits what it was told it lacks
    "soon", "late"  has the account closed in a tenth of a second, in an hour
    "odd"           fails
    "rogue"         sends what it does not declare
    "curious"       deposits as many cents as its account has events
"""

from datetime import timedelta

from command_api.workflow import Reaction, Read, Schedule, Send, Trigger, Unschedule, Workflow, on
from tests.toy import (
    AccountClosed,
    AccountOpened,
    CloseAccount,
    Deposit,
    InsufficientFunds,
    OpenAccount,
    Withdraw,
)

SOON, LATE = timedelta(seconds=0.1), timedelta(hours=1)


class Concierge(Workflow):
    """Does what owners say."""

    name = "concierge"
    commands = (Deposit, Withdraw, CloseAccount)

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

    @on(AccountClosed)
    def closed(self, trigger: Trigger) -> Reaction:
        """Forget the timer."""
        (account_id,) = trigger.ids
        yield [Unschedule("close/" + account_id)]
