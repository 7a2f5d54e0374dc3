"""
Tests of a domain as sentences: `given(…).when(…).then(…)`, on a log in memory, without any service.

    given(Accounts, OpenAccount(…), ("accounts/A1", Deposited(…))).when(Withdraw(…)).then(Withdrawn(…))

What is given are facts: an event with its stream, `(stream, event)`; a bare event, which goes to the stream of the
command that comes next; or a command, which is carried out. The subject is a decider or several (each stream's
collection needs its own), a projection, a workflow, or a query that answers one document.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, overload

from infra.testing.decisions import Decided, GivenRules
from infra.testing.log import NOON, DeciderLike, Fact, Log, Moment, Past
from infra.testing.reactions import GivenWorkflow, Reacted, WorkflowLike
from infra.testing.rows import Answered, GivenQuery, GivenRows, ProjectionLike, QueryLike

__all__ = [
    "NOON",
    "Answered",
    "Decided",
    "Fact",
    "GivenQuery",
    "GivenRows",
    "GivenRules",
    "GivenWorkflow",
    "Log",
    "Moment",
    "Reacted",
    "given",
]


Deciders = DeciderLike | type[DeciderLike] | Iterable[DeciderLike | type[DeciderLike]]


@overload
def given(subject: Deciders, /, *facts: Fact, rules: Deciders = ..., now: datetime = ...) -> GivenRules: ...
@overload
def given(
    subject: ProjectionLike | type[ProjectionLike],
    /,
    *facts: Fact,
    rules: Deciders = ...,
    now: datetime = ...,
) -> GivenRows: ...
@overload
def given(
    subject: WorkflowLike | type[WorkflowLike], /, *facts: Fact, rules: Deciders = ..., now: datetime = ...
) -> GivenWorkflow: ...
@overload
def given(
    subject: type[QueryLike], /, *facts: Fact, rules: Deciders = ..., now: datetime = ...
) -> GivenQuery: ...
def given(subject: Any, /, *facts: Fact, rules: Any = (), now: datetime = NOON) -> Any:
    """
    Begin a test: of a decider or several, a projection, a workflow, or a query of one document.

    `rules` are the deciders that carry out commands among the facts of the other three, and what a workflow sends.
    """
    moment = Moment(now, now)
    if hasattr(subject, "fold"):
        return GivenRows(_made(subject), facts, _all(rules), moment)
    if hasattr(subject, "react"):
        log = Log(_all(rules))
        past = Past(log)
        past.add(facts, moment)
        return GivenWorkflow(_made(subject), log, past, moment)
    if hasattr(subject, "view"):
        return GivenQuery(subject, facts, _all(rules), moment)
    return GivenRules(_all(subject), facts, moment)


def _made(subject: Any) -> Any:
    return subject() if isinstance(subject, type) else subject


def _all(deciders: Any) -> list[DeciderLike]:
    if isinstance(deciders, type) or hasattr(deciders, "decide"):
        return [_made(deciders)]
    return [_made(decider) for decider in deciders]
