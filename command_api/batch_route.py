"""
`POST /v1/commands`: up to 1,000 commands in one request, decided in order, each answered by itself.

One that is ill-formed harms only itself. With `"atomic": true` all or none, and the first problem is the
answer. Pointers in problems are into the request.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import ASGIApp

from command_api.answers import encode_answer, position_header, problem_at, refused_item, token_of
from command_api.keys import parse_key
from command_api.parsing import COMMON, CommandReader
from command_api.pipeline import Pipeline
from command_api.preconditions import check_acceptable, refuse_conditions, wants_representation
from command_api.requests import Answer, CommandRequest
from infra.auth import Authenticator, Principal
from infra.http import JSON, Headers, Reply, Request
from infra.json_body import Error, Parsed, escape, parse_json, read_body
from infra.problems import problem_headers
from infra.rate import RateLimiter
from infra.telemetry import current_traceparent
from schemas.errors import Invalid, MalformedRequest, ServiceError
from schemas.messages import INTEGER_MAX
from schemas.registry import Registry

COMMANDS_MAX = 1_000
BODY_BYTES_MAX = 8 * 1024 * 1024
PARSED_A_TURN = 50
"""After so many commands the loop gets a turn, so that single commands are not held up by large batches."""
MEMBERS = frozenset({"command", "id", "data", "idempotency_key", "expected_version", *COMMON})

Parts = Sequence[CommandRequest | ServiceError]


class BatchRoute:
    """Answers `POST /v1/commands`."""

    def __init__(
        self, pipeline: Pipeline, authenticator: Authenticator, registry: Registry, limiter: RateLimiter
    ) -> None:
        self._pipeline, self._authenticator, self._limiter = pipeline, authenticator, limiter
        self._readers = {name: CommandReader(model) for name, model in registry.commands.items()}

    async def __call__(self, request: Request) -> ASGIApp:
        """Carry out a batch."""
        principal = await self._authenticator.authenticate(request.headers.get(b"authorization"))
        tenant = principal.tenant_or_refuse("commands")
        check_acceptable(request)
        refuse_conditions(request)
        body = await read_body(request, bytes_max=BODY_BYTES_MAX)
        parsed = parse_json(body)
        items, atomic = _envelope(parsed)
        self._limiter.take(tenant, principal.subject, cost=len(items))
        size = len(body) // len(items) + 1
        reading = _Reading(self._readers, principal, request, parsed, size, current_traceparent())
        parts = await reading.read_all(items)
        representation = wants_representation(request)
        if atomic:
            return await self._together(parts, tenant, request.path, representation=representation)
        return await self._each(parts, tenant, request.path, representation=representation)

    async def _each(self, parts: Parts, tenant: str, path: str, *, representation: bool) -> Reply:
        sent = [part for part in parts if isinstance(part, CommandRequest)]
        answered = iter(await self._pipeline.submit_many(sent))
        answers = [
            next(answered) if isinstance(part, CommandRequest) else Answer("", error=part) for part in parts
        ]
        return _results(answers, tenant, path, representation=representation)

    async def _together(self, parts: Parts, tenant: str, path: str, *, representation: bool) -> Reply:
        for number, part in enumerate(parts):
            if isinstance(part, ServiceError):
                return _problem(Answer("", error=part, culprit=number), tenant, path)
        sent = [part for part in parts if isinstance(part, CommandRequest)]
        answers = await self._pipeline.submit_many(sent, atomic=True)
        refused = next((answer for answer in answers if not answer.accepted), None)
        if refused is not None:
            return _problem(refused, tenant, path)
        return _results(answers, tenant, path, representation=representation)


def _envelope(parsed: Parsed) -> tuple[list[Any], bool]:
    """
    Return the batch's commands, and whether they go together.

    Raises:
        Invalid
    """
    value, errors = parsed.value, list[Error]()
    if not isinstance(value, dict):
        raise Invalid([{"pointer": "", "message": "must be an object"}])
    errors += [
        {"pointer": f"/{escape(name)}", "message": "unknown field"}
        for name in value.keys() - {"commands", "atomic"}
    ]
    items, atomic = value.get("commands"), value.get("atomic", False)
    if not isinstance(items, list) or not items:
        errors.append({"pointer": "/commands", "message": f"must be a list of 1 to {COMMANDS_MAX} commands"})
    elif len(items) > COMMANDS_MAX:
        errors.append(
            {"pointer": "/commands", "message": f"must be at most {COMMANDS_MAX} commands, not {len(items)}"}
        )
    if not isinstance(atomic, bool):
        errors.append({"pointer": "/atomic", "message": "must be true or false"})
    if errors:
        raise Invalid(errors)
    assert isinstance(items, list)
    return items, atomic


@dataclass(frozen=True, slots=True)
class _Reading:
    """Reads the commands of one batch."""

    readers: Mapping[str, CommandReader]
    principal: Principal
    request: Request
    parsed: Parsed
    size: int
    traceparent: str | None

    async def read_all(self, items: Sequence[Any]) -> Parts:
        parts: list[CommandRequest | ServiceError] = []
        for number, item in enumerate(items):
            try:
                parts.append(self._read(item, f"/commands/{number}"))
            except ServiceError as error:
                parts.append(error)
            if number % PARSED_A_TURN == PARSED_A_TURN - 1:
                await asyncio.sleep(0)
        return parts

    def _read(self, item: Any, pointer: str) -> CommandRequest:
        reader, errors = self._reader(item, pointer)
        self.principal.require(reader.model.permission)
        errors += self.parsed.errors(item, pointer)
        ids, data = item.get("id", {}), item.get("data", {})
        for name, part in (("id", ids), ("data", data)):
            if not isinstance(part, dict):
                raise Invalid([*errors, {"pointer": f"{pointer}/{name}", "message": "must be an object"}])
        errors += [
            {"pointer": f"{pointer}/id/{escape(name)}", "message": "unknown field"}
            for name in ids
            if name not in reader.model.id_fields
        ]
        key = self._key(item, pointer, errors)
        expected_version = _expected_version(item, pointer, errors)
        common = {name: item[name] for name in COMMON if name in item}
        errors += [
            {"pointer": f"{pointer}/{name}", "message": "stands in data already"}
            for name in common
            if name in data
        ]
        command, reason, occurred_at = reader.read(
            ids,
            data | common,
            ids_pointer=f"{pointer}/id",
            data_pointer=f"{pointer}/data",
            known_errors=errors,
        )
        return CommandRequest(
            command,
            self.principal,
            key,
            expected_version,
            occurred_at,
            reason,
            self.request.scope.get("everfold.request_id"),
            None,
            self.traceparent,
            self.size,
        )

    def _reader(self, item: Any, pointer: str) -> tuple[CommandReader, list[Error]]:
        if not isinstance(item, dict):
            raise Invalid([{"pointer": pointer, "message": "must be an object"}])
        errors = [
            {"pointer": f"{pointer}/{escape(name)}", "message": "unknown field"}
            for name in item.keys() - MEMBERS
        ]
        name = item.get("command")
        reader = self.readers.get(name) if isinstance(name, str) else None
        if reader is None:
            message = "is required" if name is None else "is not the name of a command"
            raise Invalid([*errors, {"pointer": f"{pointer}/command", "message": message}])
        return reader, errors

    @staticmethod
    def _key(item: Mapping[str, Any], pointer: str, errors: list[Error]) -> str | None:
        key = item.get("idempotency_key")
        if key is None:
            return None
        try:
            if isinstance(key, str):
                return parse_key(key)
            errors.append({"pointer": f"{pointer}/idempotency_key", "message": "must be text"})
        except MalformedRequest as error:
            errors.append({"pointer": f"{pointer}/idempotency_key", "message": error.problem})
        return None


def _expected_version(item: Mapping[str, Any], pointer: str, errors: list[Error]) -> int | None:
    version = item.get("expected_version")
    if version is None:
        return None
    if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version <= INTEGER_MAX:
        errors.append({"pointer": f"{pointer}/expected_version", "message": "must be a version, 0 or more"})
        return None
    return version


def _results(answers: Sequence[Answer], tenant: str, path: str, *, representation: bool) -> Reply:
    results = [
        encode_answer(answer, token_of(answer, tenant), representation=representation, item=True)
        if answer.error is None
        else refused_item(answer.error, instance=path, pointer=f"/commands/{number}")
        for number, answer in enumerate(answers)
    ]
    headers: Headers = [(b"content-type", JSON)]
    seen = [answer for answer in answers if answer.position is not None]
    if seen:
        highest = max(seen, key=lambda answer: answer.position.position if answer.position else 0)
        headers += position_header(highest, tenant)
    if representation:
        headers.append((b"preference-applied", b"return=representation"))
    body = orjson.dumps({"results": [orjson.Fragment(result) for result in results]})
    return Reply(200, body, headers)


def _problem(answer: Answer, tenant: str, path: str) -> Reply:
    assert answer.error is not None
    pointer = "" if answer.culprit is None else f"/commands/{answer.culprit}"
    body = problem_at(answer.error, path, pointer)
    headers = [*problem_headers(answer.error), *position_header(answer, tenant)]
    return Reply(int(answer.error.status), body, headers)
