"""Cursors: opaque, signed, and good for one question only."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.cursor import Cursors, cursor_key, scope_of
from schemas.errors import MalformedRequest

CURSORS = Cursors(cursor_key("secret"))
SCOPE = scope_of("acme", "list-orders", "-ordered_at", {"status": ("placed",)})
VALUES = st.one_of(
    st.text(),
    st.integers(-(2**53), 2**53),
    st.booleans(),
    st.dates(),
    st.datetimes(timezones=st.just(UTC)),
    st.decimals(allow_nan=False, allow_infinity=False),
)


@given(st.lists(VALUES, max_size=4))
def test_a_cursor_holds_what_it_was_made_of(values: list[object]) -> None:
    assert CURSORS.read(SCOPE, CURSORS.make(SCOPE, values)) == values


@given(st.text(max_size=80))
def test_what_was_not_made_here_is_refused(text: str) -> None:
    with pytest.raises(MalformedRequest):
        CURSORS.read(SCOPE, text)


@given(st.data())
def test_a_changed_cursor_is_refused(data: st.DataObject) -> None:
    cursor = CURSORS.make(SCOPE, ["A-1", 7])
    place = data.draw(st.integers(0, len(cursor) - 2))  # the last character has bits that mean nothing
    other = data.draw(st.sampled_from("abcXYZ019_-").filter(lambda letter: letter != cursor[place]))
    with pytest.raises(MalformedRequest):
        CURSORS.read(SCOPE, cursor[:place] + other + cursor[place + 1 :])


@pytest.mark.parametrize(
    "scope",
    [
        scope_of("other", "list-orders", "-ordered_at", {"status": ("placed",)}),
        scope_of("acme", "list-items", "-ordered_at", {"status": ("placed",)}),
        scope_of("acme", "list-orders", "ordered_at", {"status": ("placed",)}),
        scope_of("acme", "list-orders", "-ordered_at", {"status": ("shipped",)}),
        scope_of("acme", "list-orders", "-ordered_at", {}),
    ],
)
def test_another_question_does_not_take_it(scope: bytes) -> None:
    with pytest.raises(MalformedRequest):
        CURSORS.read(scope, CURSORS.make(SCOPE, ["A-1"]))


def test_another_key_does_not_take_it() -> None:
    with pytest.raises(MalformedRequest):
        Cursors(cursor_key("other")).read(SCOPE, CURSORS.make(SCOPE, ["A-1"]))


def test_types_come_back_as_they_were() -> None:
    values = [datetime(2026, 1, 1, tzinfo=UTC), date(2026, 1, 1), Decimal("1.50"), "1", 1]
    found = CURSORS.read(SCOPE, CURSORS.make(SCOPE, values))
    assert [type(value) for value in found] == [datetime, date, Decimal, str, int]
