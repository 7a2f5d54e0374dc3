"""
Idempotency keys: how they are written in requests, and what makes two requests the same.
"""

import hmac
import re
from hashlib import sha256

from command_api.requests import CommandRequest
from event_store.log import IdempotencyKey
from schemas.errors import MalformedRequest
from schemas.messages import format_instant

KEY_CHARACTERS_MAX = 255
_KEY = re.compile(r"[!-~]{1,255}")


def parse_key(text: str) -> str:
    """
    Return a key without the quotes it may stand in: quoted and bare are the same key.

    Raises:
        MalformedRequest: It is not 1 to 255 visible characters.
    """
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = re.sub(r'\\(["\\])', r"\1", text[1:-1])
    if not _KEY.fullmatch(text):
        raise MalformedRequest(f"an idempotency key is 1 to {KEY_CHARACTERS_MAX} visible characters")
    return text


def key_of(request: CommandRequest, secret: bytes | None = None) -> IdempotencyKey | None:
    """
    Return the key that a request binds when it is accepted; None where it has none.

    `secret` is the system's, for commands with personal fields: a plain hash of a telephone number, stored beside all
    else that was asked, would give the number away to whoever tries them all.
    """
    if request.key is None:
        return None
    fingerprint = fingerprint_of(request)
    if secret is not None:
        fingerprint = hmac.digest(secret, fingerprint, "sha256")
    return IdempotencyKey(request.principal.subject, request.key, fingerprint)


def fingerprint_of(request: CommandRequest) -> bytes:
    """Return the hash of what was asked: the parsed command with its ids, and what it expects."""
    command = request.command
    asked = sha256(command.command_name.encode())
    asked.update(b"\n")
    asked.update(command.__pydantic_serializer__.to_json(command))
    occurred_at = "" if request.occurred_at is None else format_instant(request.occurred_at)
    asked.update(f"\n{request.expected_version}\n{occurred_at}\n{request.reason or ''}".encode())
    return asked.digest()
