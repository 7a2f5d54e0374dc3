"""The sentences that domains are tested with say the truth, also when it is no."""

from collections.abc import Sequence

import pytest

from command_api.workflow import Reaction, Read, Schedule, Send, Trigger, Workflow, on
from infra.testing import NOON, given
from query_api.query import DocumentQuery
from schemas.errors import NotFound
from tests.toy import (
    AccountBalances,
    AccountClosed,
    AccountOpened,
    Accounts,
    AccountView,
    CloseAccount,
    Deposit,
    Deposited,
    InsufficientFunds,
    OpenAccount,
    Transfer,
    Withdraw,
    Withdrawn,
)

OPEN = OpenAccount(account_id="A", owner="Ann")
OPENED = AccountOpened(owner="Ann")


class CloseEmpty(Workflow):
    """Closes accounts that are emptied, and looks at them once more later."""

    name = "close-empty"
    commands = (CloseAccount, Deposit)

    @on(Withdrawn)
    def withdrawn(self, trigger: Trigger) -> Reaction:
        (read,) = yield [Read(trigger.stream, (Deposited.type,))]
        if len(read.events) > 1:
            return
        (account_id,) = trigger.ids
        (closed,) = yield [Send(CloseAccount(account_id=account_id))]
        if not closed.accepted:
            yield [Schedule(account_id, trigger.now, CloseAccount(account_id=account_id))]


class Balance(DocumentQuery):
    """One account."""

    route, view, projection = "accounts/{account_id}", AccountView, AccountBalances


def test_a_decision_is_what_follows_from_the_past() -> None:
    (
        given(Accounts, OPENED, Deposited(cents=500))
        .when(Withdraw(account_id="A", cents=200))
        .then(Withdrawn(cents=200))
        .when(Withdraw(account_id="A", cents=301))
        .then_refused(InsufficientFunds, balance_cents=300, requested_cents=301)
    )


def test_facts_are_events_of_streams_or_commands_that_are_carried_out() -> None:
    past = given(Accounts, OPEN, ("accounts/B", OPENED), Deposit(account_id="A", cents=5))
    past.when(Transfer(account_id="A", to_account_id="B", cents=5)).then(
        Withdrawn(cents=5), ("accounts/B", Deposited(cents=5, source="transfer"))
    )


def test_a_sentence_that_is_not_so_fails() -> None:
    decided = given(Accounts, OPEN).when(Deposit(account_id="A", cents=5))
    with pytest.raises(AssertionError, match="led to"):
        decided.then(Deposited(cents=6))
    with pytest.raises(AssertionError, match="was accepted"):
        decided.then_refused(InsufficientFunds)
    with pytest.raises(AssertionError, match="led to"):
        decided.then_nothing()
    refused = given(Accounts).when(Deposit(account_id="A", cents=5))
    with pytest.raises(AssertionError, match="was refused"):
        refused.then(Deposited(cents=5))
    with pytest.raises(AssertionError, match="not InsufficientFunds"):
        refused.then_refused(InsufficientFunds)
    with pytest.raises(AssertionError, match="the refusal says"):
        refused.then_refused(NotFound, what="something else")


def test_a_rule_that_needs_a_collection_that_is_not_there_says_so() -> None:
    with pytest.raises(LookupError, match="collection"):
        given(()).when(OPEN)


def test_a_projection_is_the_rows_that_facts_make() -> None:
    rows = given(AccountBalances, OPEN, Deposit(account_id="A", cents=5), rules=Accounts)
    rows.then_row("A", balance_cents=5, version=2)
    rows.then(AccountView(account_id="A", stream="accounts/A", version=2, balance_cents=5))
    rows.when(("accounts/A", AccountClosed())).then_no_row("A")
    rows.then()
    with pytest.raises(AssertionError, match="there is no row"):
        rows.then_row("A", balance_cents=5)
    with pytest.raises(TypeError, match="give the streams"):
        rows.when(OPENED)


def test_a_query_of_one_document_answers_its_row() -> None:
    balance = given(Balance, OPEN, Deposit(account_id="A", cents=5), rules=Accounts)
    balance.when(account_id="A").then(balance_cents=5, stream="accounts/A")
    balance.when(account_id="B").then_not_found()
    with pytest.raises(AssertionError, match="the document says"):
        balance.when(account_id="A").then(balance_cents=6)


@pytest.fixture(name="emptied")
def _emptied() -> Sequence[tuple[str, AccountOpened | Deposited]]:
    return (("accounts/A", OPENED), ("accounts/A", Deposited(cents=5)))


def test_a_workflow_takes_steps_and_its_commands_are_decided(
    emptied: Sequence[tuple[str, AccountOpened | Deposited]],
) -> None:
    reacted = given(CloseEmpty, *emptied, rules=Accounts).when("accounts/A", Withdrawn(cents=5))
    reacted.then(Read("accounts/A", ("Deposited",)), CloseAccount(account_id="A"))
    assert reacted.sent == [CloseAccount(account_id="A")]
    assert not reacted.state("accounts/A").is_open
    reacted.when("accounts/A", Deposited(cents=1)).then_nothing()


def test_a_workflow_learns_what_the_test_says_became_of_a_command(
    emptied: Sequence[tuple[str, AccountOpened | Deposited]],
) -> None:
    close = CloseAccount(account_id="A")
    (
        given(CloseEmpty, *emptied)
        .answering(CloseAccount, NotFound("account"))
        .when("accounts/A", Withdrawn(cents=5))
        .then(Read("accounts/A", ("Deposited",)), Send(close), Schedule("A", NOON, close))
    )
    with pytest.raises(AssertionError, match="the steps are"):
        given(CloseEmpty, *emptied).when("accounts/A", Withdrawn(cents=5)).then_nothing()
