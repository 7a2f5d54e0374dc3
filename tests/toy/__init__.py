"""
The toy domain that the engine's own tests use: accounts of money, every layer in one package.

It has what engines get wrong: a command over two streams, one that changes nothing, a rule, a `system` command,
an old event version with its upcast, and a read model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, assert_never

from command_api.decider import Context, Decider, States, To
from infra.domains import Domain
from projectors.projection import Projection, Stream, when
from schemas import Command, Event, Rejection, View, upcast
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


class CloseAccount(Command, route="accounts/{account_id}/close", permission="system"):
    account_id: Id


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


class AccountClosed(Event):
    pass


@dataclass(eq=False)
class InsufficientFunds(Rejection):
    """The account holds less than was asked for."""

    balance_cents: int
    requested_cents: int


class AlreadyOpen(Rejection):
    """The account is open already."""


@dataclass(frozen=True, slots=True)
class Account:
    is_open: bool = False
    balance_cents: int = 0


AccountCommand = OpenAccount | Deposit | Withdraw | Transfer | CloseAccount


class Accounts(Decider[Account]):
    """The rules of accounts."""

    collection, initial = "accounts", Account()

    def streams(self, command: AccountCommand) -> Sequence[str]:
        return [f"accounts/{command.to_account_id}"] if isinstance(command, Transfer) else ()

    def decide(self, command: AccountCommand, states: States, context: Context) -> Sequence[Event | To]:
        account: Account = states[command.stream]
        match command:
            case OpenAccount(owner=owner):
                if account.is_open:
                    raise AlreadyOpen
                return [AccountOpened(owner=owner)]
            case CloseAccount():
                return [AccountClosed()] if account.is_open else []
            case _ if not account.is_open:
                raise NotFound("account")
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
            case AccountClosed():
                return replace(state, is_open=False)
            case _:
                raise TypeError(f"no event of accounts: {event!r}")


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

    name, version, row, key = "account-balances", 1, AccountView, ("account_id",)

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
