"""
Encrypts and decrypts the personal fields of messages: AES-256-GCM, a key of the person, a nonce of its own each time.

A sealed value stands where the value stood, as `{"$sealed": "GENERATION.BASE64"}`. What it belongs to is authenticated
with it (tenant, person, key, message, field), so a sealed value that is moved elsewhere does not open there. The rest
of the message stays as it was, byte for byte, and an opened message is what had been sealed, byte for byte; where the
person has been erased it has the field's erased value.
"""

import asyncio
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from event_store.key_ring import KeyRing
from event_store.subject_keys import KeyName, Subject, subject_of
from schemas.errors import ServiceError
from schemas.personal import Found, PersonalFields, find_personal, replaced

MEMBER = "$sealed"
MARK = b'"$sealed"'
FORMAT = "everfold/sealed/1"
NONCE_OCTETS = 12
OPENED_A_TURN = 500
"""After so many messages the loop gets a turn."""


class Sealable(NamedTuple):
    """A message that has personal fields."""

    tenant: str
    place: tuple[str, ...]
    """What names the message for ever: an event's id, type and version."""
    fields: PersonalFields
    data: bytes


@dataclass(eq=False)
class SealBroken(ServiceError):
    """A sealed value is not what was written there: it was changed, or moved from somewhere else."""

    tenant: str
    place: str
    field: str


class Sealed(NamedTuple):
    """A sealed value in a message."""

    found: Found
    key: KeyName
    octets: bytes
    """The nonce, and what is encrypted."""


class Sealer:
    """Seals and opens messages with the keys of a ring."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring

    async def seal(self, messages: Sequence[Sealable]) -> Sequence[bytes]:
        """
        Return messages with their personal values encrypted.

        Raises:
            StoreUnavailable, MasterKeysAway, MasterKeyMissing: A key cannot be had.
        """
        searched = [_search_clear(message) for message in messages]
        subjects = {subject for _, found in searched for _, subject in found}
        if not subjects:
            return [message.data for message in messages]
        keys = await self.ring.to_seal(subjects)
        sealed = []
        for message, (text, found) in zip(messages, searched, strict=True):
            changes = []
            for one, subject in found:
                generation, cipher = keys[subject]
                nonce, value = secrets.token_bytes(NONCE_OCTETS), text[one.start : one.end].encode()
                octets = nonce + cipher.encrypt(nonce, value, _bound_to(message, one, generation))
                changes.append((one, _sealed_value(generation, octets)))
            sealed.append(replaced(text, changes) if changes else message.data)
        return sealed

    async def open(self, messages: Sequence[Sealable]) -> Sequence[bytes]:
        """
        Return messages with their personal values as they were, or as erased.

        What is not the JSON of its message is returned as it is: whoever decodes it will say so.

        Raises:
            SealBroken: A value was changed or moved.
            KeyLost: The database never had its key.
            StoreUnavailable, MasterKeysAway, MasterKeyMissing: A key cannot be had.
        """
        searched: list[tuple[str, Sequence[Sealed]]] = []
        for number, message in enumerate(messages):
            searched.append(_search_sealed(message))
            if number % OPENED_A_TURN == OPENED_A_TURN - 1:
                await asyncio.sleep(0)
        names = {one.key for _, found in searched for one in found}
        keys = await self.ring.to_open(names) if names else {}
        opened = []
        for message, (text, found) in zip(messages, searched, strict=True):
            changes = [(one.found, _opened_value(message, one, keys[one.key])) for one in found]
            opened.append(replaced(text, changes) if changes else message.data)
        return opened


def subjects_in(message: Sealable) -> set[Subject]:
    """Return the persons whose sealed values a message holds."""
    return {one.key.subject for one in _search_sealed(message)[1]}


def _search_clear(message: Sealable) -> tuple[str, Sequence[tuple[Found, Subject]]]:
    """Return the text of a message that was just encoded, and its personal values with the persons they are about."""
    if _surely_has_none(message):
        return "", ()
    text = message.data.decode()
    found = find_personal(message.fields, text)
    return text, [(one, subject_of(message.tenant, one.subject)) for one in found]


def _surely_has_none(message: Sealable) -> bool:
    """Say without parsing whether all personal fields are null: each is then named once, with nothing in it."""
    data = message.data
    return not message.fields.inner and all(
        data.count(name) == 1 and name + b"null" in data
        for name in (b'"%s":' % field.encode() for field in message.fields.own)
    )


def _search_sealed(message: Sealable) -> tuple[str, Sequence[Sealed]]:
    """Return a message's text and its sealed values."""
    if MARK not in message.data:
        return "", ()
    try:
        text = message.data.decode()
        found = find_personal(message.fields, text)
        return text, [_sealed(message.tenant, one) for one in found if _is_sealed(one.value)]
    except ValueError:
        return "", ()


def _is_sealed(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {MEMBER} and isinstance(value[MEMBER], str)


def _sealed(tenant: str, found: Found) -> Sealed:
    generation, _, octets = found.value[MEMBER].partition(".")
    name = KeyName(*subject_of(tenant, found.subject), int(generation))
    return Sealed(found, name, urlsafe_b64decode(octets))


def _sealed_value(generation: int, octets: bytes) -> str:
    return f'{{"{MEMBER}":"{generation}.{urlsafe_b64encode(octets).decode()}"}}'


def _opened_value(message: Sealable, one: Sealed, cipher: AESGCM | None) -> str:
    if cipher is None:
        return one.found.erased.decode()
    try:
        nonce, value = one.octets[:NONCE_OCTETS], one.octets[NONCE_OCTETS:]
        return cipher.decrypt(nonce, value, _bound_to(message, one.found, one.key.generation)).decode()
    except (InvalidTag, ValueError) as error:
        raise SealBroken(message.tenant, " ".join(message.place), one.found.path) from error


def _bound_to(message: Sealable, one: Found, generation: int) -> bytes:
    return orjson.dumps([FORMAT, message.tenant, one.subject, generation, *message.place, one.path])
