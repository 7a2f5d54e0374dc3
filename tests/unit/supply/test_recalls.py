"""A recall is issued, acknowledged by customers, and closed."""

import pytest
from pydantic import ValidationError

from infra.testing import given
from schemas.errors import NotFound
from schemas.supply.distribution import HoldSettled, LotsHeld
from schemas.supply.recalls import (
    AcknowledgeRecall,
    CloseRecall,
    HeldItem,
    IssueRecall,
    RecallAcknowledged,
    RecallClosed,
    RecalledItem,
    RecallIssued,
)
from schemas.supply.rejections import AlreadyExists, UnknownItem
from schemas.supply.rejections import RecallClosed as IsClosed
from tests.unit.supply.words import BASICS, HOLDS, SUPPLY, recall, receive

ACKNOWLEDGE = AcknowledgeRecall(recall_id="R1", customer_id="C1", quantity_found=3)
CLOSE = CloseRecall(recall_id="R1", outcome="all destroyed")


def test_a_recall_says_where_its_items_are_and_holds_them_in_the_same_append() -> None:
    stocked = (*BASICS, receive(5, site_id="S2"), receive(5))
    given(SUPPLY, *stocked).when(recall("A", "B"), reason="glass found").then(
        RecallIssued(
            recall_class="I",
            scope=(HeldItem(item_id="I1", lots=("A", "B"), sites=("S1", "S2")),),
            reason="glass found",
        ),
        (HOLDS, LotsHeld(recall_id="R1", lots=("A", "B"))),
    )


def test_a_recall_may_name_several_items_and_all_lots() -> None:
    scope = (RecalledItem(item_id="I1"), RecalledItem(item_id="I2", lots=("L",)))
    given(SUPPLY, *BASICS).when(IssueRecall(recall_id="R1", recall_class="III", scope=scope)).then(
        RecallIssued(recall_class="III", scope=(HeldItem(item_id="I1"), HeldItem(item_id="I2", lots=("L",)))),
        (HOLDS, LotsHeld(recall_id="R1")),
        ("distribution/I2", LotsHeld(recall_id="R1", lots=("L",))),
    )


def test_a_recall_is_issued_once_and_of_known_items() -> None:
    given(SUPPLY, *BASICS, recall("A")).when(recall("A")).then_refused(AlreadyExists, what="recalls/R1")
    given(SUPPLY).when(recall("A")).then_refused(UnknownItem, item_id="I1")


def test_a_scope_names_each_item_once() -> None:
    with pytest.raises(ValidationError, match="each item once"):
        IssueRecall(recall_id="R1", recall_class="I", scope=(RecalledItem(item_id="I1"),) * 2)


def test_a_customer_acknowledges_and_may_correct_it() -> None:
    (
        given(SUPPLY, *BASICS, recall("A"))
        .when(ACKNOWLEDGE)
        .then(RecallAcknowledged(customer_id="C1", quantity_found=3))
        .when(ACKNOWLEDGE)
        .then_nothing()
        .when(ACKNOWLEDGE.model_copy(update={"quantity_found": 0}))
        .then(RecallAcknowledged(customer_id="C1", quantity_found=0))
    )


def test_closing_a_recall_settles_its_holds_once() -> None:
    (
        given(SUPPLY, *BASICS, recall("A"))
        .when(CLOSE)
        .then(RecallClosed(outcome="all destroyed"), (HOLDS, HoldSettled(recall_id="R1")))
        .when(CLOSE)
        .then_nothing()
    )


def test_a_closed_recall_takes_no_answers() -> None:
    closed = given(SUPPLY, *BASICS, recall("A"), ACKNOWLEDGE, CLOSE)
    closed.when(ACKNOWLEDGE).then_nothing()
    closed.when(ACKNOWLEDGE.model_copy(update={"customer_id": "C2"})).then_refused(IsClosed, recall_id="R1")


def test_a_recall_that_was_never_issued_is_not_found() -> None:
    given(SUPPLY, *BASICS).when(ACKNOWLEDGE).then_refused(NotFound, what="recalls/R1")
    given(SUPPLY, *BASICS).when(CLOSE).then_refused(NotFound, what="recalls/R1")
