"""
Says in which partition a tenant lives: by a hash that never changes, unless a row says otherwise.

Rows are kept once they are looked up. That a tenant has moved since is noticed by a number that each server counts its
news of moves with: the number of a tenant's home is looked at every `LOOK_SECONDS`, by whoever needs a place of that
server then. A process that appends by an old place is refused in any case.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from event_store.residences import Move, Residences
from event_store.servers import Servers
from infra.telemetry import log
from schemas.envelope import CommitMark
from schemas.errors import StoreUnavailable

PLACEMENTS_CACHED_MAX = 100_000
LOOK_SECONDS = 1.5
"""So old may be what is known of moves."""
LOOK_SECONDS_MAX = 1.0
"""So long does a caller wait for a look; what is known counts where there is no answer."""


def home_of(tenant: str, partitions: Sequence[int]) -> int:
    """Return the partition that the hash of a tenant's name gives. A log's partitions are fixed for its life."""
    return partitions[int.from_bytes(sha256(tenant.encode()).digest()[:8], "big") % len(partitions)]


class Placements:
    """Where tenants live and have lived, as this process knows it."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._known: dict[str, tuple[Residences, int]] = {}
        """With the first partition of its home's server."""
        self._changes: dict[int, int | None] = dict.fromkeys(servers.firsts())
        """By the first partition of each server; None: it has not been asked, or did not answer yet."""
        self._first_of = {at: first for first in self._changes for at in servers.beside(first)}
        self._due: dict[int, float] = dict.fromkeys(self._changes, 0.0)
        self._met = False
        """Whether a tenant that moved was met with, which may be before the next look."""
        self._looks: dict[int, asyncio.Task[None]] = {}
        self._away: set[int] = set()
        """Servers that did not answer: nobody waits for the next look."""

    async def close(self) -> None:
        """End what is under way."""
        for look in self._looks.values():
            look.cancel()
        await asyncio.gather(*self._looks.values(), return_exceptions=True)

    async def of(self, tenant: str) -> Residences:
        """
        Return where a tenant lives and has lived, by the word of its home.

        Raises:
            StoreUnavailable: Its home does not answer.
        """
        known = self._known.get(tenant)
        first = known[1] if known else self._first_of[home_of(tenant, self._servers.partitions)]
        if time.monotonic() >= self._due[first]:
            await self._look(first)
            known = self._known.get(tenant)
        return known[0] if known else self._keep(await self.ask(first, tenant), first)

    async def likely(self, tenant: str) -> Residences:
        """
        Return where a tenant lives and has lived, as any server that answers knows it.

        The word of its home counts. The others are told before it of where it arrived, and besides may know of a
        placement that was cut short.

        Raises:
            StoreUnavailable: None answers.
        """
        home = home_of(tenant, self._servers.partitions)
        for partition in dict.fromkeys((home, *self._servers.firsts())):
            try:
                return await (self.of(tenant) if partition == home else self.ask(partition, tenant))
            except StoreUnavailable:
                continue
        raise StoreUnavailable

    async def any_moved(self) -> bool:
        """Say whether a tenant may ever have moved: in a log where none has, nobody needs to look further."""
        now = time.monotonic()
        if due := [first for first, at in self._due.items() if now >= at]:
            await asyncio.gather(*map(self._look, due))
        return self._met or any(changes != 0 for changes in self._changes.values())

    def forget(self, tenant: str | None = None) -> None:
        """Look again where a tenant lives, or all of them, when that is asked next."""
        if tenant is None:
            self._known.clear()
        else:
            self._known.pop(tenant, None)

    async def ask(self, partition: int, tenant: str) -> Residences:
        """Return what the server of a partition says of a tenant, now."""
        rows = await self._servers.read(
            partition, lambda connection: connection.fetch(self._servers.sql("placement"), tenant)
        )
        placed = rows[0]["partition"]
        moves = [move_of(row) for row in rows if row["number"] is not None]
        self._met = self._met or bool(moves)
        home = home_of(tenant, self._servers.partitions)
        return Residences(tenant, home if placed is None else placed, moves)

    def _keep(self, found: Residences, first: int) -> Residences:
        if len(self._known) >= PLACEMENTS_CACHED_MAX:
            self._known.clear()
        if not found.is_moving:
            self._known[found.tenant] = found, first
        return found

    async def _look(self, first: int) -> None:
        """Look whether a server has news of moves; wait for the answer for a while only, and not for an absent one."""
        look = self._looks.get(first)
        if look is None:
            self._due[first] = time.monotonic() + LOOK_SECONDS
            look = self._looks[first] = asyncio.create_task(self._ask_changes(first), name="look for moves")
        if first not in self._away:
            await asyncio.wait({look}, timeout=LOOK_SECONDS_MAX)
            if not look.done():
                self._away.add(first)
            elif not look.cancelled():
                look.result()

    async def _ask_changes(self, first: int) -> None:
        try:
            row = await self._servers.read(
                first, lambda connection: connection.fetchrow(self._servers.sql("move_changes"))
            )
            if self._changes[first] not in (None, row[0]):
                self._known.clear()
            self._changes[first] = row[0]
            self._away.discard(first)
        except StoreUnavailable as error:
            self._away.add(first)
            log.warning("moves not looked at", partition=first, error=str(error))
        finally:
            self._due[first] = time.monotonic() + LOOK_SECONDS
            del self._looks[first]


def move_of(row: Mapping[str, Any]) -> Move:
    """Return a row of `tenant_moves` as a move."""
    return Move(
        row["tenant"], row["number"], row["from_partition"], CommitMark(row["left_position"], row["left_hash"]),
        row["left_at"], row["to_partition"], row["arrived_position"], row["arrived_at"],
    )  # fmt: skip
