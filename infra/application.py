"""
The FastAPI application that a process serves.

The routes that are made from declarations (commands, queries) are one thin ASGI application inside it, because
FastAPI's own parameter machinery costs more than all else that they do (docs/decisions/0009). It answers what no
route of FastAPI's does; a team adds routes of its own to the application in FastAPI's usual way.
"""

from fastapi import FastAPI
from starlette.types import ASGIApp


def application_of(declared: ASGIApp) -> FastAPI:
    """Return the application around the declared routes, which also keep the API's own documents and probes."""
    application = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    application.router.default = declared
    return application
