"""Recalls: what is quarantined because of them, which orders were shipped from them, and what customers found."""

import json
from datetime import UTC, datetime
from typing import Any

from infra.testing import given
from projectors.supply.recalls import Recalls
from query_api.supply.recalls import RecallDocument
from schemas.supply import views
from schemas.supply.orders import MarkOrderRecalled, ReturnOrder
from schemas.supply.recalls import AcknowledgeRecall, CloseRecall, IssueRecall, RecallIssued
from schemas.supply.stock import DisposeStock, QuarantineRecalledStock, ReleaseQuarantine
from tests.unit.supply.words import BASICS, SHIPPED, SUPPLY, line_lots, recall, receive

OF_LOT: dict[str, Any] = {"site_id": "S1", "item_id": "I1", "lot": "A"}
QUARANTINE = QuarantineRecalledStock(site_id="S1", item_id="I1", recall_id="R1")
MARK = MarkOrderRecalled(order_id="O1", recall_id="R1", lines=line_lots((1, "A", 10)))
FOUND = AcknowledgeRecall(recall_id="R1", customer_id="C1", quantity_found=7)
CLOSE = CloseRecall(recall_id="R1", outcome="all destroyed")
LATER = datetime(2026, 2, 1, tzinfo=UTC)


def recalled(*facts: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(given(Recalls, *facts, rules=SUPPLY).row("R1").encode())
    views.Recall.model_validate_json(json.dumps(document))
    return document


def stock(quarantined: int) -> list[dict[str, Any]]:
    return [OF_LOT | {"quarantined": quarantined}]


def test_an_issued_recall_is_the_document_that_the_contract_describes() -> None:
    assert recalled(*BASICS, recall("A", "B")) == {
        "recall_id": "R1",
        "stream": "recalls/R1",
        "version": 1,
        "status": "open",
        "class": "I",
        "scope": [{"item_id": "I1", "lots": ["A", "B"]}],
        "reason": None,
        "issued_at": "2026-01-15T12:00:00Z",
        "closed_at": None,
        "outcome": None,
        "stock": [],
        "orders": [],
        "customers": [],
    }


def test_its_reason_is_the_reason_given() -> None:
    issued = RecallIssued(recall_class="III", scope=(), reason="cracked vials")
    assert recalled(("recalls/R1", issued))["reason"] == "cracked vials"


def test_all_lots_of_an_item_are_null() -> None:
    assert recalled(*BASICS, recall())["scope"] == [{"item_id": "I1", "lots": None}]


def test_stock_of_its_lots_is_followed_through_quarantine() -> None:
    facts = (*SHIPPED, recall("A"), QUARANTINE)
    assert recalled(*facts)["stock"] == stock(20)
    assert recalled(*facts, receive(5))["stock"] == stock(25)
    back = ReturnOrder(order_id="O1", return_id="RT1", lines=line_lots((1, "A", 4)))
    assert recalled(*facts, receive(5), back)["stock"] == stock(29)
    gone = DisposeStock(**OF_LOT, quantity=9)
    assert recalled(*facts, receive(5), back, gone)["stock"] == stock(20)
    assert recalled(*facts, CLOSE, ReleaseQuarantine(**OF_LOT))["stock"] == stock(0)


def test_what_its_lots_stock_does_is_not_its_own_version() -> None:
    assert recalled(*SHIPPED, recall("A"), QUARANTINE, MARK)["version"] == 1


def test_orders_that_were_shipped_from_it_and_their_customers_are_listed() -> None:
    document = recalled(*SHIPPED, recall("A"), MARK)
    assert document["orders"] == ["O1"]
    assert document["customers"] == [
        {"customer_id": "C1", "shipped": 10, "found": None, "acknowledged_at": None}
    ]


def test_a_customers_answer_stands_beside_what_it_was_sent() -> None:
    rows = given(Recalls, *SHIPPED, recall("A"), MARK, rules=SUPPLY)
    rows.when(FOUND, occurred_at=LATER)
    rows.then_row(
        "R1",
        version=2,
        customers=[
            {"customer_id": "C1", "shipped": 10, "found": 7, "acknowledged_at": "2026-02-01T00:00:00Z"}
        ],
    )


def test_a_closed_recall_says_when_and_with_what_outcome() -> None:
    document = recalled(*BASICS, recall("A"), CLOSE)
    assert (document["status"], document["outcome"]) == ("closed", "all destroyed")
    assert document["closed_at"] == "2026-01-15T12:00:00Z"


def test_two_recalls_of_one_lot_both_follow_it() -> None:
    other = IssueRecall(recall_id="R2", recall_class="II", scope=recall("A").scope)
    also = QuarantineRecalledStock(site_id="S1", item_id="I1", recall_id="R2")
    facts = (*SHIPPED, recall("A"), QUARANTINE, other, also, receive(5))
    rows = given(Recalls, *facts, rules=SUPPLY)
    rows.then_row("R1", stock=stock(25)).then_row("R2", stock=stock(25))


def test_the_query_of_one_recall_answers_its_document() -> None:
    question = given(RecallDocument, *BASICS, recall("A"), rules=SUPPLY)
    question.when(recall_id="R1").then(status="open")
    question.when(recall_id="R2").then_not_found()
