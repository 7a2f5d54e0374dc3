"""The checker of fault runs bites: whatever goes wrong turns the invariant red that forbids it, and no other."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.checker.__main__ import CHECKS, check
from tests.chaos.checker.evidence import Call, Checkpoint, Commit, Event, Evidence

TENANT = "demo"
STREAM = "stock/site-0/item-0"
AT = 1_000_000
CONSUMERS = (("projection", "stock-levels"), ("workflow", "fulfilment"), ("relay", "cloudevents"))


def event(position: int, type_: str, facts: dict[str, Any], stream: str = STREAM, version: int = 0) -> Event:
    """Return an event; its version is its position unless told."""
    data = json.dumps(facts).encode()
    return Event(
        0, position, TENANT, stream, version or position, f"id-{position}", type_, 1, data, b"{}", AT
    )


def commit_of(event: Event, previous: bytes) -> Commit:
    """Return the commit of one event, by a hash that is spelled out once more here."""
    header = (
        f"0:{event.position}:{event.version}:1:{AT}:{len(TENANT)}:{len(event.stream)}:{len(event.type)}:"
        f"{len(event.data)}:2:{event.id}:{TENANT}{event.stream}{event.type}"
    )
    leaf = sha256(header.encode() + event.data + event.metadata).digest()
    hash_ = sha256(previous + f"0:{event.position}:{event.position}:{AT}:".encode() + leaf).digest()
    return Commit(0, event.position, event.position, AT, hash_, previous)


def level(version: int, **figures: int) -> tuple[str, str]:
    """Return a row of stock-levels as it is stored."""
    names = (
        "on_hand",
        "reserved",
        "quarantined",
        "expired",
        "received",
        "adjusted",
        "returned",
        "transferred",
    )
    lot = {"lot": "L", **dict.fromkeys((*names, "shipped", "disposed"), 0), **figures}
    return f"({TENANT},site-0,item-0)", json.dumps({"stream": STREAM, "version": version, "lots": [lot]})


def right(events: list[Event] | None = None) -> Evidence:
    """Return evidence of a run in which all went well: 10 units came in, 4 were reserved."""
    events = events or [
        event(1, "StockReceived", {"lot": "L", "quantity": 10}),
        event(2, "StockReserved", {"order_id": "o", "line_no": 1, "lots": [{"lot": "L", "quantity": 4}]}),
    ]
    commits: list[Commit] = []
    for one in events:
        commits.append(commit_of(one, commits[-1].hash if commits else bytes(32)))
    last = commits[-1]
    row = level(2, on_hand=10, received=10, reserved=4)
    told = {"id": "id-1", "type": "StockReceived", "stream": STREAM, "version": 1}
    return Evidence(
        calls=[
            Call("k1", TENANT, f"/v1/{STREAM}/receive", {"quantity": 10, "lot": "L"}, 0.0, 1.0, "ok", [told]),
            Call("k2", TENANT, f"/v1/{STREAM}/dispose", {"quantity": 99}, 1.0, 2.0, "rejected", [], "short"),
        ],
        events=events,
        commits=commits,
        checkpoints=[Checkpoint(*consumer, 0, last.last, last.hash) for consumer in CONSUMERS],
        expected_consumers=CONSUMERS,
        keys=[(TENANT, "k1", 1)],
        noted_heads=[(0, 1, commits[0].hash.hex())],
        tapped={one.id for one in events},
        queued={"q": 0},
        dead=["f1", "f2"],
        injected=["f1", "f2", "purged"],
        injected_last=["f2"],
        live={"stock-levels/rows": [row]},
        rebuilt={"stock-levels/rows": [row]},
    )


def numbers(evidence: Evidence) -> set[str]:
    """Return the invariants that do not hold."""
    return {name[:3] for name, problems in check(evidence).items() if problems}


def test_a_run_in_which_all_went_well_holds() -> None:
    assert numbers(right()) == set()


def lost(evidence: Evidence) -> Evidence:
    call = evidence.calls[0]._replace(events=[{**evidence.calls[0].events[0], "id": "gone"}])
    return replace(evidence, calls=[call])


def doubled(evidence: Evidence) -> Evidence:
    return replace(evidence, keys=[(TENANT, "k1", 2)])


def rejected_yet_done(evidence: Evidence) -> Evidence:
    return replace(evidence, keys=[*evidence.keys, (TENANT, "k2", 1)])


def reused_position(evidence: Evidence) -> Evidence:
    return replace(evidence, noted_events=[(0, 2, "another", "digest")])


def asked_later_stored_earlier(evidence: Evidence) -> Evidence:
    late = evidence.calls[0]._replace(invoked=5.0, answered=6.0)
    told = {"id": "id-2", "type": "StockReserved", "stream": STREAM, "version": 2}
    early = Call("k0", TENANT, "/v1/x/y", {}, 0.0, 1.0, "ok", [told])
    return replace(evidence, calls=[late, early])


def torn(evidence: Evidence) -> Evidence:
    told = [
        {"id": f"id-{n}", "type": e.type, "stream": STREAM, "version": n}
        for n, e in enumerate(evidence.events, 1)
    ]
    return replace(evidence, calls=[evidence.calls[0]._replace(events=told[::-1])])


def rewritten(evidence: Evidence) -> Evidence:
    changed = evidence.events[1]._replace(metadata=b'{"actor":"mallory"}')
    return replace(evidence, events=[evidence.events[0], changed])


def seen_and_gone(evidence: Evidence) -> Evidence:
    return replace(evidence, noted_heads=[(0, 1, "00")])


def wrong_row(evidence: Evidence) -> Evidence:
    rows = {"stock-levels/rows": [level(2, on_hand=20, received=20, reserved=4)]}
    return replace(evidence, live=rows, rebuilt=rows)


def live_differs_from_replay(evidence: Evidence) -> Evidence:
    return replace(evidence, rebuilt={"stock-levels/rows": []})


def stuck(evidence: Evidence) -> Evidence:
    first = evidence.commits[0]
    behind = evidence.checkpoints[1]._replace(position=1, hash=first.hash)
    return replace(evidence, checkpoints=[evidence.checkpoints[0], behind, evidence.checkpoints[2]])


def of_another_history(evidence: Evidence) -> Evidence:
    other = evidence.checkpoints[0]._replace(hash=bytes(32))
    return replace(evidence, checkpoints=[other, *evidence.checkpoints[1:]])


def honest_dead_letter(evidence: Evidence) -> Evidence:
    return replace(evidence, dead=[*evidence.dead, "honest"])


def dropped_forgery(evidence: Evidence) -> Evidence:
    return replace(evidence, dead=["f1"])


def left_in_queue(evidence: Evidence) -> Evidence:
    return replace(evidence, queued={"q": 3})


def never_told(evidence: Evidence) -> Evidence:
    return replace(evidence, tapped={"id-2"})


@pytest.mark.parametrize(
    ("invariants", "bug"),
    [
        ({"I01"}, lost),
        ({"I02"}, doubled),
        ({"I03"}, rejected_yet_done),
        ({"I04"}, reused_position),
        ({"I06"}, torn),
        ({"I07"}, asked_later_stored_earlier),
        ({"I08"}, rewritten),
        ({"I08"}, seen_and_gone),
        ({"I09"}, wrong_row),
        ({"I09"}, live_differs_from_replay),
        ({"I10"}, stuck),
        ({"I12"}, of_another_history),
        ({"I17"}, honest_dead_letter),
        ({"I17"}, dropped_forgery),
        ({"I17"}, left_in_queue),
        ({"I21"}, never_told),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_bug_turns_its_invariant_red(invariants: set[str], bug: Callable[[Evidence], Evidence]) -> None:
    assert numbers(bug(right())) == invariants


def test_events_that_come_twice_are_noticed_by_the_ledgers_sums_though_every_fold_agrees() -> None:
    received = {"lot": "L", "quantity": 10}
    evidence = right([event(1, "StockReceived", received), event(2, "StockReceived", received)])
    row = level(2, on_hand=20, received=20)
    evidence = replace(evidence, live={"stock-levels/rows": [row]}, rebuilt={"stock-levels/rows": [row]})
    assert numbers(evidence) == {"I02"}


def test_a_gap_in_positions_and_versions_is_noticed() -> None:
    received = {"lot": "L", "quantity": 5}
    evidence = right([event(1, "StockReceived", received), event(3, "StockReceived", received)])
    row = level(3, on_hand=10, received=10)
    evidence = replace(evidence, live={"stock-levels/rows": [row]}, rebuilt={"stock-levels/rows": [row]})
    assert numbers(evidence) == {"I04", "I05", "I08"}


@pytest.mark.parametrize(
    "second",
    [
        ("StockReserved", {"order_id": "o", "line_no": 1, "lots": [{"lot": "L", "quantity": 11}]}),
        ("StockDisposed", {"lot": "L", "quantity": 2, "available": 1}),
        ("StockTransferredOut", {"lot": "L", "quantity": 11, "to_site_id": "s"}),
    ],
    ids=["reserved what is not there", "figures that do not add up", "below zero"],
)
def test_the_domains_laws_are_checked_at_every_prefix(second: tuple[str, dict[str, Any]]) -> None:
    third = event(3, "StockReceived", {"lot": "L", "quantity": 50}, "stock/site-1/item-0", 1)
    evidence = right([event(1, "StockReceived", {"lot": "L", "quantity": 10}), event(2, *second), third])
    assert "I16" in numbers(evidence)


def test_what_a_recall_holds_may_not_be_reserved_and_every_order_of_it_is_marked() -> None:
    lots = [{"lot": "L", "quantity": 1}]
    shipped = {"order_id": "o", "customer_id": "c", "shipment_id": "s", "line_no": 1, "lots": lots}
    scope = [{"item_id": "item-0", "lots": ["L"], "sites": []}]
    events = [
        event(1, "StockReceived", {"lot": "L", "quantity": 10}),
        event(2, "StockReserved", {"order_id": "o", "line_no": 1, "lots": lots}),
        event(3, "StockShipped", shipped),
        event(4, "RecallIssued", {"recall_class": "I", "scope": scope}, "recalls/r", 1),
        event(5, "StockReserved", {"order_id": "p", "line_no": 1, "lots": lots}, version=4),
    ]
    problems = check(right(events))["I16 the domain's own laws"]
    assert any("which recalls/r holds" in problem for problem in problems)
    assert any("shipped to ['o'], marked are []" in problem for problem in problems)


def test_every_invariant_of_the_run_is_among_the_checks() -> None:
    wanted = {*(f"I{number:02}" for number in range(1, 11)), "I16", "I17", "I21"}
    assert wanted <= {name[:3] for name in CHECKS}


def test_the_checker_imports_nothing_of_the_application() -> None:
    folder = Path(__file__).parents[2] / "chaos" / "checker"
    roots = {
        name.split(".")[0] if not name.startswith("tests") else name
        for file in folder.glob("*.py")
        for name in re.findall(r"^(?:from|import) ([\w.]+)", file.read_text(), re.MULTILINE)
    }
    ours = {"schemas", "infra", "event_store", "command_api", "projectors", "query_api", "client"}
    assert not roots & ours
    assert all(name.startswith("tests.chaos.checker") for name in roots if name.startswith("tests"))
