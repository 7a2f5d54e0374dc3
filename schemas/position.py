"""
The position token that commands answer with and queries wait for: opaque to clients, one prefix of the log.

`p1.{partition}.{position, hex}.{commit hash, 8 hex digits}.{tenant mark}`. The hash names the history, so a
position that a failover lost is noticed; the mark makes another tenant's token a bad request.
"""

import re
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from schemas.errors import MalformedRequest

_TOKEN = re.compile(r"p1\.([0-9]{1,5})\.([0-9a-f]{1,15})\.([0-9a-f]{8})\.([0-9a-f]{6})")
CHARACTERS_MAX = 128


class Position(NamedTuple):
    """A prefix of one partition: everything up to `position` in the history that `hash_prefix` names."""

    partition: int
    position: int
    hash_prefix: str

    def token(self, tenant: str) -> str:
        """Return the position as clients of this tenant carry it."""
        return f"p1.{self.partition}.{self.position:x}.{self.hash_prefix}.{_mark(tenant)}"


def parse_position(token: str, tenant: str) -> Position:
    """
    Return the position that a client carried back.

    Raises:
        MalformedRequest: It is no position, or another tenant's.
    """
    match = _TOKEN.fullmatch(token) if len(token) <= CHARACTERS_MAX else None
    if match is None or match[4] != _mark(tenant):
        raise MalformedRequest("Everfold-Position is not a position of this tenant")
    return Position(int(match[1]), int(match[2], 16), match[3])


def position_of(partition: int, position: int, commit_hash: bytes) -> Position:
    """Return the position inside the commit with this hash."""
    return Position(partition, position, commit_hash[:4].hex())


@lru_cache(maxsize=10_000)
def _mark(tenant: str) -> str:
    return sha256(tenant.encode()).hexdigest()[:6]
