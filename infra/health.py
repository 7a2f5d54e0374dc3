"""
`/livez`, `/readyz` and `/metrics`: the same three answers from every role.

A role without an API serves them on a port of their own. Alive means that the loop turns and asks nobody;
ready fails only for what this role cannot work without, with a reason for each.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from infra.telemetry import log, metrics_page

Readiness = Callable[[], Awaitable[Mapping[str, str]]]
READY_SECONDS_MAX = 5.0
SHUTDOWN_SECONDS_MAX = 2


def health_routes(ready: Readiness) -> list[Route]:
    """Return the three routes; `ready` answers what is missing and why, nothing when all is there."""

    async def livez(_request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_request: Request) -> Response:
        missing = await _missing(ready)
        status = 503 if missing else 200
        return JSONResponse({"ready": not missing, "missing": dict(missing)}, status_code=status)

    async def metrics(_request: Request) -> Response:
        return Response(metrics_page(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)]


async def _missing(ready: Readiness) -> Mapping[str, str]:
    try:
        return await asyncio.wait_for(ready(), READY_SECONDS_MAX)
    except TimeoutError:
        return {"readiness": f"no answer within {READY_SECONDS_MAX:g} s"}


@asynccontextmanager
async def serve_health(port: int | None, ready: Readiness, *, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Serve the three routes for a block and yield the port, which the system chooses when none is given."""
    server = _Server(
        uvicorn.Config(
            Starlette(routes=health_routes(ready)),
            host=host,
            port=port or 0,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=SHUTDOWN_SECONDS_MAX,
        )
    )
    serving = asyncio.create_task(server.serve())
    try:
        chosen = await server.listening(serving)
        log.info("health served", address=f"http://{host}:{chosen}")
        yield chosen
    finally:
        server.should_exit = True
        with suppress(asyncio.CancelledError, SystemExit):
            await serving


class _Server(uvicorn.Server):
    """A server inside a program that has its own signal handling."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def listening(self, serving: "asyncio.Task[None]") -> int:
        while not self.started:
            if serving.done():
                raise OSError(
                    f"nothing can listen on port {self.config.port}; set EVERFOLD_HEALTH_PORT to another"
                )
            await asyncio.sleep(0.01)
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port
