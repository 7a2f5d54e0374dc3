"""Reserves stock for order lines: first expiry first out, then first received, never what is held or expired."""

from command_api.decider import Context, States, To
from command_api.supply.distribution import DistributionState
from command_api.supply.stock_state import StockState
from schemas import Event
from schemas.supply import rejections
from schemas.supply.quantities import LineLots, LotQuantity
from schemas.supply.stock import ReserveStock, StockReserved, StockUnreserved, UnreserveStock


def reserve(command: ReserveStock, states: States, context: Context) -> list[Event | To]:
    """Return the reservation; nothing where the line has it already."""
    state: StockState = states[command.stream]
    distribution: DistributionState = states[f"distribution/{command.item_id}"]
    missing = _missing(command, state)
    if missing <= 0:
        return []
    lots = state.pick(missing, context.occurred_at, distribution)
    found = sum(part.quantity for part in lots)
    if found < missing and not (command.partial and found):
        line = {"line_no": command.line_no, "requested": missing, "available": found}
        raise rejections.InsufficientStock(missing, found, [line])
    return [StockReserved(order_id=command.order_id, line_no=command.line_no, lots=lots)]


def _missing(command: ReserveStock, state: StockState) -> int:
    """Return how many units are to be reserved yet."""
    reserved = sum(state.reserved_for(command.order_id, command.line_no).values())
    if not reserved or command.top_up:
        return command.quantity - reserved
    if reserved == command.quantity or (command.partial and reserved < command.quantity):
        return 0
    raise rejections.AlreadyReserved(command.order_id, command.line_no, command.quantity, reserved)


def unreserve(command: UnreserveStock, states: States, context: Context) -> list[Event | To]:
    """Return that all of an order's reservations here are given back; nothing where there are none."""
    state: StockState = states[command.stream]
    lines = state.reservations.get(command.order_id)
    if not lines:
        return []
    given_back = tuple(
        LineLots(
            line_no=line_no,
            lots=tuple(LotQuantity(lot=lot, quantity=quantity) for lot, quantity in state.first_out(units)),
        )
        for line_no, units in sorted(lines.items())
    )
    return [StockUnreserved(order_id=command.order_id, lines=given_back)]
