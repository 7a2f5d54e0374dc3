"""Who reads what between two shapes of an event: nothing stored may be refused or come to mean something else."""

from typing import Annotated, Any, Literal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, create_model

from infra.evolution.payloads import full_payload, minimal_payload
from schemas import Event, Personal
from schemas.compatibility import Verdict, gaps, verdict_of
from schemas.messages import Amount, Count, Day, Flag, Id, Instant, Message, Money, Quantity, Text
from schemas.shapes import Shape, shape_of


class Line(Message):
    item_id: Id
    quantity: Quantity


class LineWithNote(Message):
    item_id: Id
    quantity: Quantity
    note: Text | None = None


class Tree(Message):
    name: Id
    parts: tuple["Tree", ...] = ()


class Open(BaseModel):
    name: str


def event(**fields: Any) -> type[Event]:
    """Return an event class with these fields: an annotation, or an annotation and a default."""
    given: dict[str, Any] = {
        name: field if isinstance(field, tuple) else (field, ...) for name, field in fields.items()
    }
    return create_model("Happened", __base__=Event, **given)


def shape(**fields: Any) -> Shape:
    return shape_of(event(**fields))


SAME = [
    {"a": Text, "b": (Text | None, None)},
    {"line": Line, "lines": tuple[Line, ...], "price": Money},
    {"tree": Tree, "at": Instant, "day": Day, "flag": Flag},
    {"either": int | str, "pair": tuple[int, str], "counts": dict[str, Count], "kind": Literal["a", "b"]},
]


@pytest.mark.parametrize("fields", SAME, ids=lambda fields: "+".join(fields))
def test_a_class_reads_and_is_read_by_itself(fields: dict[str, Any]) -> None:
    assert verdict_of(shape(**fields), shape(**fields)) is Verdict.FULL


@pytest.mark.parametrize(
    ("was", "now", "verdict"),
    [
        ({"a": Id}, {"a": Id, "b": (Text | None, None)}, Verdict.BACKWARD),
        ({"lines": tuple[Line, ...]}, {"lines": tuple[LineWithNote, ...]}, Verdict.BACKWARD),
        ({"a": Quantity}, {"a": Amount}, Verdict.BACKWARD),
        ({"a": Text}, {"a": Text | None}, Verdict.BACKWARD),
        ({"a": Literal["x"]}, {"a": Literal["x", "y"]}, Verdict.BACKWARD),
        ({"a": Literal["x"]}, {"a": Text}, Verdict.BACKWARD),
        ({"a": int}, {"a": float}, Verdict.BACKWARD),
        ({"a": Id}, {"a": str}, Verdict.BACKWARD),
        ({"a": int}, {"a": int | str}, Verdict.BACKWARD),
        ({"a": Id}, {"a": (Id, "none")}, Verdict.FULL),
        ({"a": Amount}, {"a": Quantity}, Verdict.FORWARD),
        ({"a": Text | None}, {"a": Text}, Verdict.FORWARD),
        ({"a": Literal["x", "y"]}, {"a": Literal["x"]}, Verdict.FORWARD),
        ({"a": (Text, "")}, {"a": Text}, Verdict.FORWARD),
        ({"a": Id, "b": (Text | None, None)}, {"a": Id}, Verdict.FORWARD),
        ({"a": Id}, {"a": Quantity}, Verdict.NONE),
        ({"a": Id}, {"a": Id, "b": Text}, Verdict.NONE),
        ({"a": Id}, {"b": Id}, Verdict.NONE),
        ({"a": Id, "b": Id}, {"a": Id}, Verdict.NONE),
        ({"a": Text}, {"a": Annotated[Text, Personal("b")]}, Verdict.NONE),
    ],
)  # fmt: skip
def test_who_reads_what_after_a_change(was: Any, now: Any, verdict: Verdict) -> None:
    assert verdict_of(shape(**was), shape(**now)) is verdict


@pytest.mark.parametrize(
    ("was", "now", "field", "problem"),
    [
        ({"a": Id, "b": Id}, {"a": Id}, "b", "gone"),
        ({"a": Id}, {"a": Id, "b": Id}, "b", "new and has no default"),
        ({"a": (Text, "x")}, {"a": Text}, "a", "required now"),
        ({"a": (Text, "x")}, {"a": (Text, "y")}, "a", "its default was 'x' when events were stored, and is 'y' now"),
        ({"lines": tuple[LineWithNote, ...]}, {"lines": tuple[Line, ...]}, "lines[].note", "gone"),
        ({"by": dict[str, Amount]}, {"by": dict[str, Quantity]}, "by{}", "minimum is 1 now, and was 0"),
        ({"a": Text}, {"a": Annotated[str, Field(min_length=1, max_length=10)]}, "a", "maxLength is 10 now"),
        ({"a": str}, {"a": Id}, "a", "pattern is"),
        ({"a": Instant}, {"a": Day}, "a", "format is date now, and was date-time"),
        ({"a": Id}, {"a": Count}, "a", "is string in stored events, and must be integer now"),
        ({"a": Text | None}, {"a": Text}, "a", "may be null in stored events"),
        ({"a": Literal["x", "y"]}, {"a": Literal["x"]}, "a", "may be 'y' in stored events"),
        ({"a": Text}, {"a": Literal["x"]}, "a", "may be any string in stored events"),
        ({"a": int | str}, {"a": int}, "a", "may be string in stored events"),
        ({"a": tuple[int, str]}, {"a": tuple[int]}, "a", "has 2 places in stored events, and 1 now"),
        ({"a": tuple[int, str]}, {"a": tuple[int, int]}, "a[1]", "is string in stored events"),
        ({"a": Annotated[int, Field(gt=0)]}, {"a": Annotated[int, Field(gt=1)]}, "a", "exclusiveMinimum"),
        ({"a": Open}, {"a": Line}, "a", "could have fields that its class did not name"),
        ({"a": Tree}, {"a": Line}, "a.parts", "gone"),
        ({"a": Annotated[Text, Personal("b")]}, {"a": Text}, "a", "no longer marked personal"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_by_field_and_fact(was: Any, now: Any, field: str, problem: str) -> None:
    found = {gap.field: gap.problem for gap in gaps(shape(**was), shape(**now))}
    assert field in found
    assert problem in found[field]


def test_a_pattern_or_bound_that_goes_is_no_gap() -> None:
    assert gaps(shape(a=Id, b=Quantity, c=Text), shape(a=str, b=int, c=str)) == []


KINDS: list[Any] = [
    Id, Text, Text | None, str, Literal["x"], Literal["x", "y"], Quantity, Amount, Count, int, float, Flag, Instant,
    Day,
    Money, Money | None, Line, LineWithNote, tuple[Line, ...], tuple[LineWithNote, ...], int | str, dict[str, Count],
    dict[str, Quantity], Annotated[tuple[Id, ...], Field(min_length=1)], tuple[Id, ...], tuple[int, str],
    Annotated[int, Field(gt=0, lt=100)], Annotated[int, Field(ge=1, le=99)],
]  # fmt: skip
kinds = st.sampled_from(range(len(KINDS)))
classes = st.dictionaries(st.sampled_from("abc"), st.tuples(kinds, st.booleans()), max_size=3)


def class_of(fields: dict[str, tuple[int, bool]]) -> type[Event]:
    return event(
        **{
            name: (KINDS[kind] | None, None) if is_optional else KINDS[kind]
            for name, (kind, is_optional) in fields.items()
        }
    )


@given(classes, classes, st.integers(0, 2**32))
def test_where_there_is_no_gap_whatever_was_stored_is_read(
    was: dict[str, tuple[int, bool]], now: dict[str, tuple[int, bool]], seed: int
) -> None:
    stored, reader = class_of(was), class_of(now)
    found = gaps(shape_of(stored), shape_of(reader))
    for make in (full_payload, minimal_payload):
        data = orjson.dumps(make(shape_of(stored), str(seed)))
        stored.model_validate_json(data)
        if not found:
            reader.model_validate_json(data)


@given(kinds, kinds, st.integers(0, 2**32))
def test_two_kinds_of_one_field_without_a_gap_are_read_alike(was: int, now: int, seed: int) -> None:
    stored, reader = event(a=KINDS[was]), event(a=KINDS[now])
    if not gaps(shape_of(stored), shape_of(reader)):
        for make in (full_payload, minimal_payload):
            reader.model_validate_json(orjson.dumps(make(shape_of(stored), str(seed))))


@given(classes, classes, classes)
def test_what_is_read_by_a_reader_of_a_reader_is_read(
    first: dict[str, tuple[int, bool]],
    second: dict[str, tuple[int, bool]],
    third: dict[str, tuple[int, bool]],
) -> None:
    """So it is enough to keep the latest shape of each version."""
    one, two, three = (shape_of(class_of(fields)) for fields in (first, second, third))
    if not gaps(one, two) and not gaps(two, three):
        assert gaps(one, three) == []
