"""
The cursor of a page: where the next one begins, opaque and signed, and good for one list asked in one way.

It holds the sort columns' values of the last row. Its signature covers the tenant, the query, the filters and
the order, so a cursor cannot be made up, nor carried over to another question, where it would skip or repeat.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

import orjson

from schemas.errors import MalformedRequest

SIGNATURE_BYTES = 12


class Cursors:
    """Makes and reads cursors with one key; every process that answers the same clients needs the same."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, scope: bytes, values: Sequence[Any]) -> str:
        """Return the cursor of the page that begins after these values."""
        payload = orjson.dumps([_plain(value) for value in values])
        return urlsafe_b64encode(self._sign(scope, payload) + payload).decode().rstrip("=")

    def read(self, scope: bytes, cursor: str) -> list[Any]:
        """
        Return the values that a cursor holds.

        Raises:
            MalformedRequest: It was not made here, or for another question.
        """
        try:
            data = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        except (Base64Error, UnicodeEncodeError, ValueError) as error:
            raise MalformedRequest("the cursor is not one of this list") from error
        signature, payload = data[:SIGNATURE_BYTES], data[SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._sign(scope, payload)):
            raise MalformedRequest("the cursor is not one of this list")
        return [_value(plain) for plain in orjson.loads(payload)]

    def _sign(self, scope: bytes, payload: bytes) -> bytes:
        return hmac.digest(self._key, len(scope).to_bytes(4) + scope + payload, "sha256")[:SIGNATURE_BYTES]


def cursor_key(*secrets: str) -> bytes:
    """Return the key that follows from settings which every process of the system shares."""
    return sha256("\n".join(("everfold cursor", *secrets)).encode()).digest()


def scope_of(tenant: str, query: str, sort: str, parameters: Mapping[str, Any]) -> bytes:
    """Return what a cursor is bound to."""
    return orjson.dumps([tenant, query, sort, sorted(parameters.items())], default=str)


def _plain(value: Any) -> list[Any]:
    match value:
        case datetime():
            return ["t", value.astimezone(UTC).isoformat()]
        case date():
            return ["d", value.isoformat()]
        case Decimal():
            return ["n", str(value)]
        case str() | bool() | int():
            return ["v", value]
        case _:
            raise TypeError(f"a list cannot be sorted by a {type(value).__name__}")


def _value(plain: list[Any]) -> Any:
    kind, value = plain
    match kind:
        case "t":
            return datetime.fromisoformat(value)
        case "d":
            return date.fromisoformat(value)
        case "n":
            return Decimal(value)
        case _:
            return value
