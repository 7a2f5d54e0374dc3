"""What supply ever stored is read and folded by today's code: payloads of every version, and whole logs."""

import pytest

from command_api.supply.stock_state import StockState
from infra.domains import load_domains
from infra.evolution.judging import judge
from infra.evolution.versions_file import RETIRED, Place
from schemas import Event
from schemas.registry import Registry
from schemas.upcasting import upcast
from tests.modules import module
from tests.stored import ROOT, corpus_of, fold_log, read_log, states_after, stored_logs
from tests.unit.supply.stored_story import story_of_everything

(DOMAIN,) = load_domains(("supply",))
JUDGED = judge(DOMAIN, ROOT / "tests/corpus")
assert JUDGED is not None
PLACES = sorted(place for place, entry in JUDGED.file.entries.items() if entry.status != RETIRED)


def test_the_registry_file_and_the_corpus_hold() -> None:
    assert JUDGED is not None
    assert list(map(str, JUDGED.findings())) == []


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_every_stored_payload_is_folded_by_every_decider(place: Place) -> None:
    assert JUDGED is not None
    for stored in (corpus_of("supply") / f"{place.type}.v{place.version}.jsonl").read_bytes().splitlines():
        for event in JUDGED.registry.decode(*place, stored):
            assert len(states_after(DOMAIN, event, "orders/O1")) > 1


@pytest.mark.parametrize("path", stored_logs("supply"), ids=lambda path: path.name)
def test_every_stored_log_is_folded_by_all_deciders_and_projections(path: object) -> None:
    events = list(read_log(corpus_of("supply") / str(path)))
    folded = fold_log(DOMAIN, events)
    assert JUDGED is not None
    counting = {event.stream for event in events if JUDGED.registry.today(*event.place)}
    assert folded.states.keys() == counting
    assert all(
        folded.rows[name] for name in ("orders", "items", "sites", "stock-levels", "lot-traces", "recalls")
    )
    levels = {key: row for (table, key), row in folded.rows["stock-levels"].items() if table == "rows"}
    for stream, state in folded.states.items():
        if isinstance(state, StockState):
            assert levels[tuple(stream.split("/")[1:])].on_hand == state.on_hand


def test_stored_logs_have_every_version_that_ever_shipped() -> None:
    stored = {event.place for path in stored_logs("supply") for event in read_log(path)}
    missing = sorted(map(str, set(PLACES) - stored))
    assert missing == [], "store another log: python -m tests.unit.supply.stored_story log-N.jsonl"


def test_the_story_that_a_log_is_made_of_has_every_event() -> None:
    assert JUDGED is not None
    registry = JUDGED.registry
    written = {event.type for event in registry.events.values() if event not in registry.upcasts}
    assert {recorded.event.type for recorded in story_of_everything()} == written


def test_a_fold_that_forgets_an_old_fact_fails_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate itself: were orders cancelled by another event from now on, yesterday's logs would not be folded."""

    class OrderCalledOff(Event):
        pass

    registry = Registry()
    registry.add("supply", DOMAIN.parts("schemas"))
    old = registry.events["OrderPlaced", 1]
    monkeypatch.setattr(
        old, "is_past", False
    )  # what the next registry makes of the class ends with this test

    @upcast
    def forgotten(event: Event) -> OrderCalledOff:
        return OrderCalledOff()

    forgotten.__annotations__["event"] = old
    registry.add("supply", [module("orders-next", OrderCalledOff, forgotten)])
    (path, *_) = stored_logs("supply")
    with pytest.raises((AttributeError, KeyError, TypeError)):
        fold_log(DOMAIN, read_log(path), registry=registry)
