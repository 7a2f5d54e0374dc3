"""Stored bytes of any version are read as today's events: renamed, split, filled in, or no longer counted."""

from typing import Any, Never

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.evolution.payloads import full_payload, minimal_payload
from schemas import Event, upcast
from schemas.errors import BadDefinition, UnreadableEvent
from schemas.messages import Amount, Quantity, Text
from schemas.registry import Registry
from schemas.shapes import shape_of
from tests import toy
from tests.modules import module


class LampBought(Event, version=3):
    watts: Quantity
    colour: Text = "white"
    room: Text | None = None


class LampBoughtV2(Event, type="LampBought", version=2):
    watts: Quantity
    colour: Text


class LampBoughtV1(Event, type="LampBought"):
    watts: Quantity


class LampHung(Event):
    """What was called `LampPutUp`."""

    room: Text


class LampPutUpV2(Event, type="LampPutUp", version=2):
    where: Text


class LampPutUpV1(Event, type="LampPutUp"):
    place: Text


class LampAndBulbBoughtV1(Event, type="LampAndBulbBought"):
    watts: Quantity
    bulbs: Quantity


class BulbBought(Event):
    pass


class LampDusted(Event):
    pass


@upcast
def lamp_bought_v2(event: LampBoughtV2) -> LampBought:
    return LampBought(watts=event.watts, colour=event.colour)


@upcast
def lamp_bought_v1(event: LampBoughtV1) -> LampBoughtV2:
    return LampBoughtV2(watts=event.watts, colour="white")


@upcast
def lamp_put_up_v2(event: LampPutUpV2) -> LampHung:
    return LampHung(room=event.where)


@upcast
def lamp_put_up_v1(event: LampPutUpV1) -> LampPutUpV2:
    return LampPutUpV2(where=event.place)


@upcast
def lamp_and_bulb(event: LampAndBulbBoughtV1) -> list[LampBoughtV2 | BulbBought]:
    return [LampBoughtV2(watts=event.watts, colour="red"), *[BulbBought()] * min(event.bulbs, 3)]


@upcast
def lamp_dusted(event: LampDusted) -> list[Never]:
    return []


LAMPS = module(
    "lamps", LampBought, LampBoughtV2, LampBoughtV1, LampHung, LampPutUpV2, LampPutUpV1, LampAndBulbBoughtV1,
    BulbBought, LampDusted, lamp_bought_v2, lamp_bought_v1, lamp_put_up_v2, lamp_put_up_v1, lamp_and_bulb, lamp_dusted,
)  # fmt: skip


def registry_of(*values: object, name: str = "lamps") -> Registry:
    registry = Registry()
    registry.add(name, [module(name, *values)])
    return registry


REGISTRY = Registry()
REGISTRY.add("lamps", [LAMPS])
REGISTRY.add("toy", [toy])


@pytest.mark.parametrize(
    ("type_", "version", "stored", "today"),
    [
        ("LampBought", 3, b'{"watts":5,"colour":"red","room":"a"}', [LampBought(watts=5, colour="red", room="a")]),
        ("LampBought", 3, b'{"watts":5}', [LampBought(watts=5, colour="white", room=None)]),
        ("LampBought", 2, b'{"watts":5,"colour":"red"}', [LampBought(watts=5, colour="red")]),
        ("LampBought", 1, b'{"watts": 5}', [LampBought(watts=5, colour="white")]),
        ("LampPutUp", 2, b'{"where":"hall"}', [LampHung(room="hall")]),
        ("LampPutUp", 1, b'{"place":"hall"}', [LampHung(room="hall")]),
        (
            "LampAndBulbBought", 1, b'{"watts":5,"bulbs":2}',
            [LampBought(watts=5, colour="red"), BulbBought(), BulbBought()],
        ),
        ("LampDusted", 1, b"{}", []),
    ],
    ids=["newest", "defaults", "one step", "two steps", "renamed", "renamed twice", "split and on", "dropped"],
)  # fmt: skip
def test_stored_bytes_are_read_as_todays_events(
    type_: str, version: int, stored: bytes, today: list[Event]
) -> None:
    assert list(REGISTRY.decode(type_, version, stored)) == today
    assert {event.type for event in today} <= (REGISTRY.today(type_, version) or set())


def test_what_a_stored_type_is_read_as_is_known_before_it_is_read() -> None:
    assert REGISTRY.today("LampPutUp", 1) == frozenset({"LampHung"})
    assert REGISTRY.today("LampAndBulbBought", 1) == frozenset({"LampBought", "BulbBought"})
    assert REGISTRY.today("LampDusted", 1) == frozenset()
    assert REGISTRY.today("LampBought", 4) is None
    assert REGISTRY.today("LampEaten", 1) is None


@pytest.mark.parametrize("place", sorted(REGISTRY.events), ids=str)
@given(seed=st.integers(0, 2**64))
def test_whatever_was_stored_only_newest_versions_come_of_it(place: tuple[str, int], seed: int) -> None:
    shape = shape_of(REGISTRY.events[place])
    for make in (full_payload, minimal_payload):
        for event in REGISTRY.decode(*place, orjson.dumps(make(shape, str(seed)))):
            assert type(event) is REGISTRY.newest[event.type]
            assert type(event) not in REGISTRY.upcasts
            assert event.type in (REGISTRY.today(*place) or ())


CURRENT = sorted(place for place, event in REGISTRY.events.items() if event not in REGISTRY.upcasts)


@pytest.mark.parametrize("place", CURRENT, ids=str)
@given(seed=st.integers(0, 2**64))
def test_an_event_is_read_back_as_it_was_written(place: tuple[str, int], seed: int) -> None:
    event = REGISTRY.events[place].model_validate(full_payload(shape_of(REGISTRY.events[place]), str(seed)))
    assert REGISTRY.decode(event.type, event.schema_version, event.encode()) == (event,)


# -- what is refused at start ----------------------------------------------------------------------------


class Lit(Event, version=2):
    pass


class LitV1(Event, type="Lit"):
    pass


class Flashed(Event):
    pass


def test_an_upcast_to_an_older_version_is_refused_at_start() -> None:
    @upcast
    def backwards(event: Lit) -> LitV1:
        return LitV1()

    @upcast
    def onwards(event: LitV1) -> Flashed:
        return Flashed()

    with pytest.raises(
        BadDefinition, match=r"backwards: reads Lit version 2 as Lit version 1, which is not newer"
    ):
        registry_of(Lit, LitV1, Flashed, backwards, onwards)


def test_an_upcast_to_itself_is_refused_at_start() -> None:
    @upcast
    def still(event: LitV1) -> LitV1:
        return event

    with pytest.raises(BadDefinition, match="not newer"):
        registry_of(Lit, LitV1, still)


def test_a_chain_that_comes_back_is_refused_at_start() -> None:
    @upcast
    def lit(event: LitV1) -> list[Flashed]:
        return [Flashed()]

    @upcast
    def flashed(event: Flashed) -> LitV1:
        return LitV1()

    with pytest.raises(
        BadDefinition, match=r"Flashed version 1 → Lit version 1 → Flashed version 1|Lit version 1 → "
    ):
        registry_of(Lit, LitV1, Flashed, lit, flashed)


def test_an_upcast_into_another_domain_is_refused_at_start() -> None:
    @upcast
    def away(event: LitV1) -> Flashed:
        return Flashed()

    registry = registry_of(Flashed, name="others")
    with pytest.raises(BadDefinition, match=r"gives Flashed version 1, which belongs to the domain others"):
        registry.add("lamps", [module("lamps", Lit, LitV1, away)])


def test_an_upcast_to_what_nobody_defines_is_refused_at_start() -> None:
    @upcast
    def nowhere(event: LitV1) -> Flashed:
        return Flashed()

    with pytest.raises(BadDefinition, match="Flashed version 1, which is not a class of the domain"):
        registry_of(Lit, LitV1, nowhere)


def test_two_upcasts_of_one_class_are_refused_at_start() -> None:
    @upcast
    def one(event: LitV1) -> Lit:
        return Lit()

    @upcast
    def other(event: LitV1) -> Lit:
        return Lit()

    with pytest.raises(BadDefinition, match=r"other: upcast lamps\..*one reads LitV1 already"):
        registry_of(Lit, LitV1, one, other)


def vague(event: LitV1) -> list[Event]:
    return []


def silent(event: LitV1):  # type: ignore[no-untyped-def]  # that is what is wrong with it
    return []


def of_two(event: LitV1, other: Lit) -> Lit:
    return other


def of_anything(event: Any) -> Lit:
    return Lit()


def of_nobody_knows(event: "Lamp") -> Lit:  # type: ignore[name-defined]  # noqa: F821 -- that is what is wrong with it
    return Lit()


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (vague, "annotated with Event"),
        (silent, "annotated with object"),
        (of_two, "takes one event"),
        (of_anything, "takes one event"),
        (of_nobody_knows, "'Lamp' is not defined"),
    ],
)
def test_an_upcast_says_what_it_reads_and_what_it_gives(function: Any, problem: str) -> None:
    with pytest.raises(BadDefinition, match=problem) as caught:
        registry_of(Lit, LitV1, upcast(function))
    assert function.__name__ in caught.value.what


# -- what fails while reading ----------------------------------------------------------------------------


def test_bytes_that_do_not_fit_are_unreadable_and_the_field_is_named_without_its_value() -> None:
    with pytest.raises(UnreadableEvent, match="LampBought") as caught:
        REGISTRY.decode("LampBought", 3, b'{"watts":"a secret","colour":"red"}')
    assert caught.value.reason == "watts: Input should be a valid integer"


class Dimmed(Event, version=2):
    percent: Quantity


class DimmedV1(Event, type="Dimmed"):
    percent: Amount


@upcast
def dimmed_v1(event: DimmedV1) -> Dimmed:
    return Dimmed(percent=event.percent)


def test_an_upcast_that_fails_is_named_with_the_event_it_failed_on() -> None:
    with pytest.raises(UnreadableEvent) as caught:
        registry_of(Dimmed, DimmedV1, dimmed_v1).decode("Dimmed", 1, b'{"percent":0}')
    assert (caught.value.type, caught.value.schema_version) == ("Dimmed", 1)
    assert caught.value.reason == (
        "upcast lamps.dimmed_v1: percent: Input should be greater than or equal to 1"
    )


@pytest.mark.parametrize("result", [Flashed(), None, [Lit(), "a text"]], ids=["another", "none", "no event"])
def test_an_upcast_that_gives_what_it_does_not_say_makes_its_event_unreadable(result: Any) -> None:
    @upcast
    def odd(event: LitV1) -> Lit:
        return result  # type: ignore[no-any-return]  # a lie

    with pytest.raises(UnreadableEvent, match="which its annotation does not name"):
        registry_of(Lit, LitV1, odd).decode("Lit", 1, b"{}")


def test_a_fault_in_an_upcast_is_told_with_its_cause() -> None:
    @upcast
    def faulty(event: LitV1) -> Lit:
        raise KeyError("a secret")

    with pytest.raises(UnreadableEvent) as caught:
        registry_of(Lit, LitV1, faulty).decode("Lit", 1, b"{}")
    assert caught.value.reason.endswith("faulty: KeyError")
    assert isinstance(caught.value.__cause__, KeyError)
