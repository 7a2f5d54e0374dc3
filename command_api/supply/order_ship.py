"""
Moves an order's goods: shipped, delivered, returned, and filled anew when its units were taken away.

An order and its stock streams change in one append. What is reserved is the stock's to say: where a recall or
expiry took units away and the order has not heard of it yet, they do not ship.
"""

from collections.abc import Iterator, Mapping, Sequence

from command_api.decider import Context, States, To
from command_api.supply.distribution import DistributionState
from command_api.supply.order_settle import give_back_reference, wrong_status
from command_api.supply.order_state import Line, OrderState, by_line, by_place
from command_api.supply.stock_lots import refuse_overflow
from command_api.supply.stock_state import Label, StockState, Units
from command_api.supply.stock_state import evolve as evolve_stock
from schemas import Event
from schemas.errors import NotFound
from schemas.supply import rejections
from schemas.supply.orders import (
    DeliverOrder,
    MarkOrderRecalled,
    OrderDelivered,
    OrderReallocated,
    OrderRecalled,
    OrderReturned,
    OrderShipped,
    ReallocatedLine,
    ReallocateOrder,
    ReturnOrder,
    ShipOrder,
)
from schemas.supply.quantities import LineLot, LotQuantity, OrderStatus
from schemas.supply.stock import StockReserved, StockReturned, StockShipped

SHIPPABLE = ("confirmed", "partially-shipped")
RETURNABLE = ("partially-shipped", "shipped", "delivered")


def ship(command: ShipOrder, states: States, context: Context) -> list[Event | To]:
    """Return the shipment, and what leaves each stock."""
    order: OrderState = states[command.stream]
    wanted = _wanted(command)
    if (earlier := order.shipments.get(command.shipment_id)) is not None:
        if wanted is None or wanted == earlier.units:
            return []
        raise rejections.AlreadyExists(f"shipment {command.shipment_id}")
    if order.status not in SHIPPABLE:
        raise wrong_status(command, order)
    units = _shippable(command, order, states, wanted)
    sent: list[LineLot] = []
    shipped: list[Event | To] = []
    for line_no, quantity in units.items():
        line = order.lines[line_no]
        lots = _lots(command, order, line_no, quantity, states, context)
        sent += (LineLot(line_no=line_no, lot=part.lot, quantity=part.quantity) for part in lots)
        if line.stocked:
            left = StockShipped(
                order_id=command.order_id,
                customer_id=order.customer_id,
                shipment_id=command.shipment_id,
                line_no=line_no,
                lots=lots,
            )
            shipped.append(To(f"stock/{order.site_id}/{line.item_id}", left))
    is_complete = all(line.outstanding == units.get(line_no, 0) for line_no, line in order.lines.items())
    event = OrderShipped(
        shipment_id=command.shipment_id,
        carrier=command.carrier,
        tracking=command.tracking,
        lines=tuple(sent),
        status="shipped" if is_complete else "partially-shipped",
        first=not order.shipments,
        **order.facts({}),
    )
    return [event, *shipped]


def _wanted(command: ShipOrder) -> dict[int, int] | None:
    """Return the units by line that are to be shipped; None: all."""
    if command.lines is None:
        return None
    wanted: dict[int, int] = {}
    for part in command.lines:
        if part.line_no in wanted:
            raise rejections.DuplicateLine(part.line_no)
        wanted[part.line_no] = part.quantity
    return wanted


def _shippable(
    command: ShipOrder, order: OrderState, states: States, wanted: Mapping[int, int] | None
) -> dict[int, int]:
    """Return the units by line that leave now, or refuse what is not reserved."""
    reserved = {
        line_no: _reserved(command, order, line_no, line, states)
        for line_no, line in order.lines.items()
        if line.outstanding and (wanted is None or line_no in wanted)
    }
    units = dict(reserved if wanted is None else wanted)
    requested = units if wanted is not None else {no: line.outstanding for no, line in order.lines.items()}
    exceeded = {no: quantity for no, quantity in units.items() if quantity > reserved.get(no, 0)}
    if exceeded or not any(units.values()):
        lines = [
            {"line_no": no, "requested": requested[no], "available": reserved.get(no, 0)}
            for no in exceeded or requested
        ]
        raise rejections.InsufficientStock(
            sum(line["requested"] for line in lines), sum(line["available"] for line in lines), lines
        )
    return {line_no: quantity for line_no, quantity in units.items() if quantity}


def _reserved(command: ShipOrder, order: OrderState, line_no: int, line: Line, states: States) -> int:
    if not line.stocked:
        return line.outstanding
    stock: StockState = states[f"stock/{order.site_id}/{line.item_id}"]
    return min(line.outstanding, sum(stock.reserved_for(command.order_id, line_no).values()))


def _lots(
    command: ShipOrder, order: OrderState, line_no: int, quantity: int, states: States, context: Context
) -> tuple[LotQuantity, ...]:
    """Return the lots that leave for a line, or refuse those that must not be used."""
    line = order.lines[line_no]
    if not line.stocked:
        return (LotQuantity(quantity=quantity),)
    stock: StockState = states[f"stock/{order.site_id}/{line.item_id}"]
    distribution: DistributionState = states[f"distribution/{line.item_id}"]
    lots = []
    for label, units in stock.first_out(stock.reserved_for(command.order_id, line_no)):
        if taken := min(units, quantity):
            _refuse_unusable(stock, label, distribution, line_no, context)
            lots.append(LotQuantity(lot=label, quantity=taken))
            quantity -= taken
    return tuple(lots)


def _refuse_unusable(
    stock: StockState, label: Label, distribution: DistributionState, line_no: int, context: Context
) -> None:
    lot = stock.lot(label)
    recalls = stock.holding(label, distribution)
    if recalls or lot.in_quarantine:
        raise rejections.LotOnHold(label, recalls, line_no)
    if not lot.usable_at(context.occurred_at):
        raise rejections.LotExpired(label, str(lot.expires_on), line_no)


def deliver(command: DeliverOrder, states: States, context: Context) -> list[Event | To]:
    """Return that a shipment has arrived."""
    order: OrderState = states[command.stream]
    shipment = order.shipments.get(command.shipment_id)
    if shipment is None:
        raise NotFound(f"shipment {command.shipment_id}")
    if shipment.is_delivered:
        return []
    status = _status(order, nothing_left=order.status == "shipped", arrived=command.shipment_id)
    event = OrderDelivered(shipment_id=command.shipment_id, status=status, **order.facts({}))
    return [event, *(give_back_reference(command, order, states) if status == "delivered" else ())]


def _status(order: OrderState, *, nothing_left: bool, arrived: str | None = None) -> OrderStatus:
    """Return the status of an order that is being shipped."""
    if not order.shipments:
        return "confirmed"
    if not nothing_left:
        return "partially-shipped"
    all_arrived = all(sent.is_delivered or number == arrived for number, sent in order.shipments.items())
    return "delivered" if all_arrived else "shipped"


def return_goods(command: ReturnOrder, states: States, context: Context) -> list[Event | To]:
    """Return what comes back, into quarantine at the order's site."""
    order: OrderState = states[command.stream]
    units = by_place(command.lines)
    if command.return_id in order.returns:
        if order.returns[command.return_id] == units:
            return []
        raise rejections.AlreadyExists(f"return {command.return_id}")
    if order.status not in RETURNABLE:
        raise wrong_status(command, order)
    _refuse_excess(order, units)
    lines = tuple(LineLot(line_no=no, lot=lot, quantity=quantity) for (no, lot), quantity in units.items())
    event = OrderReturned(
        return_id=command.return_id,
        lines=lines,
        status=order.status,
        first=not order.returns,
        **order.facts(by_line(lines)),
    )
    return [event, *_back(command, order, lines, states)]


def _refuse_excess(order: OrderState, units: Mapping[tuple[int, Label], int]) -> None:
    excess: list[Mapping[str, str | int | None]] = [
        {
            "line_no": place[0],
            "lot": place[1],
            "requested": quantity,
            "shipped": order.shipped.get(place, 0),
            "returned": order.returned.get(place, 0),
        }
        for place, quantity in units.items()
        if quantity > order.shipped.get(place, 0) - order.returned.get(place, 0)
    ]
    if excess:
        raise rejections.ExceedsShipped(excess)


def _back(command: ReturnOrder, order: OrderState, lines: Sequence[LineLot], states: States) -> Iterator[To]:
    """Return what comes into the stock, line by line: two lines may bring back the same lot."""
    stocks: dict[str, StockState] = {}
    for part in lines:
        if not order.lines[part.line_no].stocked:
            continue
        item_id = order.lines[part.line_no].item_id
        stream = f"stock/{order.site_id}/{item_id}"
        stock = stocks.get(stream, states[stream])
        refuse_overflow(stock, part.quantity)
        lot = stock.lot(part.lot)
        held_by = stock.holding(part.lot, states[f"distribution/{item_id}"])
        event = StockReturned(
            order_id=command.order_id,
            customer_id=order.customer_id,
            return_id=command.return_id,
            line_no=part.line_no,
            lot=part.lot,
            quantity=part.quantity,
            expires_on=lot.expires_on,
            usable_until=lot.usable_until,
            held_by=held_by,
            quarantined_now=lot.quarantined + part.quantity if held_by else 0,
        )
        stocks[stream] = evolve_stock(stock, event)
        yield To(stream, event)


def mark_recalled(command: MarkOrderRecalled, states: States, context: Context) -> list[Event | To]:
    """Return the recalled lots that the customer was sent and that are not marked yet."""
    order: OrderState = states[command.stream]
    marked = order.recalls.get(command.recall_id, frozenset())
    news = {place: units for place, units in by_place(command.lines).items() if place not in marked}
    excess: list[Mapping[str, str | int | None]] = [
        {"line_no": place[0], "lot": place[1], "requested": units, "shipped": order.shipped.get(place, 0)}
        for place, units in news.items()
        if units > order.shipped.get(place, 0)
    ]
    if excess:
        raise rejections.ExceedsShipped(excess)
    if not news:
        return []
    lines = tuple(LineLot(line_no=no, lot=lot, quantity=units) for (no, lot), units in news.items())
    return [OrderRecalled(recall_id=command.recall_id, customer_id=order.customer_id, lines=lines)]


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
    return [_reallocation(order, changed), *reserved, *_settled(command, order, changed, states)]


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
    return _status(order, nothing_left=nothing_left)


def _settled(
    command: ReallocateOrder, order: OrderState, changed: list[ReallocatedLine], states: States
) -> list[To]:
    return give_back_reference(command, order, states) if _status_after(order, changed) == "delivered" else []
