"""
The one strict parser of request bodies: bounded in bytes and depth, UTF-8, no duplicate names, no NaN.

What is not JSON in the strict sense is a malformed request as a whole. What is JSON but can't be kept (a NUL in a
string, an integer beyond ±2^53) is invalid where it stands, so in a batch its neighbours are unharmed.
"""

import math
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import jiter
from pydantic import ValidationError

from infra.http import ClientGone, Request
from schemas.errors import MalformedRequest, TooLarge, UnsupportedMediaType
from schemas.messages import INTEGER_MAX

BODY_BYTES_MAX = 1024 * 1024
DEPTH_MAX = 32
ERRORS_MAX = 100
DIGITS_MAX = 400
"""Of one number: as many as a JSON number that means anything can need, and far from what is slow to read."""

_LENGTH = re.compile(rb"\d{1,15}")
_JSON = re.compile(
    rb"application/(?:json|[a-z0-9.-]+\+json)\s*(?:;\s*charset=\"?utf-8\"?\s*)?;?", re.IGNORECASE
)
_DIGITS_ONLY = bytes(
    0x30
    if chr(byte).isdigit() and byte < 128
    else ord("e")
    if chr(byte) in "eE"
    else byte
    if chr(byte) in "+-"
    else 32
    for byte in range(256)
)
_LONG_INTEGER = re.compile(rb"[:,\[\s-][0-9]{%d}" % DIGITS_MAX)
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b'{}[]"\\')
_UNKEEPABLE = re.compile("[\x00\ud800-\udfff]")

Error = dict[str, str]


async def read_body(request: Request, *, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """
    Return a request's body.

    Raises:
        TooLarge: It is longer than it may be, or says so.
        UnsupportedMediaType: It is not JSON, or compressed.
        ClientGone: The client hung up before its end.
    """
    headers = request.headers
    _check_encoding(headers)
    length = headers.get(b"content-length")
    if length is not None and (not _LENGTH.fullmatch(length) or int(length) > bytes_max):
        raise TooLarge(bytes_max)
    message = await request.receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
    else:
        body = await _read_on(request, message, bytes_max)
    if len(body) > bytes_max:
        raise TooLarge(bytes_max)
    if body:
        _check_type(headers)
    return body


async def _read_on(request: Request, message: Any, bytes_max: int) -> bytes:
    body = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > bytes_max:
            raise TooLarge(bytes_max)
        if not message.get("more_body", False):
            return bytes(body)
        message = await request.receive()


def _check_encoding(headers: Mapping[bytes, bytes]) -> None:
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding.strip().lower() not in (b"identity", b""):
        raise UnsupportedMediaType(f"content-encoding {encoding[:64].decode('latin-1')}")


def _check_type(headers: Mapping[bytes, bytes]) -> None:
    kind = headers.get(b"content-type", b"")
    if kind != b"application/json" and not _JSON.fullmatch(kind.strip()):
        raise UnsupportedMediaType(kind[:128].decode("latin-1"))


class Parsed:
    """A body's value, and whether it may hold what cannot be kept."""

    __slots__ = ("suspect", "value")

    def __init__(self, value: Any, *, suspect: bool) -> None:
        self.value, self.suspect = value, suspect

    def errors(self, value: Any, pointer: str) -> list[Error]:
        """Return what in a part of the value cannot be kept, with JSON pointers."""
        if not self.suspect:
            return []
        return list(islice(_unkeepable(value, pointer), ERRORS_MAX))


def parse_json(body: bytes) -> Parsed:
    """
    Return a body's value; an empty body is an empty object.

    Raises:
        MalformedRequest: It is not JSON, names a member twice, or is nested too deeply.
    """
    if not body:
        return Parsed({}, suspect=False)
    digits = body.translate(_DIGITS_ONLY)
    if len(body) >= DIGITS_MAX and b"0" * DIGITS_MAX in digits and _LONG_INTEGER.search(body):
        raise MalformedRequest(f"a number has more than {DIGITS_MAX} digits")
    try:
        value = jiter.from_json(body, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedRequest(f"the body is not JSON: {str(error)[:200]}") from error
    if (
        body.count(b"[") + body.count(b"{") > DEPTH_MAX
        and not _is_flat(body)
        and _is_deeper(value, DEPTH_MAX)
    ):
        raise MalformedRequest(f"the body is nested more than {DEPTH_MAX} deep")
    return Parsed(value, suspect=_is_suspect(body, digits))


def _is_suspect(body: bytes, digits: bytes) -> bool:
    """Say whether a number or string may need a second look; searching bytes is far cheaper than looking at all."""
    return b"\\u" in body or b"0" * 16 in digits or b"0e0" in digits or b"0e+" in digits


def _is_flat(body: bytes) -> bool:
    """
    Say whether the nesting is within its bound, or not known without looking at the values.

    Brackets are taken away in pairs, a level at a time. That is exact where no string holds a bracket or a
    backslash: then every run of quotes between two brackets is even, and none is left.
    """
    structure = body.translate(None, _NOT_STRUCTURE)
    if b"\\" in structure:
        return False
    structure = structure.replace(b'""', b"")
    if b'"' in structure:
        return False
    for _ in range(DEPTH_MAX):
        if not structure:
            return True
        structure = structure.replace(b"{}", b"").replace(b"[]", b"")
    return not structure


def _is_deeper(value: Any, depth_max: int) -> bool:
    level = [value]
    for _ in range(depth_max):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _unkeepable(value: Any, pointer: str) -> Iterator[Error]:
    waiting: list[tuple[Any, str]] = [(value, pointer)]
    while waiting:
        value, pointer = waiting.pop()
        message = ""
        match value:
            case dict():
                for name, inner in value.items():
                    if _UNKEEPABLE.search(name):
                        yield {"pointer": pointer, "message": "a name holds a character that cannot be kept"}
                    waiting.append((inner, f"{pointer}/{escape(name)}"))
            case list():
                waiting.extend((inner, f"{pointer}/{number}") for number, inner in enumerate(value))
            case str() if _UNKEEPABLE.search(value):
                message = "the text holds a character that cannot be kept"
            case bool():
                continue
            case int() if abs(value) > INTEGER_MAX:
                message = "must be an integer within ±2^53"
            case float() if not math.isfinite(value):
                message = "must be a number that can be kept"
        if message:
            yield {"pointer": pointer, "message": message}


def escape(name: str) -> str:
    """Return a member's name as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1") if "~" in name or "/" in name else name


def errors_of(error: ValidationError, pointer: str = "") -> list[Error]:
    """Return what a model found wrong, with JSON pointers into the request."""
    found: list[Error] = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False)[:ERRORS_MAX]:
        place = "".join(f"/{escape(str(part))}" for part in problem["loc"])
        found.append({"pointer": pointer + place, "message": _message(problem["type"], problem["msg"])})
    return found


def _message(kind: str, message: str) -> str:
    match kind:
        case "extra_forbidden":
            return "unknown field"
        case "missing":
            return "is required"
        case _:
            return message.removeprefix("Value error, ")
