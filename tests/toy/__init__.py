"""
The toy domain that the engine's own tests use: accounts of money, every layer in one package.

It has what engines get wrong: a command over two streams, one that changes nothing, a rule, a rule over all streams
by tag, a `system` command, old events with their upcasts (an older version, a renamed type, one that is two today, one
that no longer counts), and a read model.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Never, assert_never

from command_api.decider import Context, Decider, States, To
from infra.domains import Domain
from projectors.projection import Projection, Stream, when
from schemas import Command, Event, Notice, Rejection, View, upcast
from schemas.errors import NotFound
from schemas.messages import Amount, Id, Quantity, Text

DOMAIN = Domain(
    "toy", modules=dict.fromkeys(("schemas", "command_api", "projectors", "query_api"), "tests.toy")
)


class OpenAccount(Command, route="accounts/{account_id}/open", permission="clerk"):
    account_id: Id
    owner: Text


class Deposit(Command, route="accounts/{account_id}/deposit", permission="clerk"):
    account_id: Id
    cents: Quantity


class Withdraw(Command, route="accounts/{account_id}/withdraw", permission="clerk"):
    account_id: Id
    cents: Quantity


class Transfer(Command, route="accounts/{account_id}/transfer", permission="clerk"):
    account_id: Id
    to_account_id: Id
    cents: Quantity


class NameAccount(Command, route="accounts/{account_id}/name", permission="clerk"):
    account_id: Id
    alias: Id


class CloseAccount(Command, route="accounts/{account_id}/close", permission="system"):
    account_id: Id


class AccountGreeted(Notice, channel="greetings", type="toy.AccountGreeted.v1"):
    """An owner is welcome."""

    account_id: Id
    owner: Text

    def summary(self) -> str:
        """Return it as a sentence."""
        return f"Welcome, {self.owner}"


class AccountOpened(Event):
    owner: Text


class Deposited(Event, version=2):
    cents: Amount
    source: Text = "cash"


class DepositedV1(Event, type="Deposited"):
    cents: Amount


@upcast
def deposited_from_v1(event: DepositedV1) -> Deposited:
    return Deposited(cents=event.cents, source="unknown")


class Withdrawn(Event):
    cents: Amount


class AccountNamed(Event):
    alias: Id


class AccountClosed(Event):
    pass


class AccountShutV1(Event, type="AccountShut"):
    """What `AccountClosed` was called."""


class AccountOpenedWithV1(Event, type="AccountOpenedWith"):
    owner: Text
    cents: Amount


class AccountPolished(Event):
    pass


@upcast
def account_shut(event: AccountShutV1) -> AccountClosed:
    return AccountClosed()


@upcast
def account_opened_with(event: AccountOpenedWithV1) -> list[AccountOpened | DepositedV1]:
    return [AccountOpened(owner=event.owner), DepositedV1(cents=event.cents)]


@upcast
def account_polished(event: AccountPolished) -> list[Never]:
    return []


@dataclass(eq=False)
class InsufficientFunds(Rejection):
    """The account holds less than was asked for."""

    balance_cents: int
    requested_cents: int


@dataclass(eq=False)
class AliasTaken(Rejection):
    """Another open account goes by that name."""

    alias: str
    account_id: str


class AlreadyOpen(Rejection):
    """The account is open already."""


@dataclass(frozen=True, slots=True)
class Account:
    is_open: bool = False
    balance_cents: int = 0
    alias: str | None = None


AccountCommand = OpenAccount | Deposit | Withdraw | Transfer | NameAccount | CloseAccount


class Accounts(Decider[Account]):
    """The rules of accounts."""

    collection, initial = "accounts", Account()

    def streams(self, command: AccountCommand) -> Sequence[str]:
        match command:
            case Transfer(to_account_id=other):
                return [f"accounts/{other}"]
            case NameAccount(alias=alias):
                return [f"aliases/{alias}"]
        return ()

    def decide(self, command: AccountCommand, states: States, context: Context) -> Sequence[Event | To]:
        account: Account = states[command.stream]
        match command:
            case OpenAccount(owner=owner):
                if account.is_open:
                    raise AlreadyOpen
                return [AccountOpened(owner=owner)]
            case CloseAccount():
                tags = [f"aliases/{account.alias}"] if account.alias else ()
                return [To(command.stream, AccountClosed(), tags)] if account.is_open else []
            case _ if not account.is_open:
                raise NotFound("account")
            case NameAccount(alias=alias):
                holder = states[f"aliases/{alias}"]
                if holder not in (None, command.account_id):
                    raise AliasTaken(alias, holder)
                return [] if holder else [To(command.stream, AccountNamed(alias=alias), [f"aliases/{alias}"])]
            case Deposit(cents=cents):
                return [Deposited(cents=cents)]
            case Withdraw(cents=cents):
                return [_withdrawn(account, cents)]
            case Transfer(to_account_id=other, cents=cents):
                if not states[f"accounts/{other}"].is_open:
                    raise NotFound("account")
                deposited = Deposited(cents=cents, source="transfer")
                return [_withdrawn(account, cents), To(f"accounts/{other}", deposited)]
            case _:
                assert_never(command)

    def evolve(self, state: Account, event: Any) -> Account:
        match event:
            case AccountOpened():
                return Account(is_open=True)
            case Deposited(cents=cents):
                return replace(state, balance_cents=state.balance_cents + cents)
            case Withdrawn(cents=cents):
                return replace(state, balance_cents=state.balance_cents - cents)
            case AccountNamed(alias=alias):
                return replace(state, alias=alias)
            case AccountClosed():
                return replace(state, is_open=False, alias=None)
            case _:
                raise TypeError(f"no event of accounts: {event!r}")


class Aliases(Decider[str | None]):
    """Which open account goes by a name."""

    collection, initial, by_tag = "aliases", None, True

    def evolve_tagged(self, state: str | None, stream: str, event: Any) -> str | None:
        return stream.split("/")[1] if isinstance(event, AccountNamed) else None


def _withdrawn(account: Account, cents: int) -> Withdrawn:
    if cents > account.balance_cents:
        raise InsufficientFunds(account.balance_cents, requested_cents=cents)
    return Withdrawn(cents=cents)


class AccountView(View):
    """What an account holds."""

    account_id: str
    stream: str
    version: int
    balance_cents: int = 0

    def encode(self) -> bytes:
        return self.model_dump_json().encode()

    @classmethod
    def decode(cls, data: bytes) -> "AccountView":
        return cls.model_validate_json(data)


class AccountBalances(Projection[AccountView]):
    """One row for each account: what it holds."""

    name, row, key = "account-balances", AccountView, ("account_id",)
    version = int(os.environ.get("EVERFOLD_TOY_BALANCES_VERSION", "1"))
    """So that a test can run programs of two versions side by side."""

    @when(AccountOpened, Deposited, Withdrawn)
    def moved(self, row: AccountView | None, event: Event, stream: Stream) -> AccountView:
        row = row or AccountView(account_id=stream.ids[0], stream=stream.name, version=0)
        match event:
            case Deposited(cents=cents):
                balance_cents = row.balance_cents + cents
            case Withdrawn(cents=cents):
                balance_cents = row.balance_cents - cents
            case _:
                balance_cents = row.balance_cents
        return row.model_copy(update={"version": stream.version, "balance_cents": balance_cents})

    @when(AccountClosed)
    def closed(self, row: AccountView | None, event: Event, stream: Stream) -> None:
        return None
