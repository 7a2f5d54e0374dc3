"""
The edge of both APIs: what every request passes on its way in and every answer on its way out.

In: bounds on address and headers, a sane Host, no tokens in addresses, the request's id and trace context.
Out: those ids again, safe defaults for browsers, CORS where it is configured, and every error as a problem.
No decision reads `Host`.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from random import getrandbits
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.http import SEND_REPLY, WRITE_PART, WRITE_WHOLE, ClientGone, Headers, Reply
from infra.problems import encode_problem, problem_headers
from infra.telemetry import Counter, Histogram, log, span, trace_of
from schemas.errors import HeadersTooLarge, MalformedRequest, Overloaded, ServiceError, UriTooLong

URI_BYTES_MAX = 8 * 1024
HEADER_BYTES_MAX = 16 * 1024
HEADERS_MAX = 100
REQUEST_ID_BYTES_MAX = 128

_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")
_REQUEST_ID = re.compile(rb"[!-~]{1,%d}" % REQUEST_ID_BYTES_MAX)
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TOKEN_IN_QUERY = re.compile(rb"(?:^|&)(?:access_token|token|authorization)=", re.IGNORECASE)
_DEFAULTS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_DEFAULT_NAMES = frozenset(name for name, _ in _DEFAULTS)
_EXPOSED = b", ".join(
    (
        b"ETag", b"Everfold-Position", b"Everfold-Stale", b"Idempotent-Replayed", b"Link", b"Preference-Applied",
        b"RateLimit", b"Retry-After", b"X-Request-ID",
    )
)  # fmt: skip
_ALLOWED = b", ".join(
    (
        b"Authorization", b"Content-Type", b"Everfold-Position", b"Idempotency-Key", b"If-Match", b"If-None-Match",
        b"Last-Event-ID", b"Prefer", b"traceparent", b"X-Request-ID",
    )
)  # fmt: skip

_requests = Counter("everfold_http_requests_total", "Requests answered", ["method", "status"])
_seconds = Histogram(
    "everfold_http_request_seconds",
    "Time from a request's head to its answer's end",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)


class Edge:
    """The ASGI application in front of an API's own."""

    def __init__(self, app: ASGIApp, *, cors_origins: Sequence[str] = ()) -> None:
        self.draining = False
        """Set while the process is about to end: what comes now is refused, what is under way is finished."""
        self.on_drain: list[Callable[[], None]] = []
        """Told when the process is about to end: what would otherwise go on for ever ends now."""
        self._app = app
        self._origins = frozenset(origin.encode() for origin in cors_origins)
        self._counters: dict[tuple[str, int], Any] = {}

    def drain(self) -> None:
        """Take note that the process is about to end."""
        self.draining = True
        for tell in self.on_drain:
            tell()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request through (ASGI)."""
        if scope["type"] == "websocket":
            await self._open_socket(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self._origins)
        with trace_of(exchange.traceparent), _request_span(scope, exchange):
            try:
                await self._answer(exchange, scope, receive)
            except ClientGone:
                exchange.status = 499
            except Exception as error:
                await exchange.fail(error)
        # Or these and the scope would refer to each other, and wait for the garbage collector.
        scope.pop(SEND_REPLY, None)
        scope.pop(WRITE_PART, None)
        self._count(scope["method"], exchange)

    async def _open_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request for a WebSocket; what is refused before it is open is answered as a problem."""
        exchange = _Exchange({**scope, "method": "GET"}, partial(_as_denial, send), frozenset())
        is_open = False

        async def note(message: Message) -> None:
            nonlocal is_open
            is_open = is_open or message["type"] == "websocket.accept"
            await send(message)

        with trace_of(exchange.traceparent), _request_span(exchange.scope, exchange):
            try:
                _check(exchange.scope, exchange)
                if self.draining:
                    raise Overloaded
                await self._app(scope, receive, note)
            except Exception as error:
                if is_open:
                    raise
                await exchange.fail(error)
        self._count("GET", exchange)

    async def _answer(self, exchange: "_Exchange", scope: Scope, receive: Receive) -> None:
        _check(scope, exchange)
        if exchange.is_preflight:
            await exchange.preflight()
        elif self.draining and scope["path"] not in ("/livez", "/readyz", "/metrics"):
            raise Overloaded
        else:
            await self._app(scope, receive, exchange.send)

    def _count(self, method: str, exchange: "_Exchange") -> None:
        key = (method, exchange.status)
        counter = self._counters.get(key)
        if counter is None:
            method = (
                method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
            )
            counter = self._counters[key] = _requests.labels(method, str(exchange.status))
        counter.inc()
        _seconds.observe(time.perf_counter() - exchange.started)


class _Exchange:
    """One request's way through: what came with it, and what has been answered."""

    __slots__ = (
        "_origin", "_preflight_for", "_send", "_write_whole", "host", "is_preflight", "parent", "request_id",
        "scope", "size", "started", "status", "traceparent",
    )  # fmt: skip

    def __init__(self, scope: Scope, send: Send, origins: frozenset[bytes]) -> None:
        self.scope, self._send = scope, send
        self.started = time.perf_counter()
        self.status = 0
        self.size = 0
        self.host: bytes | None = None
        self._origin: bytes | None = None
        self._preflight_for: bytes | None = None
        request_id = traceparent = None
        for name, value in scope["headers"]:
            self.size += len(name) + len(value)
            if name == b"x-request-id":
                request_id = value
            elif name == b"traceparent":
                traceparent = value
            elif name == b"host":
                self.host = value if self.host is None else b" repeated "
            elif name == b"origin" and value in origins:
                self._origin = value
            elif name == b"access-control-request-method":
                self._preflight_for = value
        chance = f"{getrandbits(320):080x}"
        if request_id is None or not _REQUEST_ID.fullmatch(request_id):
            request_id = chance[:32].encode()
        self.request_id = request_id
        self.parent: str | None = None
        if traceparent is not None and _TRACEPARENT.fullmatch(traceparent):
            self.parent = traceparent.decode()
        self.traceparent = self.parent or f"00-{chance[32:64]}-{chance[64:]}-01"
        scope["everfold.request_id"] = self.request_id.decode()
        self._write_whole = scope.pop(WRITE_WHOLE, None)
        if self._write_whole is not None:
            scope[SEND_REPLY] = self.send_reply
        self.is_preflight = (
            self._preflight_for is not None and self._origin is not None and scope["method"] == "OPTIONS"
        )

    async def send(self, message: Message) -> None:
        """Add to the answer's head what every answer carries."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = self._complete(message.get("headers", ()))
        await self._send(message)

    def send_reply(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send a complete answer at once; False where it has to go the way of messages."""
        self.status = status
        is_sent: bool = self._write_whole(status, self._complete(headers), body)
        return is_sent

    def _complete(self, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        headers = [*headers, (b"x-request-id", self.request_id)]
        present = _DEFAULT_NAMES.intersection([name for name, _ in headers])
        headers += [pair for pair in _DEFAULTS if pair[0] not in present] if present else _DEFAULTS
        if self._origin is not None:
            headers += [
                (b"access-control-allow-origin", self._origin),
                (b"access-control-expose-headers", _EXPOSED),
                (b"vary", b"Origin"),
            ]
        return headers

    async def preflight(self) -> None:
        """Answer a browser that asks whether it may."""
        await Reply(
            204,
            b"",
            [
                (b"access-control-allow-methods", b"GET, POST, DELETE"),
                (b"access-control-allow-headers", _ALLOWED),
                (b"access-control-max-age", b"600"),
            ],
        )(self.scope, _nothing, self.send)

    async def fail(self, error: Exception) -> None:
        """Answer with a problem, or end an answer that has begun already."""
        if not isinstance(error, ServiceError) or error.status == 500:
            log.error("request failed", path=self.scope["path"], error=type(error).__name__, exc_info=error)
            error = ServiceError()
        if self.status:
            raise error  # the server cuts the connection, so the client sees that the answer is not whole
        headers = [*problem_headers(error), *getattr(error, "headers", ())]
        if error.status in (413, 414, 431):
            headers.append((b"connection", b"close"))
        body = encode_problem(error, instance=self.scope["path"])
        await Reply(int(error.status), body, headers)(self.scope, _nothing, self.send)


def _check(scope: Scope, exchange: _Exchange) -> None:
    query: bytes = scope.get("query_string", b"")
    if len(scope.get("raw_path") or b"") + len(query) > URI_BYTES_MAX:
        raise UriTooLong(URI_BYTES_MAX)
    if exchange.size > HEADER_BYTES_MAX or len(scope["headers"]) > HEADERS_MAX:
        raise HeadersTooLarge(HEADER_BYTES_MAX)
    if exchange.host is not None and not _HOST.fullmatch(exchange.host):
        raise MalformedRequest("the Host header is not a host")
    if query and _TOKEN_IN_QUERY.search(query):
        raise MalformedRequest("a token in an address ends up in logs; send it in the Authorization header")


def _request_span(scope: Scope, exchange: _Exchange) -> AbstractContextManager[Any]:
    return span("http request", parent=exchange.parent, method=scope["method"], path=scope["path"])


async def _as_denial(send: Send, message: Message) -> None:
    """Send a part of a complete answer to who has asked for a WebSocket."""
    await send({**message, "type": message["type"].replace("http.", "websocket.http.", 1)})


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
