"""
Master keys: what the keys of persons are wrapped with, wherever they are kept.

A data key is made here, wrapped, and stored wrapped; who holds the database alone can read nothing. There may be
several master keys, each with an id that stands beside what it has wrapped: the current one wraps, all of them
unwrap, so one can follow another without a stop.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from schemas.errors import ServiceError, Unavailable

KEY_OCTETS = 32


class Wrapped(NamedTuple):
    """A data key as it is stored."""

    master: str
    """The id of the master key that unwraps it."""
    octets: bytes


class MasterKeys(Protocol):
    """Wraps and unwraps data keys: a key provider."""

    async def current(self) -> str:
        """Return the id of the master key that wraps."""
        ...

    async def wrap(self, keys: Sequence[bytes]) -> Sequence[Wrapped]:
        """
        Wrap data keys with the current master key.

        Raises:
            MasterKeysAway: The provider does not answer.
        """
        ...

    async def unwrap(self, wrapped: Sequence[Wrapped]) -> Sequence[bytes]:
        """
        Return data keys.

        Raises:
            MasterKeyMissing: A master key is none that the provider has.
            MasterKeysAway: The provider does not answer.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(eq=False)
class MasterKeyMissing(ServiceError):
    """Data is encrypted under a master key that is not configured here: add it to the file, or keep it in the vault."""

    master: str


@dataclass(eq=False)
class WrongMasterKey(ServiceError):
    """A master key does not unwrap what it is said to have wrapped: the key of that id is another one."""

    master: str


class MasterKeysAway(Unavailable):
    """The provider of master keys does not answer."""


def new_key() -> bytes:
    """Return a new data key."""
    return secrets.token_bytes(KEY_OCTETS)
