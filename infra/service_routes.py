"""
What every API answers besides its own business: health, metrics, its description, and what its problems mean.

The documentation page is vendored whole: it loads nothing from outside, and its policy forbids it to.
"""

from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

import orjson
from starlette.types import ASGIApp

from infra.health import Readiness, health_routes
from infra.http import JSON, Handler, Reply, Request, Router, json_reply
from infra.problems import ProblemTypes
from schemas.errors import NotFound

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    b"form-action 'none'; frame-ancestors 'none'"
)
_PAGE = {
    "/docs": ("page.html", b"text/html; charset=utf-8"),
    "/docs/page.js": ("page.js", b"text/javascript; charset=utf-8"),
    "/docs/style.css": ("style.css", b"text/css; charset=utf-8"),
}


def add_service_routes(
    router: Router, *, ready: Readiness, problems: ProblemTypes, openapi: Callable[[], dict[str, Any]]
) -> None:
    """Declare the routes that need no token."""
    for route in health_routes(ready):
        router.add("GET", route.path, route.endpoint)
    for path, (name, media_type) in _PAGE.items():
        router.add("GET", path, _file(name, media_type))
    router.add("GET", "/openapi.json", _openapi(openapi))
    router.add("GET", "/problems", _problem_list(problems))
    router.add("GET", "/problems/{slug}", _problem(problems))


def _file(name: str, media_type: bytes) -> Handler:
    content = resources.files("infra").joinpath("docs", name).read_bytes()

    async def page(_request: Request) -> ASGIApp:
        return Reply(200, content, [(b"content-type", media_type), (b"content-security-policy", _POLICY)])

    return page


def _openapi(openapi: Callable[[], dict[str, Any]]) -> Handler:
    @cache
    def encoded() -> bytes:
        return orjson.dumps(openapi())

    async def answer(_request: Request) -> ASGIApp:
        return Reply(200, encoded(), [(b"content-type", JSON), (b"access-control-allow-origin", b"*")])

    return answer


def _problem_list(problems: ProblemTypes) -> Handler:
    async def answer(_request: Request) -> ASGIApp:
        return json_reply({"items": [problems.explain(slug) for slug in problems], "next": None})

    return answer


def _problem(problems: ProblemTypes) -> Handler:
    async def answer(request: Request) -> ASGIApp:
        explained = problems.explain(request.parameters["slug"])
        if explained is None:
            raise NotFound("problem type")
        return json_reply(explained)

    return answer
