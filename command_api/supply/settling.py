"""
One attempt to settle an order: reserve all lines in one round, then confirm or reject by what was had.

An order is judged by the stock that its own reservations hold: `orders.confirm` is refused unless the stock holds
just the allocations that it names. So an order that lost units, or was called off, between being reserved and
being confirmed is noticed, gives everything back, and may be tried again.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from command_api.workflow import Outcome, Read, Send, Step
from schemas.supply.orders import (
    ConfirmOrder,
    OrderCancelled,
    OrderConfirmed,
    OrderPlaced,
    OrderRejected,
    PlacedLine,
    RejectOrder,
)
from schemas.supply.quantities import LineLot, LineShortage
from schemas.supply.rejections import InsufficientStock
from schemas.supply.stock import ReserveStock, StockReserved, UnreserveStock

SETTLED = (OrderConfirmed.type, OrderRejected.type, OrderCancelled.type)

Result = TypeVar("Result")
Part = Generator[Sequence[Step], Sequence[Outcome], Result]
"""A part of a reaction, which has a result for the rest of it."""


@dataclass(frozen=True)
class Order:
    """What settling an order needs to know of it."""

    order_id: str
    site_id: str
    lines: tuple[PlacedLine, ...]
    takes_part: bool

    @classmethod
    def of(cls, order_id: str, placed: OrderPlaced) -> "Order":
        """Return the order that was placed."""
        return cls(order_id, placed.site_id, placed.lines, placed.fulfilment == "partial")

    @cached_property
    def stocked(self) -> tuple[PlacedLine, ...]:
        """The lines that need a reservation."""
        return tuple(line for line in self.lines if line.stocked)

    @property
    def has_unstocked(self) -> bool:
        """Whether there is a line that needs none."""
        return len(self.stocked) < len(self.lines)

    def reserve(self, line: PlacedLine) -> ReserveStock:
        """Return the command that reserves for a line: all of it, or what there is where a part is taken."""
        return ReserveStock(
            site_id=self.site_id,
            item_id=line.item_id,
            order_id=self.order_id,
            line_no=line.line_no,
            quantity=line.quantity,
            partial=self.takes_part,
        )

    def unreserve(self, item_id: str) -> UnreserveStock:
        """Return the command that gives back what is reserved of an item."""
        return UnreserveStock(site_id=self.site_id, item_id=item_id, order_id=self.order_id)


@dataclass
class Reserved:
    """What was had for an order, and what was not."""

    allocations: list[LineLot] = field(default_factory=list)
    short: list[LineShortage] = field(default_factory=list)
    is_unclear: bool = False
    """Whether a line had a reservation before, which its answer does not tell."""


def attempt(order: Order) -> Part[bool]:
    """Try to settle an order; say whether it is settled."""
    reserved = yield from _reserve(order)
    if reserved.is_unclear:
        if (yield from _was_settled(order)):
            return True
        yield from _give_back(order)
        return False
    if reserved.short and (not order.takes_part or not (reserved.allocations or order.has_unstocked)):
        yield from _give_back(order)
        yield [Send(_rejection(order, reserved))]
        return True
    (outcome,) = yield [Send(ConfirmOrder(order_id=order.order_id, allocations=tuple(reserved.allocations)))]
    if outcome.accepted:
        return True
    yield from _give_back(order)
    return not isinstance(outcome.error, InsufficientStock)


def _reserve(order: Order) -> Part[Reserved]:
    """Reserve each stocked line, all in one round."""
    reserved = Reserved()
    if not order.stocked:
        return reserved
    outcomes = yield [Send(order.reserve(line)) for line in order.stocked]
    for line, outcome in zip(order.stocked, outcomes, strict=True):
        if isinstance(outcome.error, InsufficientStock):
            reserved.short.append(
                LineShortage(line_no=line.line_no, requested=line.quantity, available=outcome.error.available)
            )
        elif not outcome.accepted or not outcome.events:
            reserved.is_unclear = True
        for event in outcome.events:
            if isinstance(event, StockReserved):
                reserved.allocations += (
                    LineLot(line_no=line.line_no, lot=part.lot, quantity=part.quantity) for part in event.lots
                )
    return reserved


def _rejection(order: Order, reserved: Reserved) -> RejectOrder:
    return RejectOrder(order_id=order.order_id, rule=InsufficientStock.slug, lines=tuple(reserved.short))


def _give_back(order: Order) -> Part[None]:
    items = dict.fromkeys(line.item_id for line in order.stocked)
    yield [Send(order.unreserve(item_id)) for item_id in items]


def _was_settled(order: Order) -> Part[bool]:
    """Say whether the order was settled by an attempt so long ago that its keys are forgotten."""
    (history,) = yield [Read(f"orders/{order.order_id}", SETTLED)]
    return bool(history.events)
