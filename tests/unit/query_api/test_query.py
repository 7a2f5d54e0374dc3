"""Declarations: what they become, and those that could not work."""

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from projectors.projection import Projection
from query_api import ComputedQuery, DocumentQuery, ListQuery, Parameters
from query_api.statements import document_statement, list_statement, parse_heads, positional
from schemas import View
from schemas.errors import BadDefinition


@dataclass
class Row:
    """A row of nothing in particular."""


class Things(Projection[Any]):
    name, row, key = "some-things", Row, ("site_id", "thing_id")


class Thing(View):
    thing_id: str


class ThingParameters(Parameters):
    kind: tuple[str, ...] = ()


class GetThing(DocumentQuery):
    route, view, projection = "things/{site_id}/{thing_id}", Thing, Things


class ListThings(ListQuery):
    route, view, projection, parameters = "things", Thing, Things, ThingParameters
    filters: ClassVar = {"kind": "kind = ANY(:kind)"}
    sorts: ClassVar = {"-made_at": ("made_at DESC", "thing_id"), "thing_id": ("thing_id",)}


def test_a_documents_statement_asks_for_tenant_key_and_what_it_rests_on() -> None:
    statement = document_statement("ns", GetThing, 7)
    assert "FROM ns_some_things_7.rows WHERE tenant = $" in statement.sql
    assert {"tenant", "site_id", "thing_id", "partition", "projections", "key", "table_name"} == set(
        statement.names
    )


def test_a_pages_statement_has_only_the_filters_that_are_given() -> None:
    generations = (("some-things", 3),)
    plain = list_statement("ns", ListThings, generations, (), "thing_id", after=False)
    full = list_statement("ns", ListThings, generations, ("kind",), "-made_at", after=True)

    assert "ns_some_things_3.rows" in plain.sql
    assert "kind" not in plain.names
    assert {"kind", "after_0", "after_1", "page_rows"} <= set(full.names)
    assert "ORDER BY body.made_at DESC, body.thing_id" in full.sql


def test_casts_are_not_parameters_and_a_name_is_bound_once() -> None:
    statement = positional("SELECT :a::text, :b, :a, x::timestamptz, '12:30' -- :c")
    assert statement.sql == "SELECT $1::text, $2, $1, x::timestamptz, '12:30'"
    assert statement.names == ("a", "b")
    assert statement.arguments({"a": 1, "b": 2, "z": 3}) == [1, 2]


def test_heads_are_read_by_projection() -> None:
    heads = parse_heads("lots,2,7,0a0b0c0d,5,0,0;orders,1,9,01020304,8,6,4")
    assert (heads["lots"].position, heads["orders"].parked, heads["orders"].tenant_parked) == (7, 6, 4)
    assert parse_heads(None) == {}


def test_a_path_without_the_whole_key_is_refused() -> None:
    with pytest.raises(BadDefinition, match="site_id"):

        class Half(DocumentQuery):
            route, view, projection = "things/{thing_id}", Thing, Things


def test_sql_that_forgets_the_tenant_is_refused() -> None:
    with pytest.raises(BadDefinition, match="tenant"):

        class Everything(ComputedQuery):
            route, view, projection = "all", Thing, Things
            sql = "SELECT '{}' AS doc FROM {some_things}.rows"


def test_a_filter_without_a_parameter_is_refused() -> None:
    with pytest.raises(BadDefinition, match="colour"):

        class Coloured(ListQuery):
            route, view, projection = "coloured", Thing, Things
            filters: ClassVar = {"colour": "colour = :colour"}
            sorts: ClassVar = {"thing_id": ("thing_id",)}


def test_a_list_without_an_order_is_refused() -> None:
    with pytest.raises(BadDefinition, match="order"):

        class Heap(ListQuery):
            route, view, projection = "heap", Thing, Things


def test_a_lifetime_below_nothing_is_refused_and_none_at_all_keeps_out_of_the_cache() -> None:
    class Uncached(DocumentQuery):
        route, view, projection, cache_seconds = "uncached/{site_id}/{thing_id}", Thing, Things, 0

    assert (GetThing.is_cached(), Uncached.is_cached()) == (True, False)
    with pytest.raises(BadDefinition, match="cache_seconds"):

        class Negative(DocumentQuery):
            route, view, projection, cache_seconds = "negative/{site_id}/{thing_id}", Thing, Things, -1
