"""States to bytes and back: the same state comes out, and what cannot be saved is said at the start."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command_api.app import rules_of
from command_api.decider import Decider
from command_api.saved_states import StateForms, form_of
from command_api.state_codec import StateCodec
from schemas.errors import BadDefinition
from schemas.messages import Money
from tests.toy import (
    DOMAIN,
    Account,
    AccountClosed,
    AccountOpened,
    Accounts,
    Deposited,
    Withdrawn,
)

Value = TypeVar("Value")
Cents = NewType("Cents", int)


class Colour(Enum):
    RED = "red"
    BLUE = object()


class Point(NamedTuple):
    x: int
    y: float | None = None


@dataclass(frozen=True, slots=True)
class Leaf(Generic[Value]):
    value: Value
    more: "tuple[Leaf[Value], ...]" = ()


@dataclass(frozen=True)
class Everything:
    text: str
    count: Annotated[int, "any size"]
    cents: Cents
    ratio: float
    flag: bool
    raw: bytes
    price: Decimal
    id: UUID
    at: datetime
    day: date
    hour: time
    lasts: timedelta
    colour: Colour
    word: Literal["a", "b", None]
    point: Point
    money: Money | None
    either: int | str | date | None
    pair: tuple[int, str | None]
    row: tuple[Point, ...]
    names: frozenset[tuple[int, str | None]]
    units: Mapping[tuple[int, str | None], Mapping[int, Point]]
    tree: Leaf[int]
    listed: list[int] = field(default_factory=list, kw_only=True)


codec = StateCodec(Everything)
points = st.builds(Point, st.integers(), st.none() | st.floats(allow_nan=False))
places = st.tuples(st.integers(), st.none() | st.text())
leaves: st.SearchStrategy[Leaf[int]] = st.recursive(
    st.builds(Leaf, st.integers()),
    lambda below: st.builds(Leaf, st.integers(), st.lists(below, max_size=3).map(tuple)),
    max_leaves=5,
)
money = st.builds(lambda amount: Money(amount=amount, currency="EUR"), st.integers(0, 2**53))
zones = st.sampled_from([UTC, timezone(timedelta(hours=2))])
everything = st.builds(
    Everything,
    text=st.text(),
    count=st.integers(),
    cents=st.integers().map(Cents),
    ratio=st.floats(allow_nan=False),
    flag=st.booleans(),
    raw=st.binary(),
    price=st.decimals(allow_nan=False),
    id=st.uuids(),
    at=st.datetimes(timezones=zones).map(lambda at: at.replace(fold=0)),
    day=st.dates(),
    hour=st.times().map(lambda at: at.replace(fold=0)),
    lasts=st.timedeltas(),
    colour=st.sampled_from(Colour),
    word=st.sampled_from(["a", "b", None]),
    point=points,
    money=st.none() | money,
    either=st.none() | st.integers() | st.text() | st.dates(),
    pair=places,
    row=st.lists(points, max_size=3).map(tuple),
    names=st.frozensets(places, max_size=3),
    units=st.dictionaries(places, st.dictionaries(st.integers(), points, max_size=2), max_size=3),
    tree=leaves,
    listed=st.lists(st.integers(), max_size=3),
)


@given(everything)
@settings(max_examples=100, deadline=None)
def test_whatever_a_state_may_hold_comes_back_as_it_was(state: Everything) -> None:
    again = codec.decode(codec.encode(state))
    assert again == state
    unordered: frozenset[Any] = frozenset()
    assert repr(replace(again, names=unordered)) == repr(replace(state, names=unordered)), (
        "of the same classes"
    )


@given(
    st.lists(
        st.sampled_from([AccountOpened(owner="Ann"), AccountClosed()])
        | st.builds(Deposited, cents=st.integers(0, 2**53))
        | st.builds(Withdrawn, cents=st.integers(0, 2**53))
    )
)
def test_every_state_of_the_toy_domain_comes_back_as_it_was(events: list[Any]) -> None:
    accounts = Accounts()
    form = form_of(accounts)
    state = accounts.initial
    for event in events:
        state = accounts.evolve(state, event)
        assert form.codec.decode(form.codec.encode(state)) == state


def a_decider(of: type, **attributes: Any) -> Decider[Any]:
    """Return a decider with states of a type."""
    made: Decider[Any] = type("Things", (Accounts,), {"initial": None, **attributes})()
    made.__class__.__orig_bases__ = (Decider[of],)  # type: ignore[attr-defined,valid-type]  # as a class statement sets it
    return made


@dataclass(frozen=True)
class Unfit:
    anything: object


def test_a_state_that_cannot_be_saved_is_refused_at_the_start() -> None:
    for hint in (
        Unfit,
        dict,
        Leaf,
        tuple[Any, ...],
        tuple[int | bool | Literal[1], ...],
        Mapping[str, complex],
    ):
        with pytest.raises(BadDefinition):
            StateCodec(hint)
    with pytest.raises(BadDefinition):
        form_of(a_decider(Unfit))


def test_a_decider_may_say_that_its_states_are_not_saved() -> None:
    rules = rules_of([DOMAIN])
    assert StateForms(rules).of_stream("accounts/A") is not None
    assert StateForms(rules).of_stream("others/A") is None
    unsaved = a_decider(Unfit, saves_states=False)
    assert StateForms([unsaved]).of_stream("accounts/A") is None


def test_another_version_or_shape_or_collection_has_another_form() -> None:
    @dataclass(frozen=True)
    class Renamed:
        is_open: bool = False
        balance: int = 0

    shapes = {
        form_of(a_decider(Account)).shape,
        form_of(a_decider(Account, version=2)).shape,
        form_of(a_decider(Account, collection="others")).shape,
        form_of(a_decider(Renamed)).shape,
    }
    assert len(shapes) == 4
    assert form_of(a_decider(Account)).shape == form_of(Accounts()).shape, "and the same in every process"


def test_a_field_of_a_field_counts_as_shape() -> None:
    def shape_of(hint: Any) -> str:
        @dataclass
        class Inner:
            value: Any

        Inner.__annotations__["value"] = hint

        @dataclass
        class Outer:
            inner: Any

        Outer.__annotations__["inner"] = tuple[Inner, ...]
        return StateCodec(Outer).shape

    assert len({shape_of(hint) for hint in (int, str, int | None, Literal[1], tuple[int, ...], Colour)}) == 6


def test_a_state_that_is_not_what_its_type_says_is_not_saved() -> None:
    class Special(Account):
        pass

    form = form_of(Accounts())
    with pytest.raises(TypeError):
        form.codec.encode(Special())
    with pytest.raises(ValueError, match="time zone"):
        StateCodec(tuple[datetime, ...]).encode((datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")),))
