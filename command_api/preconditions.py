"""
What a command's headers ask for: an expected version, a key, and how much to answer.
"""

import re
from typing import NamedTuple

from command_api.keys import parse_key
from command_api.requests import MUST_EXIST
from infra.http import Request
from schemas.errors import MalformedRequest, NotAcceptable

_VERSION = re.compile(r'"(0|[1-9]\d{0,15})"')
_JSON_RANGES = frozenset({"*/*", "application/*", "application/json", "application/problem+json"})


class Conditions(NamedTuple):
    """What the headers of one request ask for."""

    key: str | None = None
    expected_version: int | None = None
    representation: bool = False


def read_conditions(request: Request) -> Conditions:
    """
    Return what a request's headers ask for.

    Raises:
        MalformedRequest: A header cannot be understood.
    """
    key = request.text_header(b"idempotency-key")
    return Conditions(
        None if key is None else parse_key(key.strip()),
        _expected_version(request),
        wants_representation(request),
    )


def _expected_version(request: Request) -> int | None:
    if b"if-match" not in request.headers and b"if-none-match" not in request.headers:
        return None
    if_match, if_none_match = request.text_header(b"if-match"), request.text_header(b"if-none-match")
    if if_match is not None and if_none_match is not None:
        raise MalformedRequest("If-Match and If-None-Match contradict each other")
    if if_none_match is not None:
        if if_none_match.strip() != "*":
            raise MalformedRequest("If-None-Match of a command must be *")
        return 0
    assert if_match is not None
    if if_match.strip() == "*":
        return MUST_EXIST
    match = _VERSION.fullmatch(if_match.strip())
    if match is None:
        raise MalformedRequest('If-Match must be one version in quotes, such as "7"')
    return int(match[1])


def refuse_conditions(request: Request) -> None:
    """
    Insist that a batch has its conditions on its commands, not on itself.

    Raises:
        MalformedRequest
    """
    for name in (b"idempotency-key", b"if-match", b"if-none-match"):
        if name in request.headers:
            raise MalformedRequest(f"{name.decode()} belongs to the commands of a batch, not to the batch")


def wants_representation(request: Request) -> bool:
    """Say whether `Prefer: return=representation` is among the preferences; the first `return` counts."""
    prefer = request.headers.get(b"prefer")
    if prefer is None:
        return False
    for preference in prefer.decode("latin-1").split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "return":
            return value.strip().strip('"').lower() == "representation"
    return False


def check_acceptable(request: Request) -> None:
    """
    Insist that the request accepts JSON.

    Raises:
        NotAcceptable
    """
    accept = request.headers.get(b"accept")
    if accept is None or accept in (b"*/*", b"application/json", b""):
        return
    for media_range in accept.decode("latin-1").lower().split(","):
        name, *parameters = (part.strip() for part in media_range.split(";"))
        if name in _JSON_RANGES and not any(re.fullmatch(r"q=0(\.0{0,3})?", item) for item in parameters):
            return
    raise NotAcceptable("application/json")
