"""
Fulfilment: an order placed, and approved where it must be, is confirmed, rejected or, if neither can be, cancelled.

How long an order may stay unsettled is counted from when it is taken up, never from when it was placed: a
thousand orders that waited while this process was stopped are settled, not cancelled. While an order waits for
somebody's approval no time runs.
"""

import re
from collections.abc import Mapping
from datetime import timedelta

from command_api.supply.approval import LIMIT_VARIABLE, ApprovalLimits
from command_api.supply.settling import Order, attempt
from command_api.workflow import Reaction, Read, Schedule, Send, Trigger, Unschedule, Workflow, on
from schemas.errors import BadDefinition
from schemas.supply.orders import (
    ConfirmOrder,
    OrderApproved,
    OrderCancelled,
    OrderPlaced,
    RejectOrder,
    RequestApproval,
    TimeOutOrder,
)
from schemas.supply.stock import ReserveStock, UnreserveStock

TIMEOUT_VARIABLE = "EVERFOLD_CONFIRM_TIMEOUT_SECONDS"
TIMEOUT_SECONDS = 900
TIMEOUT_SECONDS_MAX = 10 * 365 * 24 * 3600
ATTEMPTS_MAX = 5
"""How often an order is tried whose reserved units are taken away meanwhile."""


class Fulfilment(Workflow):
    """Reserves what is ordered, and confirms or rejects the order; gives back what a cancelled one had reserved."""

    name = "fulfilment"
    commands = (RequestApproval, ReserveStock, UnreserveStock, ConfirmOrder, RejectOrder, TimeOutOrder)

    def __init__(
        self,
        timeout: timedelta = timedelta(seconds=TIMEOUT_SECONDS),
        limits: ApprovalLimits | None = None,
    ) -> None:
        self._timeout = timeout
        self._limits = limits or ApprovalLimits()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Fulfilment":
        """
        Make the workflow with its settings from the environment.

        Raises:
            BadDefinition: A variable has a value that cannot be used.
        """
        text = environment.get(TIMEOUT_VARIABLE, str(TIMEOUT_SECONDS))
        if not re.fullmatch(r"\d{1,9}(\.\d+)?", text) or not 0 < float(text) <= TIMEOUT_SECONDS_MAX:
            raise BadDefinition(TIMEOUT_VARIABLE, f"{text!r} is not a number of seconds above 0")
        limits = ApprovalLimits.parse(environment.get(LIMIT_VARIABLE, ""))
        return cls(timedelta(seconds=float(text)), limits)

    @on(OrderPlaced)
    def placed(self, trigger: Trigger) -> Reaction:
        """Ask for approval where the order's total is over the limit, else settle it."""
        placed: OrderPlaced = trigger.event
        (order_id,) = trigger.ids
        limit = self._limits.of(trigger.tenant)
        if limit is not None and placed.total.amount > limit:
            yield [Send(RequestApproval(order_id=order_id, limit=limit))]
        else:
            yield from self._settle(trigger, Order.of(order_id, placed))

    @on(OrderApproved)
    def approved(self, trigger: Trigger) -> Reaction:
        """Settle an order that waited for somebody."""
        (order_id,) = trigger.ids
        (history,) = yield [Read(trigger.stream, (OrderPlaced.type,))]
        for placed in history.events:
            if isinstance(placed, OrderPlaced):
                yield from self._settle(trigger, Order.of(order_id, placed))

    @on(OrderCancelled)
    def cancelled(self, trigger: Trigger) -> Reaction:
        """Give back what was reserved, and forget the timer."""
        cancelled: OrderCancelled = trigger.event
        (order_id,) = trigger.ids
        order = Order(order_id, cancelled.site_id, (), takes_part=False)
        items = dict.fromkeys(part.item_id for part in cancelled.removed)
        yield [Unschedule(order_id), *(Send(order.unreserve(item_id)) for item_id in items)]

    def _settle(self, trigger: Trigger, order: Order) -> Reaction:
        """
        Reserve, then confirm or reject; again where units were taken away in between.

        The timer is set first and forgotten at the end, so it is only ever written for an order whose reaction
        could not settle it.
        """
        timer = Schedule(order.order_id, trigger.now + self._timeout, TimeOutOrder(order_id=order.order_id))
        yield [timer]
        for _ in range(ATTEMPTS_MAX):
            if (yield from attempt(order)):
                yield [Unschedule(order.order_id)]
                return
