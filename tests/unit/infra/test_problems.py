"""Problem documents: the same shape for all, and nothing in them that is nobody's business."""

from dataclasses import dataclass

import orjson
import pytest

from infra.problems import RESERVED, ProblemTypes, encode_problem, problem_headers, problem_of
from infra.rate import RateLimiter
from infra.telemetry import trace_of
from schemas.errors import (
    BadDefinition,
    EpochChanged,
    Invalid,
    MethodNotAllowed,
    Overloaded,
    RateLimited,
    Rejection,
    ServiceError,
    Unauthenticated,
)
from tests.toy import AlreadyOpen, InsufficientFunds

CONTRACT = {
    400: {"malformed-request"},
    401: {"unauthenticated"},
    403: {"forbidden"},
    404: {"not-found"},
    405: {"method-not-allowed"},
    406: {"not-acceptable"},
    409: {"concurrent-update"},
    410: {"position-lost"},
    412: {"version-mismatch", "projection-behind"},
    413: {"too-large"},
    414: {"uri-too-long"},
    415: {"unsupported-media-type"},
    422: {"invalid", "idempotency-key-reused"},
    429: {"rate-limited"},
    431: {"headers-too-large"},
    500: {"internal"},
    503: {"overloaded", "store-unavailable"},
    504: {"outcome-unknown"},
}


def test_a_rules_refusal_names_the_rule_and_its_facts() -> None:
    problem = problem_of(InsufficientFunds(5, requested_cents=6), instance="/v1/accounts/A/withdraw")
    assert problem == {
        "type": "/problems/insufficient-funds",
        "title": "The account holds less than was asked for.",
        "status": 409,
        "detail": problem["detail"],
        "instance": "/v1/accounts/A/withdraw",
        "rule": "insufficient-funds",
        "balance_cents": 5,
        "requested_cents": 6,
    }


def test_a_problem_carries_the_trace_of_its_request() -> None:
    with trace_of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"):
        assert problem_of(AlreadyOpen())["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize("error", [EpochChanged(3, 9), BadDefinition("secret", "SELECT 1"), ServiceError()])
def test_faults_of_ours_say_internal_and_nothing_more(error: ServiceError) -> None:  # S44
    problem = problem_of(error)
    assert problem["type"] == "/problems/internal"
    assert set(problem) == {"type", "title", "status", "detail"}
    assert "secret" not in str(problem)


def test_headers_tell_what_to_do_next() -> None:
    assert dict(problem_headers(MethodNotAllowed(["GET", "HEAD"])))[b"allow"] == b"GET, HEAD"
    assert dict(problem_headers(Unauthenticated("x")))[b"www-authenticate"].startswith(b"Bearer")
    assert dict(problem_headers(Overloaded(3)))[b"retry-after"] == b"1"
    assert dict(problem_headers(AlreadyOpen()))[b"content-type"] == b"application/problem+json"


def test_every_type_of_the_contract_is_explained_with_its_status() -> None:
    types = ProblemTypes([InsufficientFunds, AlreadyOpen])
    for status, slugs in CONTRACT.items():
        for slug in slugs:
            explained = types.explain(slug)
            assert explained is not None, slug
            assert explained["status"] == status
    assert "insufficient-funds" in types
    assert types.explain("no-such-thing") is None


def test_a_domain_cannot_take_the_standard_members_for_its_own() -> None:
    @dataclass(eq=False)
    class WrongStatus(Rejection):
        """Refused."""

        status: str  # type: ignore[assignment,misc]  # what must be refused

    assert "status" in RESERVED
    with pytest.raises(BadDefinition):
        ProblemTypes([WrongStatus])


def test_facts_of_any_kind_become_json() -> None:
    error = Invalid(({"pointer": "/a", "message": "b"},))
    assert orjson.loads(encode_problem(error))["errors"] == [{"pointer": "/a", "message": "b"}]


def test_a_caller_over_its_rate_is_told_how_long_to_wait_and_no_other_is() -> None:  # S37
    now = 100.0
    limiter = RateLimiter(2, burst=2, now=lambda: now)
    limiter.take("acme", "ann")
    limiter.take("acme", "ann")
    with pytest.raises(RateLimited) as refused:
        limiter.take("acme", "ann")
    limiter.take("acme", "bob")
    headers = dict(refused.value.headers)  # type: ignore[attr-defined]  # of the class that limiters raise
    assert headers[b"ratelimit"] == b'"caller";r=0;t=1'
    assert dict(problem_headers(refused.value))[b"retry-after"] == b"1"
    now += 0.5
    limiter.take("acme", "ann")
