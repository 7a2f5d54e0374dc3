"""What clients prefer, accept, and have already."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.preferences import Preferences, check_accept, etag_of, matches, parse_prefer
from schemas.errors import NotAcceptable


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, Preferences()),
        (b"", Preferences()),
        (b"wait=5", Preferences(5)),
        (b"wait=0", Preferences(0)),
        (b"wait=99", Preferences(30)),
        (b'wait="7"', Preferences(7)),
        (b"Wait = 5 , Handling = lenient", Preferences(5, is_lenient=True)),
        (b"wait=5; foo=bar, respond-async", Preferences(5)),
        (b"wait=5, wait=9", Preferences(5)),
        (b"handling=strict", Preferences()),
        (b"wait=-1", Preferences()),
        (b"wait=soon, return=minimal", Preferences()),
        ("wait=\u0665".encode(), Preferences()),
    ],
)
def test_preferences_are_read_as_the_rfc_says(header: bytes | None, expected: Preferences) -> None:
    assert parse_prefer(header) == expected


@given(st.binary(max_size=200))
def test_no_prefer_header_is_an_error(header: bytes) -> None:
    parse_prefer(header)


def test_what_was_honoured_is_said() -> None:
    assert Preferences(5, is_lenient=True).applied == b"wait=5, handling=lenient"
    assert Preferences().applied is None


@pytest.mark.parametrize(
    ("if_none_match", "is_same"),
    [
        (b'"abc"', True),
        (b'W/"abc"', True),
        (b'"x", "abc"', True),
        (b'"x" , W/"abc"', True),
        (b"*", True),
        (b'"ab"', False),
        (b"abc", False),
        (b"", False),
    ],
)
def test_an_etag_is_compared_weakly(if_none_match: bytes, is_same: bool) -> None:
    assert matches(if_none_match, etag_of("abc")) is is_same


@given(st.binary(max_size=100))
def test_an_accept_header_is_taken_or_refused_and_never_an_error(header: bytes) -> None:
    try:
        check_accept(header)
    except NotAcceptable:
        assert header not in (b"*/*", b"application/json")
