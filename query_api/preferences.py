"""
What a client prefers and what it has already: `Prefer` (RFC 7240), `If-None-Match` and `Accept` (RFC 9110).
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from schemas.errors import NotAcceptable

WAIT_SECONDS_DEFAULT = 2
WAIT_SECONDS_MAX = 30
JSON = "application/json"

_PREFERENCE = re.compile(r'\s*([\w-]+)\s*(?:=\s*(?:"([^"]*)"|([^\s;,"]*)))?\s*(?:;[^,]*)?')
_RANGE = re.compile(r"([^;,\s]+)\s*(;[^,]*)?")
_WEIGHT = re.compile(r";\s*q\s*=\s*([01](?:\.\d{0,3})?)")
_ZERO_WEIGHT = re.compile(r";\s*q\s*=\s*0(\.0{0,3})?\s*(;|$)", re.IGNORECASE)


class Preferences(NamedTuple):
    """What was preferred and is honoured."""

    wait_seconds: int | None = None
    is_lenient: bool = False

    @property
    def applied(self) -> bytes | None:
        """The value of Preference-Applied; None where nothing was asked for."""
        parts = [] if self.wait_seconds is None else [f"wait={self.wait_seconds}"]
        if self.is_lenient:
            parts.append("handling=lenient")
        return ", ".join(parts).encode() or None


NO_PREFERENCES = Preferences()


def parse_prefer(header: bytes | None) -> Preferences:
    """Return the preferences that this API honours; all others are ignored, as the RFC says."""
    if header is None:
        return NO_PREFERENCES
    found: dict[str, str] = {}
    for part in header.decode("latin-1").split(","):
        match = _PREFERENCE.fullmatch(part)
        if match is not None:
            found.setdefault(match[1].lower(), match[2] or match[3] or "")
    wait = found.get("wait", "")
    seconds = min(int(wait), WAIT_SECONDS_MAX) if re.fullmatch(r"[0-9]{1,9}", wait) else None
    return Preferences(seconds, found.get("handling") == "lenient")


def etag_of(digest: str) -> bytes:
    """Return the ETag of a body with this digest."""
    return b'"' + digest.encode() + b'"'


def matches(if_none_match: bytes, etag: bytes) -> bool:
    """Say whether the client has this already."""
    if if_none_match == etag:
        return True
    tags = [tag.strip().removeprefix(b"W/") for tag in if_none_match.split(b",")]
    return etag in tags or tags == [b"*"]


def ranges_of(accept: bytes) -> Mapping[str, float]:
    """Return the media ranges of an Accept header with their weights."""
    return {
        media_range: float(match[1]) if (match := _WEIGHT.search(more)) else 1.0
        for media_range, more in _RANGE.findall(accept.decode("latin-1").lower())
    }


def check_accept(header: bytes | None) -> None:
    """
    Insist that JSON may be answered.

    Raises:
        NotAcceptable: The client does not take it.
    """
    if header is None or header in (b"*/*", b"application/json"):
        return
    best: tuple[int, bool] = (-1, False)
    for media_range, weight in _RANGE.findall(header.decode("latin-1").lower()):
        specific = {"*/*": 0, "application/*": 1, JSON: 2}.get(media_range, -1)
        if specific > best[0]:
            best = (specific, not _ZERO_WEIGHT.search(weight))
    if not best[1]:
        raise NotAcceptable(JSON)
