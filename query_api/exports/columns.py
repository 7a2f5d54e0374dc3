"""
The columns of a list's items, from their view's declaration: the same whatever the items hold, and none at all too.

Members of members have columns of their own (`total.amount`); what repeats is one column of JSON.
"""

import types
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import orjson
from pydantic import BaseModel

from query_api.query import ListQuery, Query

TEXT, INTEGER, NUMBER, FLAG, DAY, INSTANT, JSON = (
    "text",
    "integer",
    "number",
    "flag",
    "day",
    "instant",
    "json",
)
_KINDS: Mapping[type, str] = {
    bool: FLAG, int: INTEGER, float: NUMBER, str: TEXT, datetime: INSTANT, date: DAY,
}  # fmt: skip


class Column(NamedTuple):
    """One column: where its values are in an item, and what they are."""

    path: tuple[str, ...]
    kind: str

    @property
    def name(self) -> str:
        """What the column is called."""
        return ".".join(self.path)

    def value_of(self, item: Mapping[str, Any]) -> Any:
        """Return an item's value, as JSON has it; JSON text where it is neither text nor a number."""
        value: Any = item
        for name in self.path:
            if value is None:
                return None
            value = value.get(name)
        if self.kind == JSON:
            return None if value is None else orjson.dumps(value).decode()
        return value


def item_view(query: type[Query]) -> type[BaseModel]:
    """Return what a list's items look like."""
    if issubclass(query, ListQuery) and query.frame is not None:
        inner: type[BaseModel] = get_args(query.view.model_fields["items"].annotation)[0]
        return inner
    return query.view


def columns_of(view: type[BaseModel], within: tuple[str, ...] = ()) -> Sequence[Column]:
    """Return the columns of items that look like a view."""
    found: list[Column] = []
    for name, field in view.model_fields.items():
        path = (*within, field.alias or name)
        inner = _plain(field.annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += columns_of(inner, path)
        else:
            found.append(Column(path, _KINDS.get(inner, JSON) if isinstance(inner, type) else JSON))
    return found


def _plain(annotation: Any) -> Any:
    """Return a type without what is said about it, and without null."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain(get_args(annotation)[0])
    if origin is Literal:
        kinds = {type(value) for value in get_args(annotation)}
        return kinds.pop() if len(kinds) == 1 else None
    if origin in (Union, types.UnionType):
        inner = {_plain(part) for part in get_args(annotation) if part is not type(None)}
        return inner.pop() if len(inner) == 1 else None
    return annotation
