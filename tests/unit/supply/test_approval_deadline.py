"""Approval: an order over the limit waits for a person, who is reminded, then passed over, for three days at most."""

from datetime import timedelta
from typing import Any

import pytest

from command_api.supply.approval_deadline import Approval
from command_api.workflow import Read, Schedule, Tell, Unschedule
from infra.testing import NOON, GivenWorkflow, given
from schemas.errors import BadDefinition, NotFound
from schemas.messages import Money
from schemas.supply.approvals import (
    ApprovalEscalated,
    ApprovalEscalation,
    ApprovalLapsed,
    ApprovalNeeded,
    ApprovalReminded,
    ApprovalReminder,
    EscalateApproval,
    RemindOfApproval,
)
from schemas.supply.orders import (
    ApproveOrder,
    CancelOrder,
    DeclineOrder,
    LapseApproval,
    OrderApprovalRequested,
    OrderApproved,
    OrderCancelled,
    OrderPlaced,
    OrderRejected,
    RequestApproval,
)
from tests.unit.supply.words import BASICS, ORDER, SUPPLY, line, place

APPROVAL = "approvals/O1"
DECIDE_BY = NOON + timedelta(days=3)
TOTAL = Money(amount=1_000, currency="EUR")
FACTS: dict[str, Any] = {"customer_id": "C1", "site_id": "S1", "total": TOTAL, "decide_by": DECIDE_BY}
REMIND = RemindOfApproval(order_id="O1", decide_by=DECIDE_BY)
ESCALATE = EscalateApproval(order_id="O1", decide_by=DECIDE_BY)
LAPSE = LapseApproval(order_id="O1")
FORGOTTEN = [Unschedule(f"O1/{what}") for what in ("remind", "escalate", "lapse")]
PLACED = (*BASICS, place(line(quantity=10, price=100)))
AWAITING = (*PLACED, RequestApproval(order_id="O1", limit=500))


def waiting(*facts: Any) -> GivenWorkflow:
    return given(Approval(), *facts, rules=SUPPLY)


def test_who_may_approve_is_told_and_timers_are_set_over_three_days() -> None:
    reacted = waiting(*PLACED).when(ORDER, OrderApprovalRequested(limit=500))
    read, *steps = reacted.steps
    assert read == Read(ORDER, (OrderPlaced.type,), until=len(reacted.given.log.events))
    assert steps == [
        Schedule("O1/remind", NOON + timedelta(days=1), REMIND),
        Schedule("O1/escalate", NOON + timedelta(days=2), ESCALATE),
        Schedule("O1/lapse", DECIDE_BY, LAPSE),
        Tell(ApprovalNeeded(order_id="O1", limit=500, **FACTS)),
    ]


def test_the_time_runs_from_when_the_order_is_taken_up() -> None:
    later = NOON + timedelta(days=9)
    steps = waiting(*PLACED).when(ORDER, OrderApprovalRequested(), now=later).steps
    assert [step.at for step in steps if isinstance(step, Schedule)][-1] == later + timedelta(days=3)


def test_a_reminder_and_an_escalation_go_to_different_people() -> None:
    world = waiting(*AWAITING)
    world.when(APPROVAL, ApprovalReminded(**FACTS)).then(Tell(ApprovalReminder(order_id="O1", **FACTS)))
    world.when(APPROVAL, ApprovalEscalated(**FACTS)).then(Tell(ApprovalEscalation(order_id="O1", **FACTS)))
    assert ApprovalReminder.channel != ApprovalEscalation.channel


def test_an_approved_order_has_no_timers_any_more() -> None:
    waiting(*AWAITING).when(ORDER, OrderApproved()).then(*FORGOTTEN)


def ended(kind: type[OrderRejected | OrderCancelled], status_before: str, **more: Any) -> Any:
    return kind(
        customer_id="C1", site_id="S1", ordered_at=NOON, currency="EUR", status_before=status_before,
        removed=(), **more,
    )  # fmt: skip


def test_a_declined_or_called_off_order_has_no_timers_any_more() -> None:
    waiting(*AWAITING).when(ORDER, ended(OrderRejected, "awaiting-approval", rule="declined")).then(
        *FORGOTTEN
    )
    waiting(*AWAITING).when(ORDER, ended(OrderCancelled, "awaiting-approval")).then(*FORGOTTEN)


def test_who_waited_in_vain_is_told() -> None:
    lapsed = ended(OrderCancelled, "awaiting-approval", cause="timed-out")
    told = Tell(ApprovalLapsed(order_id="O1", customer_id="C1"))
    waiting(*AWAITING).when(ORDER, lapsed).then(*FORGOTTEN, told)


def test_orders_that_never_waited_are_none_of_its_business() -> None:
    waiting(*PLACED).when(ORDER, ended(OrderCancelled, "placed", cause="timed-out")).then_nothing()
    waiting(*PLACED).when(ORDER, ended(OrderRejected, "placed", rule="insufficient-stock")).then_nothing()


def test_an_order_and_its_approval_are_one_matter() -> None:
    reacted = waiting(*AWAITING)
    assert {
        Approval().key(trigger)
        for trigger in (
            _trigger(reacted, ORDER, OrderApproved()),
            _trigger(reacted, APPROVAL, ApprovalReminded(**FACTS)),
        )
    } == {"O1"}


def _trigger(world: GivenWorkflow, stream: str, event: Any) -> Any:
    from infra.testing.reactions import TriggerAt

    return TriggerAt(event, stream, 1, 1, NOON, NOON, NOON)


# -- the rules


def test_one_is_reminded_once_and_only_while_the_order_waits() -> None:
    rules = given(SUPPLY, *AWAITING)
    rules.when(REMIND, is_system=True).then((APPROVAL, ApprovalReminded(**FACTS)))
    rules.when(REMIND, is_system=True).then_nothing()
    rules.when(ESCALATE, is_system=True).then((APPROVAL, ApprovalEscalated(**FACTS)))
    rules.when(ESCALATE, is_system=True).then_nothing()


@pytest.mark.parametrize(
    "decision", [ApproveOrder(order_id="O1"), DeclineOrder(order_id="O1"), CancelOrder(order_id="O1")]
)
def test_nobody_is_bothered_once_it_is_decided(decision: Any) -> None:
    """A timer that fires just then, late, finds nothing to do."""
    rules = given(SUPPLY, *AWAITING, decision)
    for late in (REMIND, ESCALATE, LAPSE):
        rules.when(late, is_system=True).then_nothing()


def test_an_order_that_nobody_decides_on_is_cancelled() -> None:
    lapsed = given(SUPPLY, *AWAITING).when(LAPSE, is_system=True)
    cancelled: OrderCancelled = lapsed.only(OrderCancelled)
    assert (cancelled.cause, cancelled.status_before) == ("timed-out", "awaiting-approval")
    assert lapsed.state(ORDER).status == "cancelled"


def test_an_order_that_does_not_exist_has_no_approval() -> None:
    given(SUPPLY, *BASICS).when(REMIND, is_system=True).then_refused(NotFound)


def test_the_deadline_is_a_setting() -> None:
    quick = Approval.from_environment({"EVERFOLD_APPROVAL_DEADLINE_SECONDS": "6"})
    steps = given(quick, *PLACED, rules=SUPPLY).when(ORDER, OrderApprovalRequested()).steps
    assert [(step.at - NOON).total_seconds() for step in steps if isinstance(step, Schedule)] == [2, 4, 6]
    with pytest.raises(BadDefinition, match="APPROVAL_DEADLINE"):
        Approval.from_environment({"EVERFOLD_APPROVAL_DEADLINE_SECONDS": "soon"})


def test_what_is_told_reads_as_a_sentence() -> None:
    needed = ApprovalNeeded(order_id="O1", limit=500, **FACTS)
    assert needed.summary() == "Order O1 over 10.00 EUR needs approval by 2026-01-18 12:00 UTC"


def test_receivers_rely_on_these_names_and_fields() -> None:
    """A change here is a change of a contract: a field that goes, or means something else, is a new type."""
    about = {"order_id", "customer_id", "site_id", "total", "decide_by"}
    assert {(kind.channel, kind.type): set(kind.model_fields) for kind in Approval.notices} == {
        ("order-approvals", "supply.ApprovalNeeded.v1"): about | {"limit"},
        ("order-approvals", "supply.ApprovalReminder.v1"): about,
        ("order-escalations", "supply.ApprovalEscalation.v1"): about,
        ("order-approvals", "supply.ApprovalLapsed.v1"): {"order_id", "customer_id"},
    }
