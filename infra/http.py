"""
The thin HTTP layer under both APIs: a request, a reply, and a router that finds handlers by walking the path.

Two routes carry most of the traffic, and a framework's parameter machinery costs them more than all the rest. A
handler is `async def handler(request: Request) -> Reply`, or returns any ASGI response where it streams. Errors
are raised as `ServiceError`s; `infra/edge.py` turns them into problems.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from schemas.errors import MalformedRequest, MethodNotAllowed, NotFound

Headers = list[tuple[bytes, bytes]]
WRITE_WHOLE = "everfold.write_whole"
"""In a scope: what writes a status, headers and body at once, or says that it cannot (`infra/serving.py`)."""
WRITE_PART = "everfold.write_part"
"""In a scope: what writes a part of an answer that has begun at once, or says that it cannot (`infra/serving.py`)."""
SEND_REPLY = "everfold.send_reply"
"""In a scope: what sends a complete reply with all that every answer carries (`infra/edge.py`)."""
ABORT = "everfold.abort"
"""In a scope: what ends the connection at once, whatever waits to be sent."""
WEBSOCKET = "WEBSOCKET"
"""Stands for the method where a request opens a WebSocket."""
JSON = b"application/json"
SINGLE_HEADERS = frozenset(
    {
        b"authorization", b"content-length", b"content-type", b"everfold-position", b"host", b"idempotency-key",
        b"if-match", b"traceparent", b"x-request-id",
    }
)  # fmt: skip
"""Headers of which a second one is a bad request, not a choice."""


class ClientGone(Exception):
    """The client hung up before its request was complete; nobody is left to answer."""


class Request:
    """One request: its path's parameters, headers by lower-case name, and its body when asked for."""

    __slots__ = ("_headers", "method", "parameters", "path", "receive", "scope", "state")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope, self.receive = scope, receive
        self.method: str = scope.get("method", WEBSOCKET)
        self.path: str = scope["path"]
        self.parameters: Mapping[str, str] = {}
        self.state: dict[str, Any] = {}
        self._headers: dict[bytes, bytes] | None = None

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """
        The headers; those that may be repeated are joined with commas.

        Raises:
            MalformedRequest: A header that may stand only once is repeated.
        """
        if self._headers is None:
            pairs: list[tuple[bytes, bytes]] = self.scope["headers"]
            found = dict(pairs)
            self._headers = found if len(found) == len(pairs) else _joined(pairs)
        return self._headers

    def text_header(self, name: bytes) -> str | None:
        """Return a header as text; None where there is none."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def chunks(self) -> Any:
        """
        Return the body's parts as they arrive.

        Raises:
            ClientGone: The client hung up before the end.
        """
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            if part := message.get("body", b""):
                yield part
            if not message.get("more_body", False):
                return


def _joined(pairs: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name in found:
            if name in SINGLE_HEADERS:
                raise MalformedRequest(f"the header {name.decode('latin-1')} stands more than once")
            found[name] += b", " + value
        else:
            found[name] = value
    return found


@dataclass(slots=True)
class Reply:
    """A complete answer."""

    status: int
    body: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*self.headers, (b"content-length", b"%d" % len(self.body))]
        send_reply = scope.get(SEND_REPLY)
        if send_reply is None or not send_reply(self.status, headers, self.body):
            await send({"type": "http.response.start", "status": self.status, "headers": headers})
            await send(
                {"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self.body}
            )


def json_reply(value: Any, *, status: int = 200, headers: Headers | None = None) -> Reply:
    """Return a value as JSON."""
    return Reply(status, orjson.dumps(value), [(b"content-type", JSON), *(headers or ())])


Handler = Callable[[Request], Awaitable[ASGIApp]]
"""What answers a request: a `Reply`, or any ASGI response."""


class _Node:
    __slots__ = ("handlers", "literal", "parameter")

    def __init__(self) -> None:
        self.literal: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.handlers: dict[str, tuple[Handler, tuple[str, ...]]] = {}


class Route(NamedTuple):
    """One declared route."""

    method: str
    template: str
    handler: Handler


class Router:
    """Finds the handler of a path such as `/v1/orders/{order_id}/place`, one look-up for each segment."""

    def __init__(self) -> None:
        self._root = _Node()
        self.routes: list[Route] = []

    def add(self, method: str, template: str, handler: Handler) -> None:
        """Declare a route; `{name}` stands for one segment, whatever it holds. GET answers HEAD too."""
        node, names = self._root, []
        for segment in template.strip("/").split("/"):
            if segment.startswith("{"):
                names.append(segment.strip("{}"))
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literal.setdefault(segment, _Node())
        for name in (method, "HEAD") if method == "GET" else (method,):
            if name in node.handlers:
                raise ValueError(f"{name} {template} is declared twice")
            node.handlers[name] = (handler, tuple(names))
        self.routes.append(Route(method, template, handler))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        request = Request(scope, receive)
        reply = await self.find(request)(request)
        await reply(scope, receive, send)

    def find(self, request: Request) -> Handler:
        """
        Return a request's handler and fill in its path's parameters.

        Raises:
            NotFound, MethodNotAllowed
        """
        found = _walk(self._root, _segments(request.scope), 0, ())
        if found is None:
            raise NotFound("resource")
        node, values = found
        match = node.handlers.get(request.method)
        if match is None:
            raise MethodNotAllowed(sorted(name for name in node.handlers if name != WEBSOCKET))
        handler, names = match
        request.parameters = dict(zip(names, values, strict=True))
        return handler


def _walk(
    node: _Node, segments: Sequence[str], at: int, values: tuple[str, ...]
) -> tuple[_Node, tuple[str, ...]] | None:
    """Return where the segments lead: literal segments before parameters, back where the rest does not fit."""
    while at < len(segments):
        segment = segments[at]
        at += 1
        literal = node.literal.get(segment)
        if node.parameter is None or not segment:
            if literal is None:
                return None
            node = literal
            continue
        if literal is not None:
            found = _walk(literal, segments, at, values)
            if found is not None:
                return found
        node, values = node.parameter, (*values, segment)
    return (node, values) if node.handlers else None


def _segments(scope: Scope) -> list[str]:
    """Split the path as it was sent, so that an encoded slash stays inside its segment."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    parts = raw.decode("latin-1").split("/")[1:]
    if b"%" not in raw:
        return parts
    try:
        return [unquote_to_bytes(part).decode() for part in parts]
    except UnicodeDecodeError as error:
        raise NotFound("resource") from error
