"""
`/v1/operations`: what operators ask for over HTTP. It is written down here, and carried out by the role that owns it.
"""

import re
from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp

from event_store.operations import Operation, Operations, read_asked
from infra.auth import Authenticator, Principal
from infra.http import Request, Router, json_reply
from infra.json_body import parse_json, read_body
from query_api.preferences import check_accept
from query_api.replicas import Server
from schemas.errors import Invalid, MalformedRequest

OPERATOR = "operator"
ROUTE = "/v1/operations"
_KEY = re.compile(r"[!-~]{1,255}")


class OperationRoutes:
    """Answers POST and GET on operations, and GET and DELETE on one."""

    def __init__(self, server: Server, namespace: str, authenticator: Authenticator) -> None:
        async def fetch(sql: str, *arguments: Any) -> Sequence[Any]:
            return await server.fetch(sql, arguments)

        self._operations = Operations(fetch, namespace)
        self._authenticator = authenticator

    def add_to(self, router: Router) -> None:
        """Declare the routes."""
        router.add("POST", ROUTE, self._ask)
        router.add("GET", ROUTE, self._list)
        router.add("GET", f"{ROUTE}/{{operation_id}}", self._show)
        router.add("DELETE", f"{ROUTE}/{{operation_id}}", self._cancel)

    async def _ask(self, request: Request) -> ASGIApp:
        principal = await self._operator(request)
        key = request.text_header(b"idempotency-key")
        if key is not None and not _KEY.fullmatch(key):
            raise MalformedRequest("an idempotency key is 1 to 255 visible characters")
        parsed = parse_json(await read_body(request))
        if errors := parsed.errors(parsed.value, ""):
            raise Invalid(errors)
        asked = read_asked(parsed.value)
        request_key = None if key is None else f"{principal.subject} {key}"
        return _accepted(await self._operations.ask(asked, principal.subject, request_key=request_key))

    async def _list(self, request: Request) -> ASGIApp:
        await self._operator(request)
        found = await self._operations.latest()
        return json_reply({"items": [one.document() for one in found], "next": None})

    async def _show(self, request: Request) -> ASGIApp:
        await self._operator(request)
        return json_reply((await self._operations.find(request.parameters["operation_id"])).document())

    async def _cancel(self, request: Request) -> ASGIApp:
        await self._operator(request)
        return _accepted(await self._operations.cancel(request.parameters["operation_id"]))

    async def _operator(self, request: Request) -> Principal:
        principal = await self._authenticator.authenticate(request.headers.get(b"authorization"))
        principal.require(OPERATOR)
        check_accept(request.headers.get(b"accept"))
        return principal


def _accepted(operation: Operation) -> ASGIApp:
    location = f"{ROUTE}/{operation.id}".encode()
    return json_reply(operation.document(), status=202, headers=[(b"location", location)])
