"""Rows that are their own documents: a dataclass's fields, in order, are the document's members."""

from collections.abc import Mapping
from typing import Any, Self

import orjson

Json = Mapping[str, Any]
"""A part of a document that no fold looks into."""

OPTIONS = orjson.OPT_UTC_Z


class Document:
    """
    A row whose JSON form is its fields.

    A row with fields that JSON has no type for (times, rows of rows) writes `decode` anew.
    """

    __slots__ = ()

    def encode(self) -> bytes:
        """Return the document."""
        return orjson.dumps(self, option=OPTIONS)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the row that `encode` wrote."""
        return cls(**orjson.loads(data))
