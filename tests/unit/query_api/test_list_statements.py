"""What the SQL of a list says where values are looked up one by one, and where it is framed by a view."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from query_api.parameters import PageParameters
from query_api.query import ListQuery
from query_api.statements import list_statement
from tests.toy import AccountBalances, AccountView


class Owners(PageParameters):
    owner: tuple[str, ...] = ()


class ByOwner(ListQuery):
    """Accounts of some owners."""

    route, projection, view, parameters = "accounts-by-owner", AccountBalances, AccountView, Owners
    each = "owner"
    filters: ClassVar[Mapping[str, str]] = {"owner": "owner = each.value"}
    sorts: ClassVar[Mapping[str, Sequence[str]]] = {"account_id": ("owner", "account_id")}


class Framed(ListQuery):
    """An account's movements within what a view says of the account."""

    route, projection, view = "accounts/{account_id}/movements", AccountBalances, AccountView
    table, frame = "movements", "summaries"
    filters: ClassVar[Mapping[str, str]] = {"account_id": "account_id = :account_id"}
    sorts: ClassVar[Mapping[str, Sequence[str]]] = {"at": ("at DESC", "account_id")}


def sql_of(query: type[ListQuery], *given: str, after: bool = False) -> str:
    generations = ((AccountBalances.name, 3),)
    sort = next(iter(query.sorts))
    return list_statement("everfold", query, generations, given, sort, after).sql


def test_each_value_is_read_by_itself_and_only_as_many_rows_as_the_page_has() -> None:
    sql = sql_of(ByOwner, "owner")
    assert "(SELECT DISTINCT unnest($" in sql
    assert sql.count("LIMIT") == 2
    assert "unnest" not in sql_of(ByOwner)


def test_columns_that_go_one_way_are_compared_as_a_row() -> None:
    assert "(body.owner, body.account_id) > (" in sql_of(ByOwner, after=True)


def test_columns_that_go_both_ways_are_compared_one_by_one() -> None:
    assert "body.at <= " in sql_of(Framed, "account_id", after=True)


def test_a_frame_may_be_a_view_with_columns_named_as_the_path() -> None:
    assert "FROM everfold_account_balances_3.summaries WHERE tenant = $" in sql_of(Framed, "account_id")
