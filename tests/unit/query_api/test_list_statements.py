"""What the SQL of a list says where values are looked up one by one, and where it is framed by a view."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import pytest

from query_api.parameters import PageParameters
from query_api.query import ListQuery, Walk
from query_api.statements import list_statement
from schemas.errors import BadDefinition
from tests.toy import AccountBalances, AccountView


class Owners(PageParameters):
    owner: tuple[str, ...] = ()


class Moved(Owners):
    teller: str | None = None
    since: str | None = None


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


class ByMovement(ListQuery):
    """Accounts, and those that some teller has moved, along the moves' own index."""

    route, projection, view, parameters = "moved-accounts", AccountBalances, AccountView, Moved
    filters: ClassVar[Mapping[str, str]] = {
        "teller": "account_id IN (SELECT moved)", "since": "at >= :since", "owner": "owner = each.value"
    }  # fmt: skip
    walks: ClassVar[Mapping[str, Walk]] = {
        "teller": Walk(
            "SELECT doc, at FROM moves WHERE tenant = :tenant", since=2, sorts=("at",), beside=("since",)
        )
    }
    sorts: ClassVar[Mapping[str, Sequence[str]]] = {"at": ("at",), "account_id": ("account_id",)}


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


@pytest.mark.parametrize(
    ("given", "sort", "version", "walk"),
    [
        (("teller",), "at", 2, "teller"),
        (("sort", "since", "teller"), "at", 3, "teller"),
        (("teller",), "account_id", 2, None),
        (("teller",), "at", 1, None),
        (("teller", "owner"), "at", 2, None),
        (("since",), "at", 2, None),
    ],
)
def test_a_walk_is_taken_only_where_it_has_all_that_is_asked_for(
    given: tuple[str, ...], sort: str, version: int, walk: str | None
) -> None:
    assert ByMovement.walk_of(given, sort, version) == walk


def test_a_walk_takes_the_place_of_its_filters_condition() -> None:
    generations = ((AccountBalances.name, 3),)
    for walk, table in (("teller", "moves"), (None, "everfold_account_balances_3.rows")):
        sql = list_statement(
            "everfold", ByMovement, generations, ("teller", "since"), "at", False, walk=walk
        ).sql
        assert f"FROM {table} WHERE tenant = $" in sql
        assert ("SELECT moved" in sql) == (walk is None)
        assert "at >= $" in sql


@pytest.mark.parametrize(
    ("filter", "sql", "sort"),
    [
        ("nothing", "SELECT :tenant", "at"),
        ("teller", "SELECT 1", "at"),
        ("teller", "SELECT :tenant", "colour"),
    ],
)
def test_a_walk_that_cannot_serve_is_refused(filter: str, sql: str, sort: str) -> None:
    with pytest.raises(BadDefinition):
        type("Wrong", (ByMovement,), {"route": "wrong", "walks": {filter: Walk(sql, since=1, sorts=(sort,))}})
