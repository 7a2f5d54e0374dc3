"""
The keys of persons as a process has them at hand: loaded many at a time, bounded, and forgotten when destroyed.

No key is handed out on a view of the database that is older than `LOOK_SECONDS`: one small statement asks what has been
destroyed since. So, that long after an erasure is committed, no process encrypts or decrypts with its key any more;
where the database cannot be asked, none is handed out at all.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from event_store.subject_keys import SYSTEM_TENANT, KeyName, StoredKey, Subject, SubjectKeys
from infra.master_keys import MasterKeys, new_key
from schemas.errors import ServiceError, StoreUnavailable

LOOK_SECONDS = 2.0
"""How old a view of what has been destroyed may be."""
KEYS_MAX = 10_000
"""How many keys a process keeps at hand; the ones used last."""
ATTEMPTS_MAX = 5
FINGERPRINTS = Subject(SYSTEM_TENANT, bytes(32))
STATES = Subject(SYSTEM_TENANT, bytes(31) + b"\x01")
"""The names of the system's own secrets."""


@dataclass(eq=False)
class KeyLost(ServiceError):
    """Data is encrypted with a key that this database never had: it is older than the log that it belongs to."""

    tenant: str
    subject_hash: str
    generation: int


class SealingKey(NamedTuple):
    """The key that a person's next data is encrypted with."""

    generation: int
    cipher: AESGCM


class KeyRing:
    """Keys at hand."""

    def __init__(
        self,
        keys: SubjectKeys,
        masters: MasterKeys,
        *,
        keys_max: int = KEYS_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys, self._masters, self._keys_max, self._clock = keys, masters, keys_max, clock
        self._ciphers: OrderedDict[KeyName, AESGCM | None] = OrderedDict()
        self._living: dict[Subject, int] = {}
        self._secrets: dict[Subject, bytes] = {}
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()
        self.epoch: int | None = None
        """Changes whenever a key has been destroyed anywhere; None: nothing is at hand yet."""

    def __len__(self) -> int:
        return len(self._ciphers)

    async def to_open(self, names: Collection[KeyName]) -> Mapping[KeyName, AESGCM | None]:
        """
        Return what decrypts; None where the key has been destroyed.

        Raises:
            KeyLost: The database never had one of the keys.
            StoreUnavailable, MasterKeysAway, MasterKeyMissing
        """
        for _ in range(ATTEMPTS_MAX):
            await self._look()
            epoch = self.epoch
            at_hand = {name: self._ciphers[name] for name in names if name in self._ciphers}
            for name in at_hand:
                self._ciphers.move_to_end(name)
            missing = [name for name in names if name not in at_hand]
            if not missing:
                return at_hand
            stored = {key.name: key for key in await self._keys.find(missing)}
            for name in missing:
                if name not in stored:
                    raise KeyLost(name.tenant, name.hash.hex(), name.generation)
            loaded = await self._unwrap(list(stored.values()))
            if self.epoch == epoch:  # else one of them may have been destroyed while it was on its way
                self._keep(loaded)
                return at_hand | loaded
        raise StoreUnavailable

    async def to_seal(self, subjects: Collection[Subject]) -> Mapping[Subject, SealingKey]:
        """
        Return what encrypts the next data of persons; who has no key is given one.

        Raises:
            StoreUnavailable, MasterKeysAway, MasterKeyMissing
        """
        for _ in range(ATTEMPTS_MAX):
            await self._look()
            epoch = self.epoch
            found = {subject: key for subject in subjects if (key := self._sealing_key(subject)) is not None}
            missing = [subject for subject in subjects if subject not in found]
            if not missing:
                return found
            living = await self._load(missing)
            loaded = await self._unwrap(living)
            if self.epoch == epoch:
                self._keep(loaded)
                for name, cipher in loaded.items():
                    if cipher is not None:
                        self._living[name.subject] = name.generation
                        found[name.subject] = SealingKey(name.generation, cipher)
                if len(found) == len(set(subjects)):
                    return found
        raise StoreUnavailable

    async def fingerprint_secret(self) -> bytes:
        """Return the system's own secret for fingerprints, which stays what it is."""
        return await self._secret(FINGERPRINTS)

    async def state_cipher(self) -> AESGCM:
        """Return what encrypts saved states, which hold values of many persons."""
        return AESGCM(await self._secret(STATES))

    async def seen_epoch(self) -> int:
        """Return the epoch, on a view that is not older than any that keys are handed out on."""
        await self._look()
        assert self.epoch is not None
        return self.epoch

    async def _secret(self, name: Subject) -> bytes:
        secret = self._secrets.get(name)
        if secret is None:
            (stored,) = await self._load([name])
            assert stored.wrapped is not None
            (secret,) = await self._masters.unwrap([stored.wrapped])
            self._secrets[name] = secret
        return secret

    # -- loading ------------------------------------------------------------------------------------------

    async def _load(self, subjects: Sequence[Subject]) -> Sequence[StoredKey]:
        """Return living keys, made where there were none; one that is destroyed meanwhile is left out."""
        living = await self._keys.living(subjects)
        await self._note_epoch(living.epoch)
        there = {key.name.subject for key in living.keys}
        lacking = [subject for subject in subjects if subject not in there]
        if not lacking:
            return living.keys
        wrapped = await self._masters.wrap([new_key() for _ in lacking])
        made = await self._keys.make(lacking, wrapped)
        await self._note_epoch(made.epoch)
        return [*living.keys, *made.keys]

    async def _unwrap(self, keys: Sequence[StoredKey]) -> dict[KeyName, AESGCM | None]:
        wrapped = [(key.name, key.wrapped) for key in keys if key.wrapped is not None]
        unwrapped = await self._masters.unwrap([one for _, one in wrapped])
        ciphers: dict[KeyName, AESGCM | None] = {key.name: None for key in keys}
        for (name, _), octets in zip(wrapped, unwrapped, strict=True):
            ciphers[name] = AESGCM(octets)
        return ciphers

    def _sealing_key(self, subject: Subject) -> SealingKey | None:
        generation = self._living.get(subject)
        if generation is None:
            return None
        name = KeyName(*subject, generation)
        cipher = self._ciphers.get(name)
        if cipher is None:
            return None
        self._ciphers.move_to_end(name)
        return SealingKey(generation, cipher)

    def _keep(self, ciphers: Mapping[KeyName, AESGCM | None]) -> None:
        self._ciphers.update(ciphers)
        while len(self._ciphers) > self._keys_max:
            name, _ = self._ciphers.popitem(last=False)
            self._forget_living(name)

    # -- forgetting ---------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """See what has been destroyed, unless that was done a moment ago."""
        if self._clock() - self._looked_at < LOOK_SECONDS:
            return
        async with self._looking:
            if self._clock() - self._looked_at >= LOOK_SECONDS:
                await self._look_now()

    async def _note_epoch(self, epoch: int) -> None:
        """See what has been destroyed when it shows that something has."""
        if self.epoch is not None and epoch > self.epoch:
            async with self._looking:
                if epoch > self.epoch:
                    await self._look_now()

    async def _look_now(self) -> None:
        asked_at = self._clock()
        epoch, erased = await self._keys.erased_since(self.epoch)
        self._destroyed(erased)
        self.epoch, self._looked_at = epoch, asked_at

    def _destroyed(self, names: Iterable[KeyName]) -> None:
        for name in names:
            self._forget_living(name)
            if name in self._ciphers:
                self._ciphers[name] = None

    def _forget_living(self, name: KeyName) -> None:
        if self._living.get(name.subject) == name.generation:
            del self._living[name.subject]
