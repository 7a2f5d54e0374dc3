"""Orders: the document follows the order from being placed to coming back, and says what the contract says."""

import json
from datetime import UTC, datetime
from typing import Any

from infra.testing import given
from projectors.supply.orders import Orders
from query_api.supply.orders import OrderDocument
from schemas.supply import views
from schemas.supply.orders import (
    ApproveOrder,
    CancelOrder,
    ConfirmOrder,
    DeliverOrder,
    MarkOrderRecalled,
    OrderReallocated,
    ReallocatedLine,
    RejectOrder,
    RequestApproval,
    ReturnOrder,
)
from schemas.supply.quantities import LineShortage, LotQuantity
from tests.unit.supply.words import (
    BASICS,
    CONFIRMED,
    ORDER,
    SHIPPED,
    SUPPLY,
    line,
    line_lots,
    place,
    receive,
    reserve,
    ship,
)

DELIVERED = datetime(2026, 1, 20, 8, 30, tzinfo=UTC)
LINE: dict[str, Any] = {
    "line_no": 1,
    "item_id": "I1",
    "quantity": 10,
    "unit_price": {"amount": 100, "currency": "EUR"},
    "reserved": 0,
    "shipped": 0,
    "returned": 0,
    "short": 0,
    "lots": [],
}


def order(*facts: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(given(Orders, *facts, rules=SUPPLY).row("O1").encode())
    views.Order.model_validate_json(json.dumps(document))
    return document


def test_a_placed_order_is_the_document_that_the_contract_describes() -> None:
    placed = place(
        fulfilment="partial",
        deliver_to="Ward 3",
        customer_reference="PO-7",
        contact="Ann",
        requested_on="2026-02-01",
        ordered_at="2026-01-14T23:30:00+01:00",
    )
    assert order(*BASICS, placed) == {
        "order_id": "O1",
        "stream": "orders/O1",
        "version": 1,
        "status": "placed",
        "customer_id": "C1",
        "customer_reference": "PO-7",
        "site_id": "S1",
        "deliver_to": "Ward 3",
        "fulfilment": "partial",
        "ordered_at": "2026-01-14T22:30:00Z",
        "requested_on": "2026-02-01",
        "updated_at": "2026-01-15T12:00:00Z",
        "total": {"amount": 1000, "currency": "EUR"},
        "recalls": [],
        "contact": "Ann",
        "lines": [LINE],
        "shipments": [],
        "returns": [],
        "rejection": None,
    }


def test_what_was_not_said_is_null() -> None:
    document = order(*BASICS, place())
    absent = ("deliver_to", "customer_reference", "contact", "requested_on", "rejection")
    assert [document[name] for name in absent] == [None] * 5


def test_confirming_allots_lots_and_says_what_is_short() -> None:
    placed = place(line(quantity=10), fulfilment="partial")
    short = (*BASICS, receive(4), placed, reserve(10, partial=True))
    document = order(*short, ConfirmOrder(order_id="O1", allocations=line_lots((1, "A", 4))))
    assert document["status"] == "confirmed"
    assert document["lines"] == [LINE | {"reserved": 4, "short": 6, "lots": [{"lot": "A", "quantity": 4}]}]


def test_a_line_without_stock_is_reserved_in_full_without_lots() -> None:
    facts = (*BASICS, place(line(item_id="FREIGHT", quantity=1)), ConfirmOrder(order_id="O1"))
    assert order(*facts)["lines"] == [LINE | {"item_id": "FREIGHT", "quantity": 1, "reserved": 1}]


def test_approval_is_waited_for_and_given() -> None:
    waiting = (*BASICS, place(), RequestApproval(order_id="O1"))
    assert order(*waiting)["status"] == "awaiting-approval"
    assert order(*waiting, ApproveOrder(order_id="O1"))["status"] == "placed"


def test_a_rejection_says_the_rule_and_the_lines() -> None:
    shortage = LineShortage(line_no=1, requested=10, available=4)
    document = order(
        *BASICS, place(), RejectOrder(order_id="O1", rule="insufficient-stock", lines=(shortage,))
    )
    assert document["status"] == "rejected"
    assert document["rejection"] == {
        "rule": "insufficient-stock",
        "lines": [{"line_no": 1, "requested": 10, "available": 4}],
    }


def test_a_cancelled_order_has_nothing_reserved() -> None:
    document = order(*CONFIRMED, CancelOrder(order_id="O1"))
    assert (document["status"], document["lines"]) == ("cancelled", [LINE])


def test_shipments_come_one_by_one_and_each_arrives_at_its_time() -> None:
    rows = given(Orders, *CONFIRMED, rules=SUPPLY)
    rows.when(ship("SH1", (1, 4), carrier="DHL", tracking="T1"))
    rows.then_row("O1", status="partially-shipped")
    rows.when(ship("SH2")).then_row("O1", status="shipped")
    rows.when(DeliverOrder(order_id="O1", shipment_id="SH2"), occurred_at=DELIVERED)
    document = json.loads(rows.row("O1").encode())
    assert document["lines"] == [
        LINE | {"reserved": 10, "shipped": 10, "lots": [{"lot": "A", "quantity": 10}]}
    ]
    assert document["shipments"] == [
        {
            "shipment_id": "SH1",
            "shipped_at": "2026-01-15T12:00:00Z",
            "delivered_at": None,
            "carrier": "DHL",
            "tracking": "T1",
            "lines": [{"line_no": 1, "lot": "A", "quantity": 4}],
        },
        {
            "shipment_id": "SH2",
            "shipped_at": "2026-01-15T12:00:00Z",
            "delivered_at": "2026-01-20T08:30:00Z",
            "carrier": None,
            "tracking": None,
            "lines": [{"line_no": 1, "lot": "A", "quantity": 6}],
        },
    ]
    rows.when(DeliverOrder(order_id="O1", shipment_id="SH1")).then_row("O1", status="delivered")


def test_what_comes_back_is_counted_on_its_line() -> None:
    document = order(*SHIPPED, ReturnOrder(order_id="O1", return_id="RT1", lines=line_lots((1, "A", 4))))
    assert document["lines"][0]["returned"] == 4
    assert document["returns"] == [
        {
            "return_id": "RT1",
            "returned_at": "2026-01-15T12:00:00Z",
            "lines": [{"line_no": 1, "lot": "A", "quantity": 4}],
        }
    ]


def test_a_line_that_is_filled_anew_has_its_new_lots() -> None:
    anew = ReallocatedLine(line_no=1, lots=(LotQuantity(lot="B", quantity=7),), reserved=7, short=3)
    event = OrderReallocated(
        customer_id="C1",
        site_id="S1",
        ordered_at="2026-01-15T12:00:00Z",
        currency="EUR",
        status_before="confirmed",
        lines=(anew,),
        status="confirmed",
    )
    document = order(*CONFIRMED, (ORDER, event))
    assert document["lines"] == [LINE | {"reserved": 7, "short": 3, "lots": [{"lot": "B", "quantity": 7}]}]


def test_an_order_names_each_recall_that_it_was_shipped_from_once() -> None:
    first = MarkOrderRecalled(order_id="O1", recall_id="R1", lines=line_lots((1, "A", 4)))
    again = MarkOrderRecalled(order_id="O1", recall_id="R1", lines=line_lots((1, "A", 5)))
    other = MarkOrderRecalled(order_id="O1", recall_id="R2", lines=line_lots((1, "A", 5)))
    assert order(*SHIPPED, first, again, other)["recalls"] == ["R1", "R2"]


def test_every_item_of_an_order_finds_it_once() -> None:
    placed = place(line(1), line(2), line(3, "I2"))
    rows = given(Orders, *BASICS, placed, rules=SUPPLY)
    assert sorted(key for table, key in rows.rows if table == "items") == [("I1", "O1"), ("I2", "O1")]


def test_the_query_of_one_order_answers_its_document() -> None:
    question = given(OrderDocument, *BASICS, place(), rules=SUPPLY)
    question.when(order_id="O1").then(status="placed", version=1)
    question.when(order_id="o1").then_not_found()
