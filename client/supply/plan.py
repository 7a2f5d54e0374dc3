"""
Turns the lines of a file into what is to be sent: sites, items, stock, orders, returns. Pure and deterministic.

Stock is planned to cover the orders exactly. A return finds the orders of the same customer and item, the latest
first, and takes no more back than they have; what finds none is rejected with its reason.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from client.supply.lines import OrderLine, Reject
from client.supply.mapping import Mapping

LINES_PER_ORDER_MAX = 1_000


@dataclass(slots=True)
class PlannedOrder:
    """One order with its lines, in the file's order; line numbers count from 1."""

    order_id: str
    customer_id: str
    site_id: str
    receiver: str | None
    lines: list[OrderLine] = field(default_factory=list)

    @property
    def ordered_at(self) -> datetime | None:
        """The earliest date that its lines know."""
        return min((line.ordered_at for line in self.lines if line.ordered_at), default=None)

    def shipments(self) -> dict[str, list[int]]:
        """Return the line numbers of each shipment; one shipment for all lines where the file names none."""
        found: dict[str, list[int]] = defaultdict(list)
        for number, line in enumerate(self.lines, start=1):
            found[line.shipment_id or self.order_id].append(number)
        return dict(found)


@dataclass(frozen=True, slots=True)
class PlannedReturn:
    """What one line takes back from one order."""

    source: OrderLine
    order_id: str
    line_no: int
    quantity: int
    part: int
    """Which part of its line this is, from 0: a line may go back to several orders."""


@dataclass(slots=True)
class _Left:
    """How much of one order's line may still come back."""

    order_id: str
    line_no: int
    quantity: int


@dataclass(slots=True)
class Plan:
    """What is to be sent for a file."""

    lines: int = 0
    sites: dict[str, str] = field(default_factory=dict)
    items: dict[str, OrderLine] = field(default_factory=dict)
    stock: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Units by site and item."""
    began_at: datetime | None = None
    steps: list[PlannedOrder | list[PlannedReturn] | OrderLine] = field(default_factory=list)
    """Orders, returns (the parts of one line) and adjustments, in the file's order."""
    rejects: list[Reject] = field(default_factory=list)


def make_plan(lines: Iterable[OrderLine | Reject], mapping: Mapping) -> Plan:
    """Return the plan for a file's lines."""
    plan = Plan()
    good = list(_usable(lines, plan, mapping))
    orders = _orders(good, plan, mapping)
    fulfilled = _Fulfilled()
    for line in good:
        if line.kind == "order":
            order = orders.get(line.order_id)
            if order is not None and order.lines[0] is line:
                plan.steps.append(order)
                fulfilled.add(order)
        elif line.kind == "return":
            _plan_return(line, fulfilled, plan, mapping)
        elif line.is_charge:
            plan.rejects.append(Reject(line.number, "charge-not-in-stock", line.order_id, line.item_id))
        else:
            _take_up(plan, line)
            plan.stock[line.site_id, line.item_id] += line.quantity
            plan.steps.append(line)
    plan.rejects.sort(key=lambda reject: reject.number)
    return plan


def _usable(lines: Iterable[OrderLine | Reject], plan: Plan, mapping: Mapping) -> Iterator[OrderLine]:
    good: list[OrderLine] = []
    spoilt: set[str] = set()
    for line in lines:
        plan.lines += 1
        if isinstance(line, OrderLine):
            good.append(line)
        else:
            plan.rejects.append(line)
            spoilt.add(line.order_id)
    for line in good:
        if mapping.errors.bad_line == "order" and line.order_id in spoilt:
            plan.rejects.append(Reject(line.number, "order-has-a-bad-line", line.order_id))
        else:
            yield line


def _orders(lines: list[OrderLine], plan: Plan, mapping: Mapping) -> dict[str, PlannedOrder]:
    orders: dict[str, PlannedOrder] = {}
    for line in lines:
        if line.kind != "order":
            continue
        order = orders.get(line.order_id)
        if order is None:
            customer = line.customer_id or mapping.defaults.customer
            order = orders[line.order_id] = PlannedOrder(line.order_id, customer, line.site_id, line.receiver)
        if reason := _misfit(order, line, mapping):
            plan.rejects.append(Reject(line.number, reason, line.order_id))
            continue
        order.lines.append(line)
        _take_up(plan, line)
        if not line.is_charge:
            plan.stock[line.site_id, line.item_id] += line.quantity
    return {order_id: order for order_id, order in orders.items() if order.lines}


def _misfit(order: PlannedOrder, line: OrderLine, mapping: Mapping) -> str | None:
    if len(order.lines) == LINES_PER_ORDER_MAX:
        return "too-many-lines"
    if line.site_id != order.site_id:
        return "another-site-in-the-same-order"
    if (line.customer_id or mapping.defaults.customer) != order.customer_id:
        return "another-customer-in-the-same-order"
    if order.lines and line.currency != order.lines[0].currency:
        return "mixed-currencies"
    return None


def _take_up(plan: Plan, line: OrderLine) -> None:
    plan.sites.setdefault(line.site_id, line.site_name)
    plan.items.setdefault(line.item_id, line)
    if line.ordered_at and (plan.began_at is None or line.ordered_at < plan.began_at):
        plan.began_at = line.ordered_at


class _Fulfilled:
    """What was ordered so far and may still come back, by customer and item, the latest last."""

    def __init__(self) -> None:
        self._left: dict[tuple[str, str], list[_Left]] = defaultdict(list)

    def add(self, order: PlannedOrder) -> None:
        """Note an order's lines."""
        for number, line in enumerate(order.lines, start=1):
            self._left[order.customer_id, line.item_id].append(_Left(order.order_id, number, line.quantity))

    def take(self, customer_id: str, line: OrderLine) -> list[PlannedReturn] | str:
        """Return the parts that a line takes back, or the reason why it cannot."""
        left = self._left.get((customer_id, line.item_id), [])
        if not left:
            return "no-order-to-return-to"
        if sum(entry.quantity for entry in left) < line.quantity:
            return "returns-more-than-ordered"
        parts: list[PlannedReturn] = []
        missing = line.quantity
        while missing:
            latest = left[-1]
            taken = min(missing, latest.quantity)
            parts.append(PlannedReturn(line, latest.order_id, latest.line_no, taken, len(parts)))
            missing -= taken
            latest.quantity -= taken
            if not latest.quantity:
                left.pop()
        return parts


def _plan_return(line: OrderLine, fulfilled: _Fulfilled, plan: Plan, mapping: Mapping) -> None:
    if line.customer_id is None and mapping.returns.needs_customer:
        plan.rejects.append(Reject(line.number, "return-without-customer", line.order_id))
        return
    parts = fulfilled.take(line.customer_id or mapping.defaults.customer, line)
    if isinstance(parts, str):
        plan.rejects.append(Reject(line.number, parts, line.order_id, line.item_id))
    else:
        plan.steps.append(parts)
