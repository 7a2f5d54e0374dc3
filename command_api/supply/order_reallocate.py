"""
Fills an order anew whose reserved units were taken away, by a recall, a quarantine or expiry.

What the order was promised and the stock no longer holds for it is missing: it is reserved again, in the same
append, as far as there is any, and short for the rest.
"""

from command_api.decider import Context, States, To
from command_api.supply.order_ship import SHIPPABLE, shipping_status
from command_api.supply.order_state import OrderState
from command_api.supply.references import about_reference
from command_api.supply.stock_state import StockState, Units
from command_api.supply.stock_state import evolve as evolve_stock
from schemas import Event
from schemas.supply.orders import OrderReallocated, ReallocatedLine, ReallocateOrder
from schemas.supply.quantities import LotQuantity, OrderStatus
from schemas.supply.stock import StockReserved


def reallocate(command: ReallocateOrder, states: States, context: Context) -> list[Event | To]:
    """Return what fills the order anew, and what is short now; nothing where nothing was taken away."""
    order: OrderState = states[command.stream]
    if order.status not in SHIPPABLE:
        return []
    stocks: dict[str, StockState] = {}
    reserved: list[To] = []
    changed: list[ReallocatedLine] = []
    for line_no, line in order.lines.items():
        if not line.stocked or not line.outstanding or (command.lines and line_no not in command.lines):
            continue
        stream = f"stock/{order.site_id}/{line.item_id}"
        stock = stocks.get(stream, states[stream])
        missing = line.outstanding - sum(stock.reserved_for(command.order_id, line_no).values())
        if missing <= 0:
            continue
        lots = stock.pick(missing, context.occurred_at, states[f"distribution/{line.item_id}"])
        if lots:
            filled = StockReserved(order_id=command.order_id, line_no=line_no, lots=lots)
            stock = stocks[stream] = evolve_stock(stock, filled)
            reserved.append(To(stream, filled))
        missing -= sum(part.quantity for part in lots)
        changed.append(_reallocated(order, line_no, stock.reserved_for(command.order_id, line_no), missing))
    if not changed:
        return []
    return [about_reference(command.stream, order, _reallocation(order, changed)), *reserved]


def _reallocated(order: OrderState, line_no: int, reserved: Units, missing: int) -> ReallocatedLine:
    line = order.lines[line_no]
    units = {lot: quantity for (no, lot), quantity in order.shipped.items() if no == line_no}
    for lot, quantity in reserved.items():
        units[lot] = units.get(lot, 0) + quantity
    return ReallocatedLine(
        line_no=line_no,
        lots=tuple(LotQuantity(lot=lot, quantity=quantity) for lot, quantity in units.items()),
        reserved=line.reserved - missing,
        short=line.short + missing,
    )


def _reallocation(order: OrderState, changed: list[ReallocatedLine]) -> OrderReallocated:
    removed = {part.line_no: part.short - order.lines[part.line_no].short for part in changed}
    status = _status_after(order, changed)
    return OrderReallocated(lines=tuple(changed), status=status, **order.facts(removed))


def _status_after(order: OrderState, changed: list[ReallocatedLine]) -> OrderStatus:
    reserved = {part.line_no: part.reserved for part in changed}
    nothing_left = all(reserved.get(no, line.reserved) == line.shipped for no, line in order.lines.items())
    return shipping_status(order, nothing_left=nothing_left)
