"""
Commands over HTTP, one route for each command of the registry. See contract.md, section 5.

The checks have one order, so that no answer says more than the asker may know: 401, 403, then the request's
form, and only in the pipeline the key, the expected version and the rules.
"""

from starlette.types import ASGIApp

from command_api.answers import accepted_reply, refused_reply
from command_api.parsing import CommandReader
from command_api.pipeline import Pipeline
from command_api.preconditions import check_acceptable, read_conditions
from command_api.requests import CommandRequest
from infra.auth import Authenticator
from infra.http import Handler, Request, Router
from infra.json_body import parse_json, read_body
from infra.rate import RateLimiter
from infra.telemetry import current_traceparent
from schemas import Command
from schemas.errors import Invalid
from schemas.registry import Registry


class CommandRoutes:
    """Answers `POST /v1/{collection}/{id…}/{verb}`."""

    def __init__(self, pipeline: Pipeline, authenticator: Authenticator, limiter: RateLimiter) -> None:
        self._pipeline, self._authenticator, self._limiter = pipeline, authenticator, limiter

    def add_to(self, router: Router, registry: Registry) -> None:
        """Declare the routes of all commands."""
        for model in registry.commands.values():
            router.add("POST", f"/v1/{model.route}", self._handler(model))

    def _handler(self, model: type[Command]) -> Handler:
        reader, permission = CommandReader(model), model.permission

        async def carry_out(request: Request) -> ASGIApp:
            principal = await self._authenticator.authenticate(request.headers.get(b"authorization"))
            principal.require(permission)
            tenant = principal.tenant_or_refuse(permission)
            self._limiter.take(tenant, principal.subject)
            check_acceptable(request)
            conditions = read_conditions(request)
            body = await read_body(request)
            parsed = parse_json(body)
            if not isinstance(parsed.value, dict):
                raise Invalid([{"pointer": "", "message": "must be an object"}])
            errors = parsed.errors(parsed.value, "")
            command, reason, occurred_at = reader.read(request.parameters, parsed.value, known_errors=errors)
            answer = await self._pipeline.submit(
                CommandRequest(
                    command,
                    principal,
                    conditions.key,
                    conditions.expected_version,
                    occurred_at,
                    reason,
                    request.scope.get("everfold.request_id"),
                    None,
                    current_traceparent(),
                    len(body),
                )
            )
            if answer.accepted:
                return accepted_reply(answer, tenant, representation=conditions.representation)
            return refused_reply(answer, tenant, instance=request.path)

        return carry_out
