"""Personal fields: whose they are is checked at start, and their values are found where they stand."""

from collections.abc import Mapping
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from schemas import Event, Message, Personal
from schemas.errors import BadDefinition
from schemas.messages import ERASED, Id, Text
from schemas.personal import Found, find_personal, personal_fields, replaced

Name = Annotated[Text, Personal("member_id", erased=ERASED)]


class Guest(Message):
    guest_id: Id
    name: Annotated[Text, Personal("guest_id", erased=ERASED)]
    room: Annotated[Text | None, Personal("member_id")] = None


class PartyHeld(Event):
    member_id: Id
    name: Name
    price: float = 0.0
    note: Text | None = None
    guests: tuple[Guest, ...] = ()
    best: Guest | None = None
    extra: Mapping[str, Any] = Field(default_factory=dict)


def found_in(event: Event) -> list[tuple[str, str, Any]]:
    fields = personal_fields(type(event))
    assert fields is not None
    found = find_personal(fields, event.encode().decode())
    return [(one.path, one.subject, one.value) for one in found]


def test_values_are_found_at_any_depth_each_with_its_subject() -> None:
    event = PartyHeld(
        member_id="m1",
        name="Ann",
        guests=(Guest(guest_id="g1", name="Bo"), Guest(guest_id="g2", name="Cy", room="7")),
        best=Guest(guest_id="g3", name="Di"),
    )
    assert found_in(event) == [
        ("name", "m1", "Ann"),
        ("guests/0/name", "g1", "Bo"),
        ("guests/1/name", "g2", "Cy"),
        ("guests/1/room", "m1", "7"),
        ("best/name", "g3", "Di"),
    ]


def test_what_looks_like_a_personal_field_elsewhere_is_none() -> None:
    event = PartyHeld(member_id="m1", name='"name":"x"}', extra={"name": "Eve", "guests": [{"name": "Eve"}]})
    assert found_in(event) == [("name", "m1", '"name":"x"}')]


@given(
    name=st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=40),
    note=st.none() | st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20),
    price=st.floats(allow_nan=False, allow_infinity=False),
    rooms=st.lists(st.none() | st.text(st.characters(exclude_categories=["C"]), min_size=1), max_size=4),
    extra=st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(), max_size=3),
)
def test_taking_values_out_and_putting_them_back_gives_the_same_bytes(
    name: str, note: str | None, price: float, rooms: list[str | None], extra: dict[str, Any]
) -> None:
    guests = tuple(Guest(guest_id=f"g{n}", name=name, room=room) for n, room in enumerate(rooms))
    event = PartyHeld(member_id="m1", name=name, note=note, price=price, guests=guests, extra=extra)
    fields, data = personal_fields(PartyHeld), event.encode()
    assert fields is not None
    text = data.decode()
    found = find_personal(fields, text)
    assert len(found) == 1 + len(rooms) + sum(room is not None for room in rooms)
    kept = [text[one.start : one.end] for one in found]
    cut = replaced(text, [(one, '{"cut":1}') for one in found]).decode()
    again = find_personal(fields, cut)
    assert [one.value for one in again] == [{"cut": 1}] * len(found)
    assert replaced(cut, list(zip(again, kept, strict=True))) == data


@pytest.mark.parametrize("text", ["", "[]", "{", '{"member_id":1', '{"name":"x"}', '{"name" "x"}'])
def test_what_is_no_such_message_is_said_to_be_none(text: str) -> None:
    fields = personal_fields(PartyHeld)
    assert fields is not None
    with pytest.raises(ValueError):  # noqa: PT011 (whatever the parser says of it)
        find_personal(fields, text)


def test_a_message_without_marks_has_none() -> None:
    class Plain(Event):
        member_id: Id

    assert personal_fields(Plain) is None


class NoSubject(Event):
    name: Annotated[Text | None, Personal("nobody")] = None


class SubjectMayBeMissing(Event):
    member_id: Id | None = None
    name: Annotated[Text | None, Personal("member_id")] = None


class SubjectIsPersonal(Event):
    member_id: Annotated[Id, Personal("member_id", erased="x")]


class ErasedDoesNotFit(Event):
    member_id: Id
    name: Annotated[Text, Personal("member_id")]


class InAMapping(Event):
    member_id: Id
    guests: dict[str, Guest] = Field(default_factory=dict)


class OneOfTwoModels(Event):
    member_id: Id
    guest: Guest | PartyHeld


@pytest.mark.parametrize(
    ("message", "place"),
    [
        (NoSubject, "NoSubject.name"),
        (SubjectMayBeMissing, "SubjectMayBeMissing.name"),
        (SubjectIsPersonal, "SubjectIsPersonal.member_id"),
        (ErasedDoesNotFit, "ErasedDoesNotFit.name"),
        (InAMapping, "InAMapping.guests"),
        (OneOfTwoModels, "OneOfTwoModels.guest"),
    ],
)
def test_a_wrong_mark_is_refused_at_start_and_named(message: type[Event], place: str) -> None:
    with pytest.raises(BadDefinition, match=place):
        personal_fields(message)


def test_a_found_value_knows_what_it_reads_as_once_erased() -> None:
    fields = personal_fields(PartyHeld)
    assert fields is not None
    (found,) = find_personal(fields, '{ "name" : "Ann", "member_id" : "m1" }')
    assert found == Found("name", "m1", 11, 16, "Ann", b'"[erased]"')
