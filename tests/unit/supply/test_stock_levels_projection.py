"""Stock levels: every event moves the figures that it says, and the document is the contract's."""

import json
from datetime import UTC, datetime
from typing import Any

from infra.testing import NOON, given
from projectors.supply.stock_levels import StockLevels
from query_api.supply.stock_levels import StockLevelDocument
from schemas.supply import views
from schemas.supply.orders import ReturnOrder
from schemas.supply.stock import (
    AdjustStock,
    DisposeStock,
    ExpireLot,
    ReceiveStock,
    ReleaseQuarantine,
    StockReceived,
    StockTransferredIn,
    TransferStock,
    UnreserveStock,
)
from tests.unit.supply.words import (
    AFTER_EARLY,
    BASICS,
    CONFIRMED,
    EARLY,
    LATE,
    SHIPPED,
    STOCK,
    SUPPLY,
    line_lots,
    quarantine,
    receive,
    reserve,
)

LOT: dict[str, Any] = {
    "lot": "A",
    "expires_on": "2026-03-31",
    "on_hand": 0,
    "reserved": 0,
    "quarantined": 0,
    "expired": 0,
    "received": 0,
    "adjusted": 0,
    "returned": 0,
    "transferred": 0,
    "shipped": 0,
    "disposed": 0,
}
OF_LOT: dict[str, Any] = {"site_id": "S1", "item_id": "I1", "lot": "A"}


def level(*facts: Any, **more: Any) -> dict[str, Any]:
    rows = given(StockLevels, *facts, rules=SUPPLY, **more)
    document: dict[str, Any] = json.loads(rows.row("S1", "I1").encode())
    views.StockLevel.model_validate_json(json.dumps(document))
    return document


def test_a_receipt_makes_the_document_that_the_contract_describes() -> None:
    assert level(*BASICS, receive(30)) == {
        "site_id": "S1",
        "item_id": "I1",
        "stream": "stock/S1/I1",
        "version": 1,
        "updated_at": "2026-01-15T12:00:00Z",
        "on_hand": 30,
        "reserved": 0,
        "quarantined": 0,
        "expired": 0,
        "available": 30,
        "lots": [LOT | {"on_hand": 30, "received": 30}],
    }


def test_a_second_receipt_adds_to_its_lot_and_keeps_the_order_of_first_receipt() -> None:
    document = level(*BASICS, receive(30, "B", LATE), receive(1), receive(2, "B", LATE))
    assert [(lot["lot"], lot["on_hand"]) for lot in document["lots"]] == [("B", 32), ("A", 1)]
    assert (document["version"], document["on_hand"]) == (3, 33)


def test_units_without_a_lot_have_a_lot_without_a_name() -> None:
    facts = (*BASICS, ReceiveStock(site_id="S1", item_id="I2", quantity=5))
    rows = given(StockLevels, *facts, rules=SUPPLY)
    rows.then_row("S1", "I2", lots=[LOT | {"lot": None, "expires_on": None, "on_hand": 5, "received": 5}])
    rows.then_row("S1", "I2", "", table="lots", lot=None, expires_on=None, on_hand=5, available=5)


def test_a_reservation_and_its_return_move_between_available_and_reserved() -> None:
    reserved = level(*BASICS, receive(30), reserve(10))
    assert (reserved["reserved"], reserved["available"]) == (10, 20)
    given_back = level(
        *BASICS, receive(30), reserve(10), UnreserveStock(site_id="S1", item_id="I1", order_id="O1")
    )
    assert (given_back["reserved"], given_back["available"], given_back["version"]) == (0, 30, 3)


def test_what_is_shipped_is_neither_on_hand_nor_reserved() -> None:
    document = level(*SHIPPED)
    assert document["lots"] == [LOT | {"on_hand": 20, "received": 30, "shipped": 10}]
    assert (document["on_hand"], document["reserved"], document["available"]) == (20, 0, 20)


def test_what_comes_back_is_quarantined() -> None:
    document = level(*SHIPPED, ReturnOrder(order_id="O1", return_id="RT1", lines=line_lots((1, "A", 4))))
    assert document["lots"] == [
        LOT | {"on_hand": 24, "quarantined": 4, "received": 30, "returned": 4, "shipped": 10}
    ]
    assert document["available"] == 20


def test_a_quarantine_takes_reserved_units_too_and_its_end_gives_all_back() -> None:
    held = level(*CONFIRMED, quarantine())
    assert (held["quarantined"], held["reserved"], held["available"]) == (30, 0, 0)
    free = level(*CONFIRMED, quarantine(), ReleaseQuarantine(**OF_LOT))
    assert (free["quarantined"], free["reserved"], free["available"]) == (0, 0, 30)


def test_an_expired_lot_has_nothing_available_and_is_disposed_of() -> None:
    rows = given(StockLevels, *CONFIRMED, rules=SUPPLY)
    rows.when(ExpireLot(**OF_LOT), occurred_at=AFTER_EARLY)
    rows.then_row("S1", "I1", expired=30, reserved=0, available=0)
    rows.when(DisposeStock(**OF_LOT, quantity=30), occurred_at=AFTER_EARLY)
    rows.then_row("S1", "I1", expired=0, on_hand=0, lots=[LOT | {"received": 30, "disposed": 30}])


def test_a_transfer_leaves_one_site_and_comes_into_the_other() -> None:
    facts = (*BASICS, receive(30), TransferStock(**OF_LOT, to_site_id="S2", quantity=7))
    rows = given(StockLevels, *facts, rules=SUPPLY)
    rows.then_row("S1", "I1", lots=[LOT | {"on_hand": 23, "received": 30, "transferred": -7}])
    rows.then_row("S2", "I1", lots=[LOT | {"on_hand": 7, "transferred": 7}], available=7)


def test_a_count_corrects_what_is_on_hand() -> None:
    document = level(*BASICS, receive(30), AdjustStock(**OF_LOT, delta=-3))
    assert document["lots"] == [LOT | {"on_hand": 27, "received": 30, "adjusted": -3}]


def test_what_comes_into_a_held_or_expired_lot_is_not_available() -> None:
    held = StockReceived(lot="A", quantity=5, expires_on=EARLY, into="quarantined", held_by=("R1",))
    late = StockTransferredIn(from_site_id="S2", lot="A", quantity=2, expires_on=EARLY, into="expired")
    document = level((STOCK, held), (STOCK, late))
    assert (document["on_hand"], document["quarantined"], document["expired"]) == (7, 5, 2)
    assert document["available"] == 0


def test_every_lot_at_every_site_is_a_row_of_its_own() -> None:
    facts = (*BASICS, receive(30), receive(4, "B", LATE), receive(1, site_id="S2"), reserve(10))
    rows = given(StockLevels, *facts, rules=SUPPLY)
    rows.then_row("S1", "I1", "A", table="lots", on_hand=30, reserved=10, available=20)
    rows.then_row("S1", "I1", "B", table="lots", on_hand=4, expires_on="2026-06-30")
    rows.then_row("S2", "I1", "A", table="lots", on_hand=1, expires_on="2026-03-31")
    for (table, _), row in rows.rows.items():
        if table == "lots":
            views.LotView.model_validate_json(row.encode())


def test_an_update_is_when_it_was_recorded_not_when_it_happened() -> None:
    rows = given(StockLevels, *BASICS, rules=SUPPLY)
    rows.when(receive(1), occurred_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert rows.row("S1", "I1").updated_at == NOON


def test_the_query_of_one_level_answers_its_document() -> None:
    question = given(StockLevelDocument, *BASICS, receive(30), rules=SUPPLY)
    question.when(site_id="S1", item_id="I1").then(available=30, version=1)
    question.when(site_id="S2", item_id="I1").then_not_found()
