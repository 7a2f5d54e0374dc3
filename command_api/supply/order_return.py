"""Takes an order's goods back, and notes which of those that its customer was sent are recalled."""

from collections.abc import Iterator, Mapping, Sequence

from command_api.decider import Context, States, To
from command_api.supply.order_settle import wrong_status
from command_api.supply.order_state import OrderState, by_line, by_place
from command_api.supply.stock_lots import refuse_overflow
from command_api.supply.stock_state import Label, StockState
from command_api.supply.stock_state import evolve as evolve_stock
from schemas import Event
from schemas.supply import rejections
from schemas.supply.orders import MarkOrderRecalled, OrderRecalled, OrderReturned, ReturnOrder
from schemas.supply.quantities import LineLot
from schemas.supply.stock import StockReturned

RETURNABLE = ("partially-shipped", "shipped", "delivered")


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
