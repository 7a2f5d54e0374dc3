"""
Live streams over HTTP: who may open one, what it is asked for, and the stream as server-sent events or a WebSocket.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send

from infra.auth import Authenticator, Principal
from infra.http import ABORT, WRITE_PART, Reply, Request, Router, json_reply
from infra.telemetry import log
from query_api.applied import ReadSide
from query_api.freshness import History, Home
from query_api.live.hub import Hub
from query_api.live.messages import as_frame, as_server_sent
from query_api.live.stream import EXPIRED, GONE, Ended, Stream, TooSlow
from query_api.live.subscription import Watched, parse_subscription
from query_api.live.tickets import TICKET_SECONDS, Admitted, Tickets
from query_api.preferences import WAIT_SECONDS_DEFAULT, check_accept, parse_prefer
from query_api.query import ANY_ROLE
from query_api.tables import TenantMoved
from schemas.errors import (
    Forbidden,
    MalformedRequest,
    NotAcceptable,
    ProjectionBehind,
    ServiceError,
)

EVENT_STREAM = b"text/event-stream"
MARK_CHARACTERS_MAX = 8 * 1024
VIEWER = "viewer"
RETRY = b"retry: 1000\n\n"
CLOSED_GOING_AWAY, CLOSED_BY_POLICY, CLOSED_FOR_TROUBLE = 1001, 1008, 1011
STOPPING = "the server is about to stop"

_HEADERS = (
    (b"content-type", EVENT_STREAM + b"; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


class Opening(NamedTuple):
    """What a request for a stream comes to."""

    admitted: Admitted
    tenant: str
    watched: Sequence[Watched]
    known: Any
    at_least: int


class LiveEndpoint:
    """Opens live streams."""

    def __init__(
        self,
        hub: Hub,
        *,
        authenticator: Authenticator,
        tickets: Tickets,
        history: History,
        side: ReadSide,
    ) -> None:
        self._hub = hub
        self._authenticator, self._tickets = authenticator, tickets
        self._history, self._side = history, side

    def add_to(self, router: Router) -> None:
        """Declare the routes."""
        router.add("GET", "/v1/live", self.server_sent)
        router.add("WEBSOCKET", "/v1/live/ws", self.socket)
        router.add("GET", "/v1/live/ws", _no_socket)
        router.add("POST", "/v1/live/tickets", self.ticket)

    async def ticket(self, request: Request) -> ASGIApp:
        """Answer with a ticket."""
        admitted = Admitted(
            *await self._authenticator.authenticate_until(request.headers.get(b"authorization"))
        )
        check_accept(request.headers.get(b"accept"))
        _tenant_of(admitted.principal, ANY_ROLE)
        ticket = await self._tickets.make(admitted)
        return json_reply({"ticket": ticket, "expires_in": TICKET_SECONDS}, status=201)

    async def server_sent(self, request: Request) -> ASGIApp:
        """Answer with a stream of server-sent events."""
        _check_accept_events(request.headers.get(b"accept"))
        opening = await self._open(request)
        if request.method == "HEAD":
            return Reply(200, b"", _HEADERS)
        return ServerSent(self._hub, opening)

    async def socket(self, request: Request) -> ASGIApp:
        """Answer with a WebSocket."""
        return Socket(self._hub, await self._open(request))

    async def _open(self, request: Request) -> Opening:
        headers = request.headers
        query: bytes = request.scope["query_string"]
        given = dict(parse_qsl(query.decode("latin-1")))
        self._side.require()
        ticket = given.get("ticket")
        authorization = headers.get(b"authorization")
        if ticket is not None and authorization is None:
            admitted = await self._tickets.take(ticket)
        else:
            admitted = Admitted(*await self._authenticator.authenticate_until(authorization))
        principal = admitted.principal
        tenant = _tenant_of(principal, ANY_ROLE)
        home = await self._history.home_of(tenant)
        partition = home.partition
        watched = parse_subscription(self._hub.views, tenant, home, query)
        for one in watched:
            _tenant_of(principal, one.query.permission)
        projections = [one.projection for one in watched]
        await self._side.generations(projections, partition)
        mark = request.text_header(b"last-event-id") or given.get("after")
        if mark is not None and len(mark) > MARK_CHARACTERS_MAX:
            raise MalformedRequest("the mark is too long")
        known = self._hub.marks.read(watched, mark) if mark else None
        at_least = await self._reach(request, tenant, home, projections)
        return Opening(admitted, tenant, watched, known, at_least)

    async def _reach(self, request: Request, tenant: str, home: Home, projections: Sequence[str]) -> int:
        """Wait for the position that a request carries, and for the arrival of a tenant that has moved."""
        token = request.text_header(b"everfold-position")
        position = home.arrived
        if token is not None:
            needed = await self._history.parse(token, tenant)
            if needed.partition != home.partition:
                raise TenantMoved(tenant)
            position = max(position, needed.position)
        if position == 0:
            return 0
        preferences = parse_prefer(request.headers.get(b"prefer"))
        seconds = WAIT_SECONDS_DEFAULT if preferences.wait_seconds is None else preferences.wait_seconds
        until = asyncio.get_running_loop().time() + seconds
        if not await self._side.wait(projections, home.partition, position, until):
            raise ProjectionBehind(token or "", float(seconds))
        return position


def _tenant_of(principal: Principal, permission: str) -> str:
    if permission != ANY_ROLE:
        principal.require(permission)
    elif not principal.roles:
        raise Forbidden(VIEWER)
    return principal.tenant_or_refuse(permission or VIEWER)


def _check_accept_events(header: bytes | None) -> None:
    if header is not None and not any(
        wanted in header.lower() for wanted in (EVENT_STREAM, b"text/*", b"*/*")
    ):
        raise NotAcceptable(EVENT_STREAM.decode())


async def _no_socket(_request: Request) -> ASGIApp:
    raise MalformedRequest("open this as a WebSocket; for server-sent events there is /v1/live")


@dataclass(slots=True)
class ServerSent:
    """A stream of server-sent events (ASGI)."""

    hub: Hub
    opening: Opening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, until it ends."""
        opening = self.opening

        async def write(frames: Sequence[bytes]) -> None:
            await send({"type": "http.response.body", "body": b"".join(frames), "more_body": True})

        with self.hub.place(opening.admitted.principal, opening.tenant):
            stream = Stream(
                self.hub,
                opening.watched,
                as_server_sent,
                write,
                opening.admitted.expires,
                opening.at_least,
                scope.get(WRITE_PART),
            )
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
            await write([RETRY])
            gone = asyncio.ensure_future(receive_until_gone(receive, stream))
            try:
                await self.hub.run(stream, opening.known)
            except Ended as end:
                if end.reason != GONE:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
            except TooSlow:
                _abort(scope)
            except ServiceError as error:  # the client comes back with its mark, or is told why not
                log.info("live stream ended", error=repr(error))
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                gone.cancel()


async def receive_until_gone(receive: Receive, stream: Stream) -> None:
    """End a stream when its client has gone."""
    while True:
        message = await receive()
        if message["type"] in ("http.disconnect", "websocket.disconnect"):
            stream.end(GONE)
            return


@dataclass(slots=True)
class Socket:
    """A WebSocket (ASGI). What the client sends is not looked at."""

    hub: Hub
    opening: Opening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send frames, until the stream ends."""
        opening = self.opening

        async def write(frames: Sequence[bytes]) -> None:
            for frame in frames:
                await send({"type": "websocket.send", "text": frame.decode()})

        with self.hub.place(opening.admitted.principal, opening.tenant):
            stream = Stream(
                self.hub, opening.watched, as_frame, write, opening.admitted.expires, opening.at_least
            )
            await receive()  # that it connects
            await send({"type": "websocket.accept"})
            gone = asyncio.ensure_future(receive_until_gone(receive, stream))
            try:
                await self.hub.run(stream, opening.known)
            except Ended as end:
                if end.reason != GONE:
                    code = CLOSED_BY_POLICY if end.reason == EXPIRED else CLOSED_GOING_AWAY
                    await send({"type": "websocket.close", "code": code, "reason": end.reason})
            except TooSlow:
                _abort(scope)
            except ServiceError as error:
                log.info("live stream ended", error=repr(error))
                await send({"type": "websocket.close", "code": CLOSED_FOR_TROUBLE, "reason": error.title()})
            finally:
                gone.cancel()


def _abort(scope: Scope) -> None:
    log.info("live stream dropped", path=scope["path"])
    abort = scope.get(ABORT)
    if abort is not None:
        abort()
