"""
Answers to commands as JSON bytes and headers. The bytes of an event's data go out as they stand in the log.
"""

from typing import Any

import orjson

from command_api.requests import Answer, AppendedEvent
from infra.http import JSON, Headers, Reply
from infra.problems import encode_problem, problem_headers
from schemas.errors import Invalid, ServiceError


def encode_answer(answer: Answer, token: str | None, *, representation: bool, item: bool = False) -> bytes:
    """Return an accepted command's answer; as an item of a batch it has a status of its own."""
    document: dict[str, Any] = {"status": 200, "replayed": answer.replayed} if item else {}
    document["stream"] = answer.stream
    document["version"] = answer.version
    document["position"] = token
    document["events"] = [_event(event, representation=representation) for event in answer.events]
    return orjson.dumps(document)


def _event(event: AppendedEvent, *, representation: bool) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": event.id,
        "type": event.type,
        "schema_version": event.schema_version,
        "stream": event.stream,
        "version": event.version,
    }
    if representation:
        document["data"] = orjson.Fragment(event.data)
    return document


def token_of(answer: Answer, tenant: str) -> str | None:
    """Return the position that an answer carries, as its tenant's clients know it."""
    return None if answer.position is None else answer.position.token(tenant)


def accepted_reply(answer: Answer, tenant: str, *, representation: bool) -> Reply:
    """Return the HTTP answer to an accepted command."""
    token = token_of(answer, tenant)
    headers: Headers = [(b"content-type", JSON), (b"etag", b'"%d"' % answer.version)]
    if token is not None:
        headers.append((b"everfold-position", token.encode()))
    if answer.replayed:
        headers.append((b"idempotent-replayed", b"true"))
    if representation:
        headers.append((b"preference-applied", b"return=representation"))
    return Reply(200, encode_answer(answer, token, representation=representation), headers)


def refused_reply(answer: Answer, tenant: str, *, instance: str) -> Reply:
    """Return the HTTP answer to a refused command, with the position that the decision saw."""
    assert answer.error is not None
    error = answer.error
    headers = [*problem_headers(error), *position_header(answer, tenant)]
    return Reply(int(error.status), encode_problem(error, instance=instance), headers)


def refused_item(error: ServiceError, *, instance: str, pointer: str) -> bytes:
    """Return a refused command's item in the answer to a batch."""
    return orjson.dumps(
        {"status": int(error.status), "problem": orjson.Fragment(problem_at(error, instance, pointer))}
    )


def problem_at(error: ServiceError, instance: str, pointer: str) -> bytes:
    """Return a problem that says which command of a batch it is about."""
    problem = encode_problem(error, instance=instance)
    if isinstance(error, Invalid):
        return problem  # its errors have pointers of their own
    return orjson.dumps({**orjson.loads(problem), "pointer": pointer})


def position_header(answer: Answer, tenant: str) -> Headers:
    """Return the header with the answer's position, where it has one."""
    token = token_of(answer, tenant)
    return [] if token is None else [(b"everfold-position", token.encode())]
