"""Messages are frozen, refuse what they do not know, and state every bound."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schemas.messages import (
    INTEGER_MAX,
    Amount,
    Command,
    Count,
    Day,
    Delta,
    Event,
    Flag,
    Id,
    Instant,
    Money,
    Quantity,
    Text,
    format_instant,
)


class Lend(Command, route="books/{shelf_id}/{book_id}/lend", permission="librarian"):
    shelf_id: Id
    book_id: Id
    until: Day
    at: Instant | None = None


class Lent(Event, type="BookLent", version=3):
    until: Day
    at: Instant


def accepts(kind: Any, value: Any) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def read(kind: Any, text: str) -> Any:
    return TypeAdapter(kind).validate_json(text)


def test_a_route_says_collection_verb_ids_and_name() -> None:
    assert (Lend.collection, Lend.verb, Lend.command_name, Lend.permission) == (
        "books",
        "lend",
        "books.lend",
        "librarian",
    )
    assert Lend.id_fields == ("shelf_id", "book_id")
    assert Lend(shelf_id="S", book_id="B", until=date(2026, 1, 1)).stream == "books/S/B"


def test_an_event_is_named_by_its_class_unless_it_says_otherwise() -> None:
    class Burnt(Event):
        pass

    assert (Burnt.type, Burnt.schema_version) == ("Burnt", 1)
    assert (Lent.type, Lent.schema_version) == ("BookLent", 3)


def test_a_message_is_frozen_and_refuses_fields_that_it_does_not_know() -> None:
    money = Money(amount=1, currency="EUR")
    with pytest.raises(ValidationError, match="frozen"):
        money.amount = 2  # type: ignore[misc]  # that it is refused is the point
    with pytest.raises(ValidationError, match="Extra inputs"):
        Money.model_validate({"amount": 1, "currency": "EUR", "tax": 1})


@pytest.mark.parametrize("value", ["A", "a-b_c.9", "9", "x" * 64])
def test_ids_are_of_the_alphabet(value: str) -> None:
    assert accepts(Id, value)


@pytest.mark.parametrize(
    "value", ["", "x" * 65, "-a", ".a", "_a", "a/b", "a b", "ä", "a\n", "\na", "a\x00", "٣", 7, None]
)
def test_other_ids_are_refused(value: Any) -> None:
    assert not accepts(Id, value)


@given(st.text(max_size=70))
def test_an_id_is_safe_in_a_streams_name(value: str) -> None:
    assert not accepts(Id, value) or (value.isascii() and "/" not in value and len(value) <= 64)


@pytest.mark.parametrize("value", ["x", "two\nlines\tand a tab", "ÄÖ 漢字", "x" * 1_000])
def test_text_is_for_people(value: str) -> None:
    assert accepts(Text, value)


@pytest.mark.parametrize("value", ["", "x" * 1_001, "a\x00b", "\x1b[31m", "\x7f", "\ud800", 5, None])
def test_other_text_is_refused(value: Any) -> None:
    assert not accepts(Text, value)


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [
        (Count, 0, INTEGER_MAX),
        (Quantity, 1, INTEGER_MAX),
        (Amount, 0, INTEGER_MAX),
        (Delta, -INTEGER_MAX, INTEGER_MAX),
    ],
)
def test_integers_have_bounds_and_are_integers(kind: Any, least: int, most: int) -> None:
    assert accepts(kind, least)
    assert accepts(kind, most)
    for wrong in (least - 1, most + 1, 1.0, "1", True, None):
        assert not accepts(kind, wrong)


def test_a_flag_is_true_or_false_and_nothing_like_it() -> None:
    assert accepts(Flag, True)
    for wrong in (1, 0, "true", None):
        assert not accepts(Flag, wrong)


@pytest.mark.parametrize("currency", ["eur", "EURO", "E1R", "", "€€€"])
def test_money_has_a_currency_of_three_letters(currency: str) -> None:
    with pytest.raises(ValidationError):
        Money(amount=1, currency=currency)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31t12:00:00z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31T12:00:00.123456Z", datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC)),
    ],
)
def test_an_instant_is_rfc_3339_and_kept_in_utc(text: str, instant: datetime) -> None:
    found = read(Instant, f'"{text}"')
    assert found == instant
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        '"2026-01-31T12:00:00"',
        '"2026-01-31 12:00:00Z"',
        '"2026-01-31"',
        '"1769860800"',
        "1769860800",
        '"2026-02-30T12:00:00Z"',
        '"2026-01-31T12:00:00+0200"',
        '"now"',
        "null",
        '""',
    ],
)
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        read(Instant, text)


def test_an_instant_without_an_offset_is_refused_from_programs_too() -> None:
    assert not accepts(Instant, datetime(2026, 1, 31))  # noqa: DTZ001  # that it has none is the point


@pytest.mark.parametrize(
    "text", ['"2026-1-31"', '"2026-01-31T00:00:00Z"', "20260131", '"31.01.2026"', "null"]
)
def test_what_is_no_day_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        read(Day, text)


def test_a_day_is_a_date_and_no_point_in_time() -> None:
    assert read(Day, '"2026-01-31"') == date(2026, 1, 31)
    assert not accepts(Day, datetime(2026, 1, 31, tzinfo=UTC))


@given(st.datetimes(timezones=st.timezones() | st.just(timezone(timedelta(hours=-3)))))
def test_an_event_is_read_back_as_it_was_written(at: datetime) -> None:
    try:
        at.astimezone(UTC)
    except OverflowError:
        return
    event = Lent(until=date(2026, 1, 31), at=at)
    assert Lent.model_validate_json(event.encode()) == event


def test_instants_are_written_with_a_z() -> None:
    assert format_instant(datetime(2026, 1, 31, 12, tzinfo=UTC)) == "2026-01-31T12:00:00Z"
    event = Lent(until=date(2026, 1, 31), at=datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC))
    assert event.encode() == b'{"until":"2026-01-31","at":"2026-01-31T12:00:00.000005Z"}'
