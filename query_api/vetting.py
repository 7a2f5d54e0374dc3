"""
Which read tables, and which part of the cache, rest on the history that the log has.

After a restore or a failover that lost the log's end, tables and cache may hold what was folded from the lost part.
Each says by a commit's hash what it rests on, so the log itself is asked: before a partition's tables are first read,
and every second from then on. What does not rest on the log is not read, until a new generation has taken its place.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from event_store.log import Commit
from infra.documents import UNKNOWN_PREFIX
from infra.documents import Place as CachePlace
from query_api.cache import Cache, CacheAway, mark_of
from schemas.errors import StoreUnavailable

VET_SECONDS = 1.0

Vetted = tuple[str, int, int]
"""A projection, its generation, and a partition."""


class Claim(NamedTuple):
    """What something says that it rests on."""

    partition: int
    position: int
    hash_prefix: str


class KnowsCommits(Protocol):
    """What is needed of the log."""

    async def commit_of(self, partition: int, position: int) -> Commit | None:
        """Return the commit that a position belongs to; None when it is still to come."""
        ...


class Vetting:
    """Remembers what has been found; asks again every second."""

    def __init__(self, log: KnowsCommits, cache: Cache | None, namespace: str) -> None:
        self._log, self._cache, self._namespace = log, cache, namespace
        self._era = ""
        self._due = 0.0
        self.sound: frozenset[Vetted] = frozenset()
        """Tables that rest on the log."""
        self.void: frozenset[Vetted] = frozenset()
        """Tables that rest on what the log has lost."""
        self.cached: frozenset[Vetted] = frozenset()
        """Of the sound ones, those of which the cache speaks no other history either."""

    async def look(self, era: str, claims: Mapping[Vetted, Claim]) -> None:
        """
        Vet what the tables claim, where it was not vetted before, and all of it every second.

        Of a partition whose server does not answer, what was found before stays; tables that were never vetted are
        read meanwhile, and the cache is not. A lost end comes to light when the server is back, as nothing is added
        to the partition before.
        """
        if era == self._era and claims.keys() <= self.sound | self.void and time.monotonic() < self._due:
            return
        marks = await self._marks(era, claims)
        found = await self._ask({*claims.values(), *(claim for claim in marks.values() if claim)})
        was_void = self.void if era == self._era else frozenset()
        was_cached = self.cached if era == self._era else frozenset()
        sound = frozenset(
            place
            for place, claim in claims.items()
            if (place not in was_void if (holds := found[claim]) is None else holds)
        )
        self._era, self._due = era, time.monotonic() + VET_SECONDS
        self.sound, self.void = sound, frozenset(claims) - sound
        self.cached = frozenset(
            place
            for place in sound & marks.keys()
            if (mark := marks[place]) is None
            or (place in was_cached if (holds := found[mark]) is None else holds)
        )

    async def _marks(self, era: str, places: Iterable[Vetted]) -> Mapping[Vetted, Claim | None]:
        """Return what the cache claims of each place, None where nothing; nothing at all where it does not answer."""
        if self._cache is None:
            return {}
        wanted = list(places)
        keys = [
            CachePlace(self._namespace, name, generation, era).mark(partition)
            for name, generation, partition in wanted
        ]
        try:
            marks = [mark_of(value) for value in await self._cache.get(keys)] if keys else []
        except CacheAway:
            return {}
        return {
            place: Claim(place[-1], mark.end, mark.hash_prefix) if mark is not None else None
            for place, mark in zip(wanted, marks, strict=True)
        }

    async def _ask(self, claims: Iterable[Claim]) -> Mapping[Claim, bool | None]:
        """Return of claims whether they hold by the log; None where it cannot be asked."""
        asked = list(claims)
        return dict(zip(asked, await asyncio.gather(*(self._holds(claim) for claim in asked)), strict=True))

    async def _holds(self, claim: Claim) -> bool | None:
        if claim.position == 0 or claim.hash_prefix == UNKNOWN_PREFIX:
            return True
        try:
            commit = await self._log.commit_of(claim.partition, claim.position)
        except StoreUnavailable:
            return None
        return commit is not None and commit.hash[:4].hex() == claim.hash_prefix
