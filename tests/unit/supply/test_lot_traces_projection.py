"""Lot traces: every unit's coming and going is a movement, and holds reach lots that nobody has any more."""

import json
from typing import Any

from infra.testing import given
from infra.testing.rows import GivenRows
from projectors.supply.lot_traces import LotTraces
from schemas.supply import views
from schemas.supply.orders import ReturnOrder
from schemas.supply.recalls import CloseRecall
from schemas.supply.stock import AdjustStock, DisposeStock, ReceiveStock, ReleaseQuarantine, TransferStock
from tests.unit.supply.words import BASICS, EARLY, SHIPPED, SUPPLY, line_lots, quarantine, recall, receive

OF_LOT: dict[str, Any] = {"site_id": "S1", "item_id": "I1", "lot": "A"}
MOVEMENT: dict[str, Any] = {
    "site_id": "S1",
    "occurred_at": "2026-01-15T12:00:00Z",
    "order_id": None,
    "customer_id": None,
    "shipment_id": None,
    "supplier_id": None,
    "document": None,
}


def traces(*facts: Any) -> GivenRows:
    return given(LotTraces, *facts, rules=SUPPLY)


def movements(rows: GivenRows) -> list[dict[str, Any]]:
    """All movements, oldest first: in the order of their keys."""
    found = sorted((key, row) for (table, key), row in rows.rows.items() if table == "movements")
    for _, row in found:
        views.LotMovement.model_validate_json(row.encode())
    return [json.loads(row.encode()) for _, row in found]


def test_a_lot_is_followed_from_receipt_to_return() -> None:
    received = ReceiveStock(**OF_LOT, quantity=30, expires_on=EARLY, supplier_id="ACME", document="DN-1")
    moved = TransferStock(**OF_LOT, to_site_id="S2", quantity=5)
    back = ReturnOrder(order_id="O1", return_id="RT1", lines=line_lots((1, "A", 4)))
    counted, destroyed = AdjustStock(**OF_LOT, delta=-1), DisposeStock(**OF_LOT, quantity=4)
    rows = traces(*BASICS, received, *SHIPPED[len(BASICS) + 1 :], moved, back, counted, destroyed)
    order = {"order_id": "O1", "customer_id": "C1"}
    assert movements(rows) == [
        MOVEMENT | {"kind": "received", "quantity": 30, "supplier_id": "ACME", "document": "DN-1"},
        MOVEMENT | order | {"kind": "shipped", "quantity": 10, "shipment_id": "SH1"},
        MOVEMENT | {"kind": "transferred", "quantity": -5},
        MOVEMENT | {"kind": "transferred", "quantity": 5, "site_id": "S2"},
        MOVEMENT | order | {"kind": "returned", "quantity": 4},
        MOVEMENT | {"kind": "adjusted", "quantity": -1},
        MOVEMENT | {"kind": "disposed", "quantity": 4},
    ]


def test_a_lots_own_row_adds_up_all_sites() -> None:
    rows = traces(*SHIPPED, TransferStock(**OF_LOT, to_site_id="S2", quantity=5), quarantine())
    rows.then_row(
        "I1",
        "A",
        expires_on="2026-03-31",
        totals={"received": 30, "on_hand": 20, "shipped": 10, "returned": 0, "disposed": 0},
        stock=[
            {"site_id": "S1", "on_hand": 15, "reserved": 0, "quarantined": 15, "expired": 0},
            {"site_id": "S2", "on_hand": 5, "reserved": 0, "quarantined": 0, "expired": 0},
        ],
    )


def test_units_without_a_lot_leave_no_trace() -> None:
    assert traces(*BASICS, ReceiveStock(site_id="S1", item_id="I2", quantity=5)).rows == {}


def test_a_recall_of_lots_holds_these_and_a_recall_of_an_item_holds_all() -> None:
    rows = traces(*BASICS, receive(1), recall("A", "B"), recall(recall_id="R2"))
    rows.then_row("I1", "R1", table="holds", lots=["A", "B"], is_open=True)
    rows.then_row("I1", "R2", table="holds", lots=None, is_open=True)


def test_a_closed_recall_holds_a_lot_until_its_sites_release_it() -> None:
    rows = traces(*BASICS, receive(1), recall("A"), CloseRecall(recall_id="R1", outcome="done"))
    rows.then_row("I1", "R1", table="holds", is_open=False)
    rows.then_row("I1", "A", released={})
    rows.when(ReleaseQuarantine(**OF_LOT))
    rows.then_row("I1", "A", released={"R1": ["S1"]})
