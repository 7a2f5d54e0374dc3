"""
Saved states of streams as they are kept: encrypted as a whole, and void once a person has been erased.

A state may hold what was readable when it was folded, and nobody can tell of whom. So it is kept with the epoch of keys
that it rests on, and where keys have been destroyed since, the stream is folded anew. For a while after that none is
saved: a state from before may still be waiting for it.
"""

import secrets
import time
from collections.abc import Callable, Sequence

import orjson
from cryptography.exceptions import InvalidTag

from event_store.key_ring import KeyRing
from event_store.log import SavedState, Snapshot

NOT_SAVED_SECONDS = 60.0
"""Longer than a state waits to be saved."""
EPOCH_OCTETS = 8
NONCE_OCTETS = 12


class SealedStates:
    """Encrypts and decrypts saved states."""

    def __init__(self, ring: KeyRing, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ring, self._clock = ring, clock
        self._moved_at: dict[int, float] = {}

    def moved(self, partition: int) -> None:
        """Take note that a partition's states have turned out to rest on what was erased."""
        self._moved_at[partition] = self._clock()

    def may_save(self, partition: int) -> bool:
        """Say whether all states that wait to be saved are surely from after the last erasure."""
        moved_at = self._moved_at.get(partition)
        return moved_at is None or self._clock() - moved_at > NOT_SAVED_SECONDS

    async def sealed(self, snapshots: Sequence[Snapshot], epoch: int) -> Sequence[Snapshot]:
        """Return states encrypted, that rest on an epoch."""
        cipher = await self._ring.state_cipher()
        head = epoch.to_bytes(EPOCH_OCTETS, "big")
        done = []
        for one in snapshots:
            nonce = secrets.token_bytes(NONCE_OCTETS)
            bound_to = _bound_to(head, one.tenant, one.stream, one.version)
            done.append(one._replace(state=head + nonce + cipher.encrypt(nonce, one.state, bound_to)))
        return done

    async def opened(self, saved: Sequence[SavedState]) -> Sequence[SavedState] | None:
        """Return states decrypted; None where one of them does not count any more, or never did."""
        epoch = (await self._ring.seen_epoch()).to_bytes(EPOCH_OCTETS, "big")
        cipher = await self._ring.state_cipher()
        done = []
        for one in saved:
            head, nonce = one.state[:EPOCH_OCTETS], one.state[EPOCH_OCTETS : EPOCH_OCTETS + NONCE_OCTETS]
            bound_to = _bound_to(head, one.tenant, one.stream, one.version)
            try:
                state = cipher.decrypt(nonce, one.state[EPOCH_OCTETS + NONCE_OCTETS :], bound_to)
            except (InvalidTag, ValueError):
                return None
            if head != epoch:
                return None
            done.append(one._replace(state=state))
        return done


def _bound_to(head: bytes, tenant: str, stream: str, version: int) -> bytes:
    return head + orjson.dumps([tenant, stream, version])
