"""
A query's parameters: from the text of a URL to typed, bounded values, or an error that names the parameter.

A parameter that may repeat is declared as a tuple; any other that stands twice is refused. Nothing is ignored:
who misspells a filter must not get everything instead.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, ClassVar, get_args, get_origin
from urllib.parse import parse_qsl

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from schemas.errors import Invalid
from schemas.messages import Instant, Message

REPEATS_MAX = 100
QUERY_BYTES_MAX = 8_192
PAGE_ITEMS_MAX = 500
PAGE_ITEMS_DEFAULT = 50
CURSOR_CHARACTERS_MAX = 2_048
PATH_CHARACTERS_MAX = 256
"""Of one id in a path, as far as the engine is concerned: what does not exist is not found anyway."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def _midnight(value: Any) -> Any:
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            day = date.fromisoformat(value)
        except ValueError as error:
            raise ValueError("must be a date or an RFC 3339 time") from error
        return datetime.combine(day, time(), UTC)
    return value


Moment = Annotated[Instant, BeforeValidator(_midnight)]
"""A time, or a date that means its beginning in UTC; what half-open ranges are given with."""

Limit = Annotated[int, Field(ge=1, le=PAGE_ITEMS_MAX)]


class Parameters(Message):
    """
    What a query may be asked with, beside its path.

    Fields are optional, with a default; a tuple is a parameter that may repeat. A name that Python reserves
    is given as an alias: `from_: Moment | None = Field(None, alias="from")`.
    """

    repeated: ClassVar[Mapping[str, TypeAdapter[Any]]] = {}
    names: ClassVar[Mapping[str, str]] = {}
    """Field by the name in the URL."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.names = {field.alias or name: name for name, field in cls.model_fields.items()}
        cls.repeated = {
            field.alias or name: TypeAdapter(get_args(field.annotation)[0])
            for name, field in cls.model_fields.items()
            if get_origin(field.annotation) is tuple
        }


class PastParameters(Parameters):
    """What a document that is made from one stream may be asked with."""

    as_of: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        None, description="A time, or a position: the document as it was then."
    )


class PageParameters(Parameters):
    """What every list may be asked with besides."""

    limit: Limit = Field(PAGE_ITEMS_DEFAULT, description="How many items at most.")
    cursor: Annotated[str, Field(max_length=CURSOR_CHARACTERS_MAX)] | None = Field(
        None, description="The `next` of the page before."
    )


def parse_parameters(model: type[Parameters], query_string: bytes) -> dict[str, Any]:
    """
    Return a URL's parameters by field; what is not given has its default.

    Raises:
        Invalid: One is unknown, stands twice, or has a value that cannot be used.
    """
    if not query_string:
        return _validate(model, {}, {})
    given: dict[str, list[str]] = {}
    for name, value in parse_pairs(query_string):
        if "\x00" in value:
            raise Invalid([error(name, "NUL is not allowed")])
        given.setdefault(name, []).append(value)
    unknown = [name for name in given if name not in model.names]
    twice = [name for name, values in given.items() if len(values) > 1 and name not in model.repeated]
    errors = [error(name, "there is no such parameter") for name in unknown]
    errors += [error(name, "stands more than once") for name in twice if name not in unknown]
    if errors:
        raise Invalid(errors)
    single = {name: values[0] for name, values in given.items() if name not in model.repeated}
    repeated = {name: values for name, values in given.items() if name in model.repeated}
    return _validate(model, single, repeated)


def error(name: str, message: str) -> dict[str, str]:
    """Return what is wrong with a parameter, as it stands in the problem."""
    return {"pointer": "/" + name.replace("~", "~0").replace("/", "~1"), "message": message}


def parse_values(adapter: TypeAdapter[Any], name: str, values: Sequence[str]) -> tuple[Any, ...]:
    """
    Return a repeated parameter's values.

    Raises:
        Invalid: There are too many, or one cannot be used.
    """
    if len(values) > REPEATS_MAX:
        raise Invalid([error(name, f"may repeat {REPEATS_MAX} times")])
    try:
        return tuple(adapter.validate_strings(value) for value in values)
    except ValidationError as problem:
        raise Invalid([error(name, problem.errors()[0]["msg"])]) from problem


def _validate(
    model: type[Parameters], single: Mapping[str, str], repeated: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    try:
        parsed = model.model_validate_strings(single)
    except ValidationError as problem:
        errors = [
            error(str(found["loc"][0]) if found["loc"] else "", found["msg"]) for found in problem.errors()
        ]
        raise Invalid(errors) from problem
    values: dict[str, Any] = {name: getattr(parsed, name) for name in model.model_fields}
    for name, texts in repeated.items():
        values[model.names[name]] = parse_values(model.repeated[name], name, texts)
    return values


def parse_pairs(query_string: bytes) -> list[tuple[str, str]]:
    """
    Return the names and values of an address.

    Raises:
        Invalid: It is too long, or not percent-encoded UTF-8.
    """
    if len(query_string) > QUERY_BYTES_MAX:
        raise Invalid([error("", f"the parameters are more than {QUERY_BYTES_MAX} bytes")])
    try:
        return parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict")
    except (UnicodeDecodeError, ValueError) as problem:
        raise Invalid([error("", "the parameters are not percent-encoded UTF-8")]) from problem
