"""
The FastAPI application that a process serves.

The routes that are made from declarations (commands, queries) are one thin ASGI application inside it, because
FastAPI's own parameter machinery costs more than all else that they do (docs/decisions/0009). It answers what no
route of FastAPI's does; a team adds routes, middleware and dependencies of its own in FastAPI's usual way.
"""

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.http import WRITE_PART, WRITE_WHOLE


class Application(FastAPI):
    """FastAPI around the declared routes, which also keep the API's own documents and probes."""

    def __init__(self, declared: ASGIApp) -> None:
        super().__init__(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
        self.router.default = declared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI); at once from the declared routes, as long as nothing has been put around them."""
        if self.user_middleware or self.router.routes:
            for shortcut in (
                WRITE_WHOLE,
                WRITE_PART,
            ):  # middleware sees the messages that answers are made of
                scope.pop(shortcut, None)
            await super().__call__(scope, receive, send)
        else:
            await self.router.default(scope, receive, send)
