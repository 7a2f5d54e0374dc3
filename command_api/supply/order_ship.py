"""
Ships an order's goods, and notes their arrival.

An order and its stock streams change in one append. What is reserved is the stock's to say: where a recall or
expiry took units away and the order has not heard of it yet, they do not ship.
"""

from collections.abc import Mapping

from command_api.decider import Context, States, To
from command_api.supply.distribution import DistributionState
from command_api.supply.order_settle import wrong_status
from command_api.supply.order_state import Line, OrderState
from command_api.supply.references import about_reference
from command_api.supply.stock_state import Label, StockState
from schemas import Event
from schemas.errors import NotFound
from schemas.supply import rejections
from schemas.supply.orders import (
    DeliverOrder,
    OrderDelivered,
    OrderShipped,
    ShipOrder,
)
from schemas.supply.quantities import LineLot, LotQuantity, OrderStatus
from schemas.supply.stock import StockShipped

SHIPPABLE = ("confirmed", "partially-shipped")


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
    status = shipping_status(order, nothing_left=order.status == "shipped", arrived=command.shipment_id)
    event = OrderDelivered(shipment_id=command.shipment_id, status=status, **order.facts({}))
    return [about_reference(command.stream, order, event)]


def shipping_status(order: OrderState, *, nothing_left: bool, arrived: str | None = None) -> OrderStatus:
    """Return the status of an order that is being shipped."""
    if not order.shipments:
        return "confirmed"
    if not nothing_left:
        return "partially-shipped"
    all_arrived = all(sent.is_delivered or number == arrived for number, sent in order.shipments.items())
    return "delivered" if all_arrived else "shipped"
