"""The toy domain's queries: one document, one list, one computed object."""

from query_api import ComputedQuery, DocumentQuery, ListQuery, Parameters
from schemas.messages import Count, View
from tests.toy import AccountBalances, AccountView


class AccountParameters(Parameters):
    below_cents: Count | None = None
    account_id: tuple[str, ...] = ()


class GetAccount(DocumentQuery):
    """One account."""

    route, view, projection = "accounts/{account_id}", AccountView, AccountBalances
    stream = "accounts/{account_id}"


class ListAccounts(ListQuery):
    """All accounts, the poorest first."""

    route, view, projection = "accounts", AccountView, AccountBalances
    parameters = AccountParameters
    filters = {  # noqa: RUF012 -- a declaration
        "below_cents": "balance_cents < :below_cents",
        "account_id": "account_id = ANY(:account_id)",
    }
    sorts = {  # noqa: RUF012 -- a declaration
        "balance_cents": ("balance_cents", "account_id"),
        "-balance_cents": ("balance_cents DESC", "account_id"),
        "account_id": ("account_id",),
    }


class Wealth(View):
    accounts: int
    cents: int


class GetWealth(ComputedQuery):
    """What all accounts hold together."""

    route, view, projection = "wealth", Wealth, AccountBalances
    sql = """
        SELECT json_build_object('accounts', count(*), 'cents', coalesce(sum(balance_cents), 0))::text AS doc
        FROM {account_balances}.rows WHERE tenant = :tenant
    """
