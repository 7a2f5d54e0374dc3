"""
What a live stream is asked for: views, and filters as those views' lists have them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from query_api.freshness import Home
from query_api.parameters import Parameters, error, parse_pairs, parse_parameters
from query_api.query import ListQuery, Query
from schemas.errors import Invalid

VIEWS = "views"
OWN = frozenset({VIEWS, "after", "ticket"})
VIEWS_MAX = 16


def live_views(queries: Iterable[type[Query]]) -> Mapping[str, type[ListQuery]]:
    """
    Return the lists that can be followed, by name: those whose items are the rows of a projection's table.

    A list that computes its items, or has a path of its own, has no rows whose keys events could name.
    """
    return {
        query.route: query
        for query in queries
        if issubclass(query, ListQuery) and not (query.sql or query.frame or "/" in query.route)
    }


@dataclass(frozen=True)
class Watched:
    """One view of one tenant, filtered: what many streams may have in common."""

    tenant: str
    partition: int
    view: str
    query: type[ListQuery] = field(compare=False)
    parameters: Mapping[str, Any] = field(compare=False)
    given: tuple[str, ...] = field(compare=False)
    """The filters that hold."""
    digest: bytes
    """Stands for tenant, view and filters."""
    arrived: int = 0
    """The position at which the tenant arrived in its partition, if it has lived elsewhere before."""

    @property
    def projection(self) -> str:
        """The name of the projection whose rows they are."""
        return self.query.projection.name

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of a row's key."""
        return self.query.projection.tables[self.query.table][1]


def parse_subscription(
    views: Mapping[str, type[ListQuery]], tenant: str, home: Home, query_string: bytes
) -> tuple[Watched, ...]:
    """
    Return what a stream's address asks for. A filter holds for every view that has it.

    Raises:
        Invalid: No view is named, or one that there is not, or a filter that none of them has.
    """
    given: dict[str, list[str]] = {}
    for name, value in parse_pairs(query_string):
        given.setdefault(name, []).append(value)
    names = [name for text in given.pop(VIEWS, []) for name in text.split(",") if name]
    if errors := _view_errors(names, views):
        raise Invalid(errors)
    filters = {name: values for name, values in given.items() if name not in OWN}
    known = {name for view in names for name in filter_names(views[view])}
    if unknown := [name for name in filters if name not in known]:
        raise Invalid([error(name, "is a filter of none of these views") for name in unknown])
    return tuple(_watched(views[name], name, filters, tenant, home) for name in sorted(dict.fromkeys(names)))


def _view_errors(names: list[str], views: Mapping[str, Any]) -> list[dict[str, str]]:
    if not names:
        return [error(VIEWS, f"must name what to follow: {', '.join(sorted(views))}")]
    if len(names) > VIEWS_MAX:
        return [error(VIEWS, f"may name {VIEWS_MAX} views")]
    return [error(VIEWS, f"there is no view {name[:64]!r} to follow") for name in names if name not in views]


def filter_names(query: type[ListQuery]) -> Mapping[str, str]:
    """Return the parameters that filter a list, by their names in the address."""
    return {name: own for name, own in query.parameters.names.items() if own in query.filters}


def _watched(
    query: type[ListQuery], view: str, filters: Mapping[str, list[str]], tenant: str, home: Home
) -> Watched:
    names = filter_names(query)
    pairs = [(name, value) for name, values in filters.items() if name in names for value in values]
    model: type[Parameters] = query.parameters
    parameters = parse_parameters(model, urlencode(pairs).encode())
    own = {name: parameters[name] for name in names.values()}
    given = tuple(sorted(name for name, value in own.items() if value not in (None, ())))
    digest = orjson.dumps([tenant, view, [[name, _text(own[name])] for name in given]], default=str)
    return Watched(tenant, home.partition, view, query, own, given, digest, home.arrived)


def _text(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, tuple) else str(value)


def key_text(key: Sequence[str]) -> str:
    """Return a row's key as messages bear it: its parts as they stand in a path."""
    return "/".join(quote(part, safe="") for part in key)


__all__ = ["Watched", "filter_names", "key_text", "live_views", "parse_subscription"]
