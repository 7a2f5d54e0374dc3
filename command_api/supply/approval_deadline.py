"""
Approval: an order over the limit waits for a person, for three days at most.

Who may approve is told at once and reminded after a third of the time; after two thirds somebody else is told; at
the end the order is cancelled. The time runs from when the workflow takes the order up, so a process that stood still
for a day gives everybody their three days. Whoever decides ends it: timers that are left are forgotten, and one that
fires just then finds that nothing is to be done.
"""

import re
from collections.abc import Mapping
from datetime import timedelta

from command_api.workflow import Reaction, Read, Schedule, Tell, Trigger, Unschedule, Workflow, on
from schemas.errors import BadDefinition
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
    LapseApproval,
    OrderApprovalRequested,
    OrderApproved,
    OrderCancelled,
    OrderPlaced,
    OrderRejected,
)

DEADLINE_VARIABLE = "EVERFOLD_APPROVAL_DEADLINE_SECONDS"
DEADLINE_SECONDS = 3 * 24 * 3600
DEADLINE_SECONDS_MAX = 10 * 365 * 24 * 3600
REMIND, ESCALATE, LAPSE = "remind", "escalate", "lapse"
AWAITING = "awaiting-approval"


class Approval(Workflow):
    """Has orders over the limit decided by somebody, or cancelled."""

    name = "approval"
    commands = (RemindOfApproval, EscalateApproval, LapseApproval)
    notices = (ApprovalNeeded, ApprovalReminder, ApprovalEscalation, ApprovalLapsed)

    def __init__(self, deadline: timedelta = timedelta(seconds=DEADLINE_SECONDS)) -> None:
        self._deadline = deadline

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Approval":
        """
        Make the workflow with its settings from the environment.

        Raises:
            BadDefinition: A variable has a value that cannot be used.
        """
        text = environment.get(DEADLINE_VARIABLE, str(DEADLINE_SECONDS))
        if not re.fullmatch(r"\d{1,9}(\.\d+)?", text) or not 0 < float(text) <= DEADLINE_SECONDS_MAX:
            raise BadDefinition(DEADLINE_VARIABLE, f"{text!r} is not a number of seconds above 0")
        return cls(timedelta(seconds=float(text)))

    def key(self, trigger: Trigger) -> str:
        """Return the order: what happens to it and to its approval is taken up in order."""
        return trigger.ids[0]

    @on(OrderApprovalRequested)
    def requested(self, trigger: Trigger) -> Reaction:
        """Tell who may approve, and set the timers."""
        requested: OrderApprovalRequested = trigger.event
        (order_id,) = trigger.ids
        (history,) = yield [Read(trigger.stream, (OrderPlaced.type,), until=trigger.position)]
        decide_by = trigger.now + self._deadline
        remind = RemindOfApproval(order_id=order_id, decide_by=decide_by)
        escalate = EscalateApproval(order_id=order_id, decide_by=decide_by)
        yield [
            Schedule(f"{order_id}/{REMIND}", decide_by - self._deadline * 2 / 3, remind),
            Schedule(f"{order_id}/{ESCALATE}", decide_by - self._deadline / 3, escalate),
            Schedule(f"{order_id}/{LAPSE}", decide_by, LapseApproval(order_id=order_id)),
            *(
                Tell(
                    ApprovalNeeded(
                        order_id=order_id,
                        customer_id=placed.customer_id,
                        site_id=placed.site_id,
                        total=placed.total,
                        decide_by=decide_by,
                        limit=requested.limit,
                    )
                )
                for placed in history.events
                if isinstance(placed, OrderPlaced)
            ),
        ]

    @on(ApprovalReminded)
    def reminded(self, trigger: Trigger) -> Reaction:
        """Tell who may approve again."""
        reminded: ApprovalReminded = trigger.event
        yield [Tell(ApprovalReminder(order_id=trigger.ids[0], **_facts(reminded)))]

    @on(ApprovalEscalated)
    def escalated(self, trigger: Trigger) -> Reaction:
        """Tell somebody else."""
        escalated: ApprovalEscalated = trigger.event
        yield [Tell(ApprovalEscalation(order_id=trigger.ids[0], **_facts(escalated)))]

    @on(OrderApproved)
    def approved(self, trigger: Trigger) -> Reaction:
        """Forget the timers."""
        yield _forget(trigger.ids[0])

    @on(OrderRejected, OrderCancelled)
    def ended(self, trigger: Trigger) -> Reaction:
        """Forget the timers of an order that waited; say so where nobody has decided."""
        ended: OrderRejected | OrderCancelled = trigger.event
        if ended.status_before != AWAITING:
            return
        (order_id,) = trigger.ids
        yield _forget(order_id)
        if isinstance(ended, OrderCancelled) and ended.cause == "timed-out":
            yield [Tell(ApprovalLapsed(order_id=order_id, customer_id=ended.customer_id))]


def _forget(order_id: str) -> list[Unschedule]:
    return [Unschedule(f"{order_id}/{what}") for what in (REMIND, ESCALATE, LAPSE)]


def _facts(event: ApprovalReminded | ApprovalEscalated) -> dict[str, object]:
    return {
        "customer_id": event.customer_id,
        "site_id": event.site_id,
        "total": event.total,
        "decide_by": event.decide_by,
    }
