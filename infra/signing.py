"""
The keys that chain heads are signed with (Ed25519), and those that signatures are checked with.

A private key is PEM (`openssl genpkey -algorithm ed25519`), or its 32 octets in base64. Public keys are PEM blocks or
octets in base64, as many as there are: after a change of keys the former ones go on checking what they signed. In
development mode a key is made in the data directory, as for the development issuer.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from infra.secret_file import write_secret_once
from infra.settings import Settings
from schemas.errors import BadDefinition

PRIVATE, PUBLIC = "EVERFOLD_HEADS_KEY", "EVERFOLD_HEADS_PUBLIC_KEYS"
DEVELOPMENT_FILE = "development-heads.pem"
KEY_OCTETS = 32
_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)


class SigningKey:
    """A private key, and the name that signatures say it by."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = CheckingKey(key.public_key())

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message."""
        return self._key.sign(message)


class CheckingKey:
    """A public key. Its id is made of it, so two keys never share one."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.octets = key.public_bytes_raw()
        self.id = sha256(self.octets).hexdigest()[:16]

    def holds(self, signature: bytes, message: bytes) -> bool:
        """Say whether a signature is this key's, of this message."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def signing_key(settings: Settings) -> SigningKey:
    """
    Return the key to sign with.

    Raises:
        BadDefinition: None is given and this is production, or what is given is no Ed25519 key.
    """
    if settings.heads_key is not None:
        return _private(settings.heads_key.get_secret_value())
    if settings.mode == "production":
        raise BadDefinition(PRIVATE, "is not set: make one with `openssl genpkey -algorithm ed25519`")
    path = settings.data_dir / DEVELOPMENT_FILE
    if not path.exists():
        made = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_secret_once(path, made)
    return _private(path.read_text())


def checking_keys(settings: Settings) -> Mapping[str, CheckingKey]:
    """
    Return the keys to check with, by id: those that are named, and that of the key to sign with.

    Raises:
        BadDefinition: There are none, or one is no Ed25519 key.
    """
    keys = [_public(text) for text in _parts(settings.heads_public_keys or "")]
    if settings.heads_key is not None or (not keys and settings.mode == "development"):
        keys.append(signing_key(settings).public)
    if not keys:
        raise BadDefinition(PUBLIC, "is not set: signed heads cannot be checked without a key")
    return {key.id: key for key in keys}


def _parts(text: str) -> list[str]:
    blocks = [match.group() for match in _BLOCK.finditer(text)]
    return blocks + [part for part in re.split(r"[\s,]+", _BLOCK.sub(" ", text)) if part]


def _private(text: str) -> SigningKey:
    try:
        if "-----BEGIN" in text:
            key = serialization.load_pem_private_key(text.encode(), password=None)
        else:
            key = Ed25519PrivateKey.from_private_bytes(_octets(text))
    except (ValueError, TypeError) as error:
        raise BadDefinition(PRIVATE, "is no Ed25519 key, neither PEM nor 32 octets in base64") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadDefinition(PRIVATE, "is a key of another kind; it must be Ed25519")
    return SigningKey(key)


def _public(text: str) -> CheckingKey:
    try:
        if text.startswith("-----BEGIN"):
            key = serialization.load_pem_public_key(text.encode())
        else:
            key = Ed25519PublicKey.from_public_bytes(_octets(text))
    except ValueError as error:
        raise BadDefinition(PUBLIC, "holds something that is no Ed25519 public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BadDefinition(PUBLIC, "holds a key of another kind; it must be Ed25519")
    return CheckingKey(key)


def _octets(text: str) -> bytes:
    plain = text.strip().replace("-", "+").replace("_", "/").rstrip("=")
    try:
        octets = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error
    if len(octets) != KEY_OCTETS:
        raise ValueError(f"{len(octets)} octets")
    return octets
