"""
Makes commands of what workflows yield: who sends them, under which key, caused by what; and reads their answers.

A command's key is derived from the event and the step's number, in the scope of the workflow, so that a reaction
that runs again after a crash has its effect once.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from command_api.requests import Answer, CommandRequest
from command_api.workflow import Outcome
from infra.auth import Principal
from schemas import Command, Rejection
from schemas.errors import (
    ConcurrentUpdate,
    EpochChanged,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    ServiceError,
    Unavailable,
    VersionMismatch,
)

REFUSALS = (Rejection, NotFound, VersionMismatch)
"""Errors that are answers: what a workflow is told, and may act on."""
PASSING = (Unavailable, OutcomeUnknown, ConcurrentUpdate, RateLimited, EpochChanged)
"""Errors that say nothing about the command: it is sent again with the same key, for as long as it takes."""
SEND_COMMANDS_MAX = 1_000


def subject_of(workflow: str) -> str:
    """Return the name under which a workflow acts."""
    return f"workflow:{workflow}"


def request_of(
    command: Command,
    *,
    workflow: str,
    tenant: str,
    key: str,
    occurred_at: datetime,
    causation_id: str,
    correlation_id: str,
    traceparent: str | None,
) -> CommandRequest:
    """Return a workflow's command with its circumstances."""
    return CommandRequest(
        command,
        Principal.system(subject_of(workflow), tenant),
        key=key,
        occurred_at=occurred_at,
        causation_id=causation_id,
        correlation_id=correlation_id,
        traceparent=traceparent,
    )


def outcome_of(answer: Answer) -> Outcome:
    """Return what a workflow is told of an answer."""
    return Outcome(answer.objects, answer.error)


def is_passing(error: ServiceError | None) -> bool:
    """Say whether an error says nothing about the command."""
    return isinstance(error, PASSING)


def may_pass(error: ServiceError | None) -> bool:
    """Say whether the command is worth sending again: a fault of ours may be its own, or its whole batch's."""
    return is_passing(error) or type(error) is ServiceError


def is_told(error: ServiceError | None) -> bool:
    """Say whether an answer is one for the workflow: accepted, or refused by a rule."""
    return error is None or isinstance(error, REFUSALS)


def in_calls(requests: Sequence[CommandRequest]) -> Iterator[Sequence[int]]:
    """Return the numbers of the requests that go into one call of the pipeline: one tenant's, bounded, in order."""
    by_tenant: dict[str, list[int]] = {}
    for number, request in enumerate(requests):
        by_tenant.setdefault(request.tenant, []).append(number)
    for numbers in by_tenant.values():
        for first in range(0, len(numbers), SEND_COMMANDS_MAX):
            yield numbers[first : first + SEND_COMMANDS_MAX]
