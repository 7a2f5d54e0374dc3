"""The registry knows every message, refuses what two claim, and reads old versions as today's."""

from types import ModuleType

import pytest

from infra.domains import load_registry
from schemas import Command, Event, Rejection, View, upcast
from schemas.errors import BadDefinition, UnknownEvent
from schemas.messages import Id
from schemas.registry import Registry
from tests import toy
from tests.modules import module


class TurnOn(Command, route="lamps/{lamp_id}/turn-on", permission="clerk"):
    lamp_id: Id


class Lit(Event, version=3):
    lumens: int


class LitV2(Event, type="Lit", version=2):
    watts: int


class LitV1(Event, type="Lit"):
    candles: int


class LitTwice(Event):
    lumens: int


class LitTwiceV0(Event, type="LitTwice", version=0):
    lumens: int


class LampView(View):
    lamp_id: str


class BulbBroken(Rejection):
    """The bulb is broken."""


@upcast
def lit_v1(event: LitV1) -> LitV2:
    return LitV2(watts=event.candles * 2)


@upcast
def lit_v2(event: LitV2) -> list[Lit]:
    return [Lit(lumens=event.watts * 10), Lit(lumens=1)]


@upcast
def lit_twice(event: LitTwiceV0) -> Lit:
    return Lit(lumens=event.lumens)


LAMPS = module(
    "lamps", TurnOn, Lit, LitV2, LitV1, LitTwice, LitTwiceV0, LampView, BulbBroken, lit_v1, lit_v2, lit_twice
)


@pytest.fixture(name="registry")
def _registry() -> Registry:
    registry = Registry()
    registry.add("lamps", [LAMPS])
    return registry


def test_it_knows_each_message_by_its_name(registry: Registry) -> None:
    assert registry.commands == {"lamps.turn-on": TurnOn}
    assert registry.newest["Lit"] is Lit
    assert registry.views == {"LampView": LampView}
    assert registry.rejections == {"bulb-broken": BulbBroken}
    assert registry.domain_of[TurnOn] == "lamps"


def test_an_event_is_read_as_its_own_version(registry: Registry) -> None:
    assert registry.decode("Lit", 3, b'{"lumens":5}') == (Lit(lumens=5),)


def test_an_old_version_is_read_as_today_s_step_by_step(registry: Registry) -> None:
    assert registry.decode("Lit", 2, b'{"watts":5}') == (Lit(lumens=50), Lit(lumens=1))
    assert registry.decode("Lit", 1, b'{"candles":5}') == (Lit(lumens=100), Lit(lumens=1))


def test_a_fact_may_be_another_one_today(registry: Registry) -> None:
    assert registry.decode("LitTwice", 0, b'{"lumens":5}') == (Lit(lumens=5),)


@pytest.mark.parametrize(
    ("kind", "version", "data"),
    [("Lit", 4, b'{"lumens":5}'), ("Dimmed", 1, b"{}"), ("Lit", 3, b'{"watts":5}'), ("Lit", 3, b"\x00")],
)
def test_what_is_not_known_is_said_to_be_so(registry: Registry, kind: str, version: int, data: bytes) -> None:
    with pytest.raises(UnknownEvent) as caught:
        registry.decode(kind, version, data)
    assert (caught.value.type, caught.value.schema_version) == (kind, version)


def test_one_name_belongs_to_one_class() -> None:
    class TurnOnAgain(Command, route="lamps/{lamp_id}/turn-on", permission="clerk"):
        lamp_id: Id

    registry = Registry()
    registry.add("lamps", [LAMPS])
    with pytest.raises(BadDefinition, match=r"lamps\.turn-on") as caught:
        registry.add("others", [module("others", TurnOnAgain)])
    assert "lamps" in caught.value.problem
    assert "others" in caught.value.problem


def test_what_a_module_only_imports_is_not_its_own() -> None:
    registry = Registry()
    importing = ModuleType("importing")
    importing.TurnOn = TurnOn  # type: ignore[attr-defined]  # a module has what is put in it
    registry.add("others", [importing])
    assert registry.commands == {}


def test_an_old_version_needs_an_upcast() -> None:
    class Dimmed(Event, version=2):
        pass

    class DimmedV1(Event, type="Dimmed"):
        pass

    with pytest.raises(BadDefinition, match="Dimmed version 1"):
        Registry().add("lamps", [module("dimming", Dimmed, DimmedV1)])


def test_a_class_that_is_read_as_another_is_of_the_past_and_what_derives_from_it_is_not(
    registry: Registry,
) -> None:
    class Brightened(LitV1):
        pass

    assert [event.is_past for event in (LitV1, LitV2, Lit, Brightened)] == [True, True, False, False]
    assert not registry.newest["Lit"].is_past


def test_the_toy_domains_stored_events_are_read() -> None:
    registry = load_registry((toy.DOMAIN,))
    assert registry.decode("Deposited", 1, b'{"cents":5}') == (toy.Deposited(cents=5, source="unknown"),)
