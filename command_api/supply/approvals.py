"""The rules of approvals: who waits for a decision on an order is reminded only while the order waits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from command_api.decider import Context, Decider, States, To
from command_api.supply.order_state import OrderState
from schemas import Event
from schemas.errors import NotFound
from schemas.messages import Money
from schemas.supply.approvals import ApprovalEscalated, ApprovalReminded, EscalateApproval, RemindOfApproval


@dataclass(frozen=True, slots=True)
class ApprovalState:
    """What has been done about an order that waits."""

    is_reminded: bool = False
    is_escalated: bool = False


class Approvals(Decider[ApprovalState]):
    """Reminders and escalations, beside the order that they are about."""

    collection = "approvals"
    initial = ApprovalState()

    def streams(self, command: Any) -> Sequence[str]:
        """Name the order."""
        return (f"orders/{command.order_id}",)

    def decide(self, command: Any, states: States, context: Context) -> Sequence[Event | To]:
        """Return that somebody is to be told, once each, while the order waits."""
        approval: ApprovalState = states[command.stream]
        order: OrderState = states[f"orders/{command.order_id}"]
        if order.status is None:
            raise NotFound(f"orders/{command.order_id}")
        if order.status != "awaiting-approval":
            return []
        facts = {
            "customer_id": order.customer_id,
            "site_id": order.site_id,
            "total": Money(amount=order.total(), currency=order.currency),
            "decide_by": command.decide_by,
        }
        match command:
            case RemindOfApproval() if not approval.is_reminded:
                return [ApprovalReminded(**facts)]
            case EscalateApproval() if not approval.is_escalated:
                return [ApprovalEscalated(**facts)]
        return []

    def evolve(self, state: ApprovalState, event: Any) -> ApprovalState:
        """Add one fact."""
        match event:
            case ApprovalReminded():
                return replace(state, is_reminded=True)
            case ApprovalEscalated():
                return replace(state, is_escalated=True)
        return state
