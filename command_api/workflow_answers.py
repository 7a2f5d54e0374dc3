"""
What a reaction has been told that the log does not keep, written down before the reaction acts on it.

A refusal binds no key, so after a crash the same command might be accepted; and a read might find more. A
reaction that runs again is told what it was told the first time, and so does the same again. Accepted commands need
no note: their keys bring the first answer back.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from schemas.errors import BadDefinition, ServiceError

Notes = Mapping[str, bytes]
"""By step."""


def note_refusal(error: ServiceError) -> bytes:
    """Return a refusal as bytes."""
    facts = {name: value for name, value in error.facts().items() if name != "rule"}
    return orjson.dumps({"refused": error.slug, "facts": facts}, default=list)


def note_read(position: int) -> bytes:
    """Return how far a read went as bytes."""
    return orjson.dumps({"read_until": position})


def refusal_of(note: bytes) -> ServiceError:
    """
    Return the error that `note_refusal` wrote.

    Raises:
        BadDefinition: This program has no such error.
    """
    members: dict[str, Any] = orjson.loads(note)
    for error in _errors(ServiceError):
        if error.slug == members["refused"]:
            return error(**members["facts"])
    raise BadDefinition(
        str(members["refused"]), "a workflow was told this error, and it is not defined any more"
    )


def read_until(note: bytes) -> int:
    """Return the position that `note_read` wrote."""
    position: int = orjson.loads(note)["read_until"]
    return position


def _errors(branch: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for error in branch.__subclasses__():
        yield error
        yield from _errors(error)
