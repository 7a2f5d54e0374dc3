"""
Errors as RFC 9457 problem documents, the same from every API.

A problem is its error's class and facts: the slug is the type, the docstring's first line the title, the
fields are members. What is a fault of ours says `internal` and nothing else: no stack, SQL, path or host
leaves the process. `GET /problems/{slug}` explains each type from the same docstrings.
"""

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from http import HTTPStatus
from typing import Any

import orjson
from pydantic import BaseModel

from infra.telemetry import current_trace_id
from schemas.errors import (
    BadDefinition,
    EpochChanged,
    MethodNotAllowed,
    Rejection,
    ServiceError,
    Unauthenticated,
    UnknownEvent,
)

MEDIA_TYPE = b"application/problem+json"
RESERVED = frozenset({"type", "title", "status", "detail", "instance", "trace_id"})
INTERNAL_ONLY = (BadDefinition, EpochChanged, UnknownEvent)

Headers = list[tuple[bytes, bytes]]


def problem_of(error: ServiceError, *, instance: str = "") -> dict[str, Any]:
    """Return the problem document of an error; the standard members stand before the error's own."""
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        error = ServiceError()
    document: dict[str, Any] = {
        "type": f"/problems/{error.slug}",
        "title": error.title(),
        "status": int(error.status),
        "detail": error.detail(),
    }
    if instance:
        document["instance"] = instance
    if trace_id := current_trace_id():
        document["trace_id"] = trace_id
    document |= {name: value for name, value in error.facts().items() if name not in RESERVED}
    return document


def encode_problem(error: ServiceError, *, instance: str = "") -> bytes:
    """Return an error's problem document as JSON bytes."""
    return orjson.dumps(problem_of(error, instance=instance), default=_plain, option=orjson.OPT_NON_STR_KEYS)


def problem_headers(error: ServiceError) -> Headers:
    """Return the headers that belong to an error's answer."""
    headers: Headers = [(b"content-type", MEDIA_TYPE)]
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", str(math.ceil(error.retry_after_seconds)).encode()))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b'Bearer realm="everfold"'))
    return headers


def _plain(value: Any) -> Any:
    match value:
        case BaseModel():
            return value.model_dump(mode="json", by_alias=True)
        case Mapping():
            return dict(value)
        case Iterable():
            return list(value)
        case _:
            return str(value)


class ProblemTypes:
    """What `GET /problems/{slug}` answers: every error that can reach a client, explained."""

    def __init__(self, rejections: Iterable[type[Rejection]] = ()) -> None:
        self._by_slug: dict[str, dict[str, Any]] = {}
        known = [*_engine_errors(), *rejections]
        for error in known:
            _check_fields(error)
            self._by_slug.setdefault(error.slug, _explain(error))

    def __contains__(self, slug: object) -> bool:
        return slug in self._by_slug

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_slug)

    def explain(self, slug: str) -> Mapping[str, Any] | None:
        """Return what a problem type means; None for one that does not exist."""
        return self._by_slug.get(slug)


def _engine_errors() -> Iterator[type[ServiceError]]:
    """Return the errors of the engine that clients can meet: no domain's, and no fault of ours but `internal`."""
    yield ServiceError
    waiting = list(ServiceError.__subclasses__())
    while waiting:
        error = waiting.pop(0)
        if issubclass(error, Rejection):
            continue
        waiting.extend(error.__subclasses__())
        if error.status != HTTPStatus.INTERNAL_SERVER_ERROR and not issubclass(error, INTERNAL_ONLY):
            yield error


def _check_fields(error: type[ServiceError]) -> None:
    if taken := RESERVED & set(_field_types(error)):
        raise BadDefinition(
            f"error {error.__name__}", f"{', '.join(sorted(taken))} is a member of every problem"
        )


def _field_types(error: type[ServiceError]) -> dict[str, str]:
    if "__dataclass_fields__" not in dir(error):
        return {}
    return {field.name: str(getattr(field.type, "__name__", field.type)) for field in fields(error)}


def _explain(error: type[ServiceError]) -> dict[str, Any]:
    title, _, rest = inspect.cleandoc(error.__doc__ or error.__name__).partition("\n")
    return {
        "type": f"/problems/{error.slug}",
        "title": title,
        "status": int(error.status),
        "explanation": " ".join(rest.split()) or title,
        "members": _field_types(error) | ({"rule": "str"} if issubclass(error, Rejection) else {}),
        "retry": error.retry_after_seconds is not None,
    }
