"""
Approvals: how long an order over the limit has waited for somebody, and what the outside world is told of it.

They are a stream of their own beside the order's, so that a reminder does not change the order's version under
the hands of whoever is about to approve it. Whether it is approved, declined or cancelled stands in the order.
"""

from schemas.messages import Amount, Command, Event, Id, Instant, Money, Notice


class RemindOfApproval(Command, route="approvals/{order_id}/remind", permission="system"):
    """Remind whoever may approve an order; nothing where it does not wait any more."""

    order_id: Id
    decide_by: Instant


class EscalateApproval(Command, route="approvals/{order_id}/escalate", permission="system"):
    """Tell somebody else that an order waits still; nothing where it does not."""

    order_id: Id
    decide_by: Instant


class ApprovalReminded(Event):
    """Who may approve the order was reminded."""

    customer_id: Id
    site_id: Id
    total: Money
    decide_by: Instant


class ApprovalEscalated(Event):
    """Somebody else was told that the order waits still."""

    customer_id: Id
    site_id: Id
    total: Money
    decide_by: Instant


class _AboutApproval(Notice):
    """What is said of an order that waits."""

    order_id: Id
    customer_id: Id
    site_id: Id
    total: Money
    decide_by: Instant

    def _about(self) -> str:
        units, minor = divmod(self.total.amount, 100)
        return f"Order {self.order_id} over {units}.{minor:02} {self.total.currency}"


class ApprovalNeeded(_AboutApproval, channel="order-approvals", type="supply.ApprovalNeeded.v1"):
    """An order's total is over the limit: it waits for somebody's approval."""

    limit: Amount | None = None

    def summary(self) -> str:
        """Return it as a sentence."""
        return f"{self._about()} needs approval by {self.decide_by:%Y-%m-%d %H:%M} UTC"


class ApprovalReminder(_AboutApproval, channel="order-approvals", type="supply.ApprovalReminder.v1"):
    """An order waits for approval still."""

    def summary(self) -> str:
        """Return it as a sentence."""
        return f"{self._about()} still needs approval by {self.decide_by:%Y-%m-%d %H:%M} UTC"


class ApprovalEscalation(_AboutApproval, channel="order-escalations", type="supply.ApprovalEscalation.v1"):
    """An order waits for approval, nobody has decided, and its time is nearly over."""

    def summary(self) -> str:
        """Return it as a sentence."""
        return f"{self._about()}: nobody has decided; it is cancelled at {self.decide_by:%Y-%m-%d %H:%M} UTC"


class ApprovalLapsed(Notice, channel="order-approvals", type="supply.ApprovalLapsed.v1"):
    """Nobody decided in time, and the order was cancelled."""

    order_id: Id
    customer_id: Id

    def summary(self) -> str:
        """Return it as a sentence."""
        return f"Order {self.order_id} was cancelled: nobody approved or declined it in time"
