"""Fills orders anew that have lost reserved units, whatever took them: a recall, a quarantine, an expiry."""

from collections.abc import Sequence

from command_api.workflow import Reaction, Send
from schemas.supply.orders import ReallocateOrder
from schemas.supply.quantities import Released


def refill(released: Sequence[Released]) -> Reaction:
    """Reserve again, for each order, what its lines have lost; what cannot be had becomes short."""
    lines: dict[str, set[int]] = {}
    for lost in released:
        lines.setdefault(lost.order_id, set()).add(lost.line_no)
    yield [
        Send(ReallocateOrder(order_id=order_id, lines=tuple(sorted(numbers))))
        for order_id, numbers in lines.items()
    ]
