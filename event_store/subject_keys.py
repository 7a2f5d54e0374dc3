"""
The keys of persons as they are stored: wrapped, a row for each generation, on the log's first server.

A person is known here by a hash of tenant and id alone. What is destroyed stays destroyed: its row says so for ever.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from event_store.servers import Servers
from infra.master_keys import Wrapped

SYSTEM_TENANT = ""
"""Whose keys are secrets of the system itself; no tenant has an empty name."""
SEPARATOR = "\x1f"


class Subject(NamedTuple):
    """A person of a tenant, by the hash of their id."""

    tenant: str
    hash: bytes


class KeyName(NamedTuple):
    """One generation of a person's key."""

    tenant: str
    hash: bytes
    generation: int

    @property
    def subject(self) -> Subject:
        """Whose key it is."""
        return Subject(self.tenant, self.hash)


class StoredKey(NamedTuple):
    """A generation of a key, wrapped; None: it has been destroyed."""

    name: KeyName
    wrapped: Wrapped | None


class Living(NamedTuple):
    """Keys that live, and the epoch at which they were seen to."""

    epoch: int
    keys: Sequence[StoredKey]


def subject_of(tenant: str, subject_id: str) -> Subject:
    """Return what a person is known by."""
    return Subject(tenant, sha256(f"{tenant}{SEPARATOR}{subject_id}".encode()).digest())


class SubjectKeys:
    """The table of keys."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._first = servers.firsts()[0]

    async def living(self, subjects: Sequence[Subject]) -> Living:
        """Return the keys of those who have one."""
        rows = await self._fetch("live_subject_keys", *_columns(subjects, 2))
        return _living(rows)

    async def make(self, subjects: Sequence[Subject], wrapped: Sequence[Wrapped]) -> Living:
        """Give persons keys who have none, and return the key that each has now, whoever made it."""
        masters, octets = _columns(wrapped, 2)
        return _living(await self._fetch("make_subject_keys", *_columns(subjects, 2), masters, octets))

    async def find(self, names: Sequence[KeyName]) -> Sequence[StoredKey]:
        """Return certain keys, also destroyed ones; one that is not there was never made in this database."""
        return [_stored(row) for row in await self._fetch("find_subject_keys", *_columns(names, 3))]

    async def erased_since(self, epoch: int | None) -> tuple[int, Sequence[KeyName]]:
        """Return the present epoch, and which keys have been destroyed since an earlier one."""
        rows = await self._fetch("erased_since", epoch)
        return rows[0]["epoch"], [KeyName(*row[1:]) for row in rows if row["subject"] is not None]

    async def destroy(
        self,
        subject: Subject,
        actor: str,
        reason: str,
        *,
        generation: int | None = None,
        erased_at: datetime | None = None,
    ) -> int | None:
        """Destroy a person's key, and open the erasure; see functions/destroy_subject_keys_v1.sql."""
        rows = await self._fetch("destroy_subject_keys", *subject, actor, reason, generation, erased_at)
        destroyed: int | None = rows[0][0]
        return destroyed

    async def wrapped_otherwise(self, master: str, keys_max: int) -> Sequence[StoredKey]:
        """Return some of the keys that another master key has wrapped."""
        return [_stored(row) for row in await self._fetch("keys_to_rewrap", master, keys_max)]

    async def rewrap(self, keys: Sequence[StoredKey], wrapped: Sequence[Wrapped]) -> int:
        """Put keys under another master key, and return how many of them were still there to be put."""
        former = [key.wrapped.master for key in keys if key.wrapped is not None]
        names, masters = _columns([key.name for key in keys], 3), _columns(wrapped, 2)
        return len(await self._fetch("rewrap_keys", *names, former, *masters))

    async def record(self, actor: str, act: str, subject: str, reason: str) -> None:
        """Record what an operator has done with keys."""
        await self._fetch("record_act", actor, act, subject, reason)

    async def by_master(self) -> dict[str, int]:
        """Return how many living keys each master key has wrapped."""
        return {row["master"]: row["keys"] for row in await self._fetch("count_subject_keys")}

    async def _fetch(self, query: str, *arguments: Any) -> Any:
        """Run a statement that may be run again: making and destroying find done what was done before."""
        sql = self._servers.sql(query)
        return await self._servers.read(self._first, lambda connection: connection.fetch(sql, *arguments))


def _columns(rows: Iterable[tuple[Any, ...]], width: int) -> list[list[Any]]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(width)]


def _living(rows: Any) -> Living:
    return Living(
        rows[0]["epoch"] if rows else 0, [_stored(row) for row in rows if row["subject"] is not None]
    )


def _stored(row: Any) -> StoredKey:
    wrapped = None if row["wrapped"] is None else Wrapped(row["master"], row["wrapped"])
    return StoredKey(KeyName(row["tenant"], row["subject"], row["generation"]), wrapped)
