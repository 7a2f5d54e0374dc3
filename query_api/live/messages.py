"""
What streams are told, in the one form that both transports carry.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import orjson

SNAPSHOT, SNAPSHOT_END, CHANGE, RESET = "snapshot", "snapshot-end", "change", "reset"
HEARTBEAT = "heartbeat"


class Outgoing(NamedTuple):
    """A row's message, the same for all who are told of the row."""

    key: str
    position: int
    """Of the last event that changed the row: what messages are ordered by."""
    at_key: str | None
    """Where further rows follow that the same event changed: this row's key."""
    data: bytes


class Encode(Protocol):
    """What a transport makes of a message."""

    def __call__(self, event: str, mark: str | None, data: bytes) -> bytes:
        """Return a message in the transport's form; `data` is a JSON object."""
        ...


def put(view: str, key: str, position: str, document: bytes) -> bytes:
    """Return the data of a message that says what a document is now."""
    version = orjson.loads(document).get("version")
    return b'{"view":%b,"key":%b,"version":%b,"position":%b,"op":"put","document":%b}' % (
        *map(orjson.dumps, (view, key, version, position)),
        document.replace(b"\n", b" "),
    )


def delete(view: str, key: str, position: str) -> bytes:
    """Return the data of a message that says that a document is no more, or matches no more."""
    facts = {
        "view": view,
        "key": key,
        "version": None,
        "position": position,
        "op": "delete",
        "document": None,
    }
    return orjson.dumps(facts)


def of_views(views: Sequence[str]) -> bytes:
    """Return the data of a message about whole views."""
    return orjson.dumps({"views": views})


def as_server_sent(event: str, mark: str | None, data: bytes) -> bytes:
    """Return a message as a server-sent event."""
    if event == HEARTBEAT:
        return b": \n" + (b"id: %b\n\n" % mark.encode() if mark else b"\n")
    line = b"id: %b\n" % mark.encode() if mark else b""
    return b"event: %b\n%bdata: %b\n\n" % (event.encode(), line, data)


def as_frame(event: str, mark: str | None, data: bytes) -> bytes:
    """Return a message as the content of a WebSocket frame."""
    head: Mapping[str, Any] = {"event": event, "id": mark}
    return orjson.dumps(head)[:-1] + (b"," + data[1:] if len(data) > 2 else b"}")
