"""
What readers are asked and what they answer, before it becomes HTTP.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from query_api.statements import Head


@dataclass(frozen=True, slots=True)
class Asked:
    """One request to a query."""

    tenant: str
    partition: int
    """Where the tenant's events are."""
    path: Mapping[str, str]
    parameters: Mapping[str, Any]
    arrived: int = 0
    """The position at which the tenant arrived there, if it has lived elsewhere before: no answer rests on less."""


class Answer(NamedTuple):
    """What a reader answers."""

    body: bytes | None
    """JSON; None: there is no such thing."""
    digest: str
    """Of the body: what the ETag is made of."""
    position: int
    """The least that all of it reflects."""
    hash_prefix: str
    is_hit: bool = False
    next_cursor: str = ""
    is_held_up: bool = False
    """Events that concern it are parked: waiting will not make it newer."""
    partition: int | None = None
    """Where the position is one; None: where it was asked for."""

    def place(self, asked: "Asked") -> int:
        """Return the partition of the position."""
        return asked.partition if self.partition is None else self.partition


class Reader(Protocol):
    """What answers one query."""

    projections: tuple[str, ...]

    async def read(self, asked: Asked, at_least: int) -> Answer:
        """Return the newest answer there is: one that reflects `at_least` if that can be had now."""
        ...

    async def read_log(self, asked: Asked) -> Answer | None:
        """Return the answer as the log's head has it; None where it cannot be made from one stream, or not now."""
        ...


class Prefixes(Protocol):
    """What knows the log's history: `query_api.freshness.History`."""

    async def hash_prefix(self, partition: int, position: int) -> str | None:
        """Return the first digits of the hash of a position's commit; None when it is still to come."""
        ...


async def least(heads: Mapping[str, Head], partition: int, history: Prefixes) -> tuple[int, str, bool]:
    """Return what all of the parts reflect at least, its hash, and whether parked events hold it there."""
    head = min(map(_before_parked, heads.values()), key=lambda head: head.position)
    if not head.parked:
        return head.position, head.hash_prefix, False
    prefix = await history.hash_prefix(partition, head.position) if head.position else None
    return head.position, prefix or "00000000", True


def _before_parked(head: Head) -> Head:
    if head.parked and head.parked <= head.position:
        return replace(head, position=head.parked - 1)
    return replace(head, parked=0)
