"""
`/livez`, `/readyz` and `/metrics`: the same three answers from every role.

A role without an API serves them on a port of their own. Alive means that the loop turns and asks nobody;
ready fails only for what this role cannot work without, with a reason for each.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from infra.embedded.errors import PortTaken
from infra.telemetry import log, metrics_page

Readiness = Callable[[], Awaitable[Mapping[str, str]]]
Facts = Callable[[], Mapping[str, Any]]
"""What a role says of itself beside whether it is ready."""
READY_SECONDS_MAX = 5.0
SHUTDOWN_SECONDS_MAX = 2


def health_routes(ready: Readiness, facts: Facts = dict) -> list[Route]:
    """Return the three routes; `ready` answers what is missing and why, nothing when all is there."""

    async def livez(_request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_request: Request) -> Response:
        missing = await _missing(ready)
        status = 503 if missing else 200
        body = {"ready": not missing, "missing": dict(missing)} | dict(facts())
        return JSONResponse(body, status_code=status)

    async def metrics(_request: Request) -> Response:
        return Response(metrics_page(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)]


async def _missing(ready: Readiness) -> Mapping[str, str]:
    try:
        async with asyncio.timeout(READY_SECONDS_MAX):
            return await ready()
    except TimeoutError:
        return {"readiness": f"no answer within {READY_SECONDS_MAX:g} s"}


@asynccontextmanager
async def serve_health(
    port: int | None, ready: Readiness, *, host: str = "127.0.0.1", facts: Facts = dict
) -> AsyncIterator[int]:
    """
    Serve the three routes for a block and yield the port, which the system chooses when none is given.

    Raises:
        PortTaken: Another program listens there.
    """
    config = uvicorn.Config(
        Starlette(routes=health_routes(ready, facts)),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=SHUTDOWN_SECONDS_MAX,
    )
    server = _Server(config)
    with _listener(host, port or 0) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        chosen: int = listener.getsockname()[1]
        log.info("health served", address=f"http://{host}:{chosen}")
        try:
            yield chosen
        finally:
            server.should_exit = True
            await serving


def _listener(host: str, port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortTaken(port, "EVERFOLD_HEALTH_PORT") from error
    listener.listen()
    return listener


class _Server(uvicorn.Server):
    """A server inside a program that has its own signal handling."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
