"""Errors are facts: their name, status and members follow from the class."""

from dataclasses import dataclass
from http import HTTPStatus

import pytest

from schemas.errors import (
    Forbidden,
    Invalid,
    NotFound,
    Overloaded,
    Rejection,
    ServiceError,
    StoreUnavailable,
    Unavailable,
    VersionMismatch,
)


@dataclass(eq=False)
class TooFewChairs(Rejection):
    """There are not enough chairs."""

    chairs: int
    guests: int
    waiting: tuple[str, ...] = ()


def test_the_rule_is_the_classs_name() -> None:
    refusal = TooFewChairs(2, 3)
    assert refusal.slug == "too-few-chairs"
    assert refusal.status == HTTPStatus.CONFLICT
    assert refusal.facts() == {"rule": "too-few-chairs", "chairs": 2, "guests": 3, "waiting": ()}


def test_an_error_says_its_facts_for_people() -> None:
    refusal = TooFewChairs(2, 3)
    assert refusal.title() == "There are not enough chairs."
    assert "chairs 2, guests 3" in str(refusal)
    assert "waiting" not in str(refusal)


def test_an_error_without_facts_says_what_is_true_of_all_of_its_kind() -> None:
    assert str(StoreUnavailable()) == "The event store does not answer; nothing has happened."


def test_invalid_input_names_the_place() -> None:
    errors = [{"pointer": "/lines/0/quantity", "message": "must be at least 1"}]
    assert str(Invalid(errors)) == "/lines/0/quantity: must be at least 1"
    assert str(Invalid([{"pointer": "", "message": "must be an object"}])) == "The body: must be an object"
    assert str(Invalid([]))


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (Forbidden("clerk"), 403, "forbidden"),
        (NotFound("orders/1"), 404, "not-found"),
        (VersionMismatch("orders/1", 7), 412, "version-mismatch"),
        (Overloaded(), 503, "overloaded"),
        (ServiceError(), 500, "internal"),
    ],
)
def test_a_branch_has_a_status_and_a_leaf_a_name(error: ServiceError, status: int, slug: str) -> None:
    assert (error.status, error.slug) == (status, slug)


def test_what_may_work_later_says_when() -> None:
    assert Unavailable.retry_after_seconds == 1
    assert issubclass(Overloaded, Unavailable)
    assert issubclass(StoreUnavailable, Unavailable)
    assert Rejection.retry_after_seconds is None
