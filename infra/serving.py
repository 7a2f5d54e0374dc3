"""
Serves an API with uvicorn, and guards its connections where the server itself sets no bounds.

The server has no time-out for receiving a request, and no bound on a request's head: both are set here, below
the application. On SIGTERM the process stops being ready, then refuses what comes late, finishes what is under
way, and leaves.
"""

import asyncio
import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from infra.application import Application
from infra.edge import Edge
from infra.garbage import collect_seldom
from infra.http import ABORT, WRITE_PART, WRITE_WHOLE, Headers
from infra.problems import encode_problem
from infra.telemetry import log
from schemas.errors import BadDefinition, HeadersTooLarge, MalformedRequest, ServiceError

HEAD_BYTES_MAX = 64 * 1024
HEAD_SECONDS_MAX = 10.0
BODY_SECONDS_MAX = 30.0
WATCH_SECONDS = 2.5
IDLE_SECONDS_MAX = 75
SHUTDOWN_SECONDS_MAX = 5
LATE_SECONDS = 0.25
"""After the signal: long enough for requests that were on their way to be told to come back later."""
BACKLOG = 2_048
SOCKET_MESSAGE_BYTES_MAX = 64 * 1024


class GuardedProtocol(HttpToolsProtocol):
    """One connection, with bounds on a request's head, and on how long its head and body may take to arrive."""

    _head_bytes = 0
    _in_head = True
    _deadline = math.inf
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its base does
        """Begin to watch."""
        super().connection_made(transport)
        self._deadline = self.loop.time() + HEAD_SECONDS_MAX
        self._watch = self.loop.call_later(WATCH_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        if self.loop.time() > self._deadline:
            self.transport.close()
            return
        self._watch = self.loop.call_later(WATCH_SECONDS, self._look)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a request's head before it is kept."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX and b"\r\n\r\n" not in data:
                self._refuse(HeadersTooLarge(HEAD_BYTES_MAX))
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Give the head its time."""
        super().on_message_begin()
        self._in_head = True
        self._deadline = self.loop.time() + HEAD_SECONDS_MAX

    def on_headers_complete(self) -> None:
        """Give the body its time."""
        self._in_head, self._head_bytes = False, 0
        self._deadline = self.loop.time() + BODY_SECONDS_MAX
        super().on_headers_complete()
        cycle = getattr(self, "cycle", None)  # none yet where the first request asks for another protocol
        if cycle is not None and cycle.transport is self.transport:
            cycle.scope[WRITE_WHOLE] = partial(_write_whole, cycle, self.transport)
            cycle.scope[ABORT] = self.transport.abort
            corked = cycle.transport = _Corked(self.loop, self.transport)
            cycle.scope[WRITE_PART] = partial(_write_part, cycle, corked)

    def on_message_complete(self) -> None:
        """Wait for nothing more: how long the answer takes is our own affair."""
        self._in_head, self._head_bytes, self._deadline = True, 0, math.inf
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Let go of a connection that is another protocol's from here on."""
        self._deadline = math.inf
        if self._watch is not None:
            self._watch.cancel()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP in the shape of all errors."""
        self._refuse(MalformedRequest("the request is not HTTP/1.1"))

    def _refuse(self, error: ServiceError) -> None:
        body = encode_problem(error)
        head = (
            f"HTTP/1.1 {int(error.status)} {error.status.phrase}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class AbortableWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that its application can end at once."""

    async def run_asgi(self) -> None:
        """Serve it."""
        self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]  # a key of ours
        await super().run_asgi()


class _Corked:
    """
    A connection that keeps what is written until the end of the loop's turn, or until there is more.

    So an answer's head and body leave in one system call and arrive as one packet.
    """

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop, self._transport = loop, transport
        self._held: bytes | None = None

    def write(self, data: bytes) -> None:
        """Keep a first part; send it with the second."""
        if self._held is None:
            self._held = data
            self._loop.call_soon(self._flush)
        else:
            held, self._held = self._held, None
            self._transport.write(held + data)

    def write_now(self, data: bytes) -> None:
        """Send what is kept, and more."""
        held, self._held = self._held, None
        self._transport.write(data if held is None else held + data)

    def _flush(self) -> None:
        held, self._held = self._held, None
        if held is not None and not self._transport.is_closing():
            self._transport.write(held)

    def close(self) -> None:
        """Send what is kept, and close."""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _write_whole(
    cycle: RequestResponseCycle, transport: asyncio.Transport, status: int, headers: Headers, body: bytes
) -> bool:
    """
    Write a complete answer at once, as two messages to the cycle would; False where it takes the messages.

    The server looks at each header by itself, twice; here one count finds a line that has no business there.
    """
    if (
        cycle.response_started or cycle.disconnected or cycle.flow.write_paused or not cycle.keep_alive
        or cycle.scope["method"] == "HEAD"
    ):  # fmt: skip
        return False
    headers = [*cycle.default_headers, *headers]
    head = b"".join([b"%b: %b\r\n" % header for header in headers])
    if head.count(b"\n") != len(headers) or head.count(b"\r") != len(headers) or b"\0" in head:
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.message_event.set()
    transport.write(b"%b%b\r\n%b" % (STATUS_LINE[status], head, body))
    cycle.on_response()
    return True


def _write_part(cycle: RequestResponseCycle, corked: _Corked, data: bytes) -> bool:
    """Write a part of an answer at once; False where it takes a message: it has not begun, or the client is slow."""
    if not cycle.response_started or cycle.response_complete or cycle.disconnected or cycle.flow.write_paused:
        return False
    corked.write_now(b"%x\r\n%b\r\n" % (len(data), data) if cycle.chunked_encoding else data)
    return True


class Server(uvicorn.Server):
    """A server that stops being ready first, and only then stops listening."""

    def __init__(self, config: uvicorn.Config, edge: Edge) -> None:
        super().__init__(config)
        self._edge = edge
        self._stopping: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave gently at SIGTERM and Ctrl-C, at once when either comes again."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        if self._edge.draining:
            self.force_exit = self.should_exit = True
            return
        log.info("stopping")
        self._edge.drain()
        self._stopping = asyncio.get_running_loop().create_task(self._stop_soon())

    async def _stop_soon(self) -> None:
        await asyncio.sleep(LATE_SECONDS)
        self.should_exit = True

    async def startup(self, sockets: Any = None) -> None:
        """Start to listen; what was made until now stays, so the collector need not look at it again."""
        await super().startup(sockets)
        collect_seldom()


def server_of(edge: Edge, *, host: str, port: int) -> Server:
    """Return a server for an API."""
    return Server(
        uvicorn.Config(
            Application(edge),
            host=host,
            port=port,
            loop="uvloop",
            http=GuardedProtocol,
            ws=AbortableWebSocket,
            ws_max_size=SOCKET_MESSAGE_BYTES_MAX,
            ws_per_message_deflate=False,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=IDLE_SECONDS_MAX,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS_MAX,
        ),
        edge,
    )


async def serve(edge: Edge, *, host: str, port: int) -> None:
    """
    Serve an API until the process is told to end.

    Raises:
        BadDefinition: The port is taken.
    """
    server = server_of(edge, host=host, port=port)
    try:
        await server.serve()
    except SystemExit as error:  # what uvicorn makes of a port that is taken
        problem = f"nothing can listen on {host}:{port}; is something running there already?"
        raise BadDefinition(f"port {port}", problem) from error
