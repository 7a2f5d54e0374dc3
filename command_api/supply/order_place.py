"""Takes an order, if its site and items are known and its reference is free."""

from collections.abc import Sequence
from operator import attrgetter

from command_api.decider import Context, States, To
from schemas import Event
from schemas.messages import Money
from schemas.supply import rejections
from schemas.supply.orders import OrderPlaced, PlacedLine, PlaceOrder
from schemas.supply.references import reference_tag


def streams(command: PlaceOrder) -> Sequence[str]:
    """Name the site, the items, and what carries the reference's tag."""
    items = dict.fromkeys(f"items/{line.item_id}" for line in command.lines)
    named = [f"sites/{command.site_id}", *items]
    if command.customer_reference is not None:
        named.append(reference_tag(command.customer_id, command.customer_reference))
    return named


def place(command: PlaceOrder, states: States, context: Context) -> list[Event | To]:
    """Return the order's first event, which claims its reference."""
    if states[command.stream].status is not None:
        raise rejections.AlreadyExists(command.stream)
    if states[f"sites/{command.site_id}"].time_zone is None:
        raise rejections.UnknownSite(command.site_id)
    _refuse_duplicate_lines(command)
    currency = _currency(command)
    _refuse_items(command, states)
    tags = _reference(command, states)
    lines = tuple(
        PlacedLine(
            line_no=line.line_no,
            item_id=line.item_id,
            quantity=line.quantity,
            unit_price=line.unit_price,
            stocked=states[f"items/{line.item_id}"].stocked,
        )
        for line in sorted(command.lines, key=attrgetter("line_no"))
    )
    total = sum(line.quantity * line.unit_price.amount for line in lines)
    placed = OrderPlaced(
        customer_id=command.customer_id,
        site_id=command.site_id,
        lines=lines,
        fulfilment=command.fulfilment,
        deliver_to=command.deliver_to,
        ordered_at=command.ordered_at or context.occurred_at,
        requested_on=command.requested_on,
        customer_reference=command.customer_reference,
        contact=command.contact,
        total=Money(amount=total, currency=currency),
    )
    return [To(command.stream, placed, tags)]


def _refuse_duplicate_lines(command: PlaceOrder) -> None:
    seen: set[int] = set()
    for line in command.lines:
        if line.line_no in seen:
            raise rejections.DuplicateLine(line.line_no)
        seen.add(line.line_no)


def _currency(command: PlaceOrder) -> str:
    currencies = sorted({line.unit_price.currency for line in command.lines})
    if len(currencies) > 1:
        raise rejections.MixedCurrencies(currencies)
    return currencies[0]


def _refuse_items(command: PlaceOrder, states: States) -> None:
    unknown: list[dict[str, str | int | None]] = []
    discontinued: list[dict[str, str | int | None]] = []
    for line in command.lines:
        item = states[f"items/{line.item_id}"]
        if not item.exists:
            unknown.append({"line_no": line.line_no, "item_id": line.item_id})
        elif item.discontinued:
            discontinued.append({"line_no": line.line_no, "item_id": line.item_id})
    if unknown:
        raise rejections.UnknownItem(str(unknown[0]["item_id"]), unknown)
    if discontinued:
        raise rejections.ItemDiscontinued(str(discontinued[0]["item_id"]), discontinued)


def _reference(command: PlaceOrder, states: States) -> Sequence[str]:
    """Return the tag of the order's reference, unless another open order has that."""
    if command.customer_reference is None:
        return ()
    tag = reference_tag(command.customer_id, command.customer_reference)
    holder = states[tag].order_id
    if holder is not None:
        raise rejections.DuplicateReference(command.customer_id, command.customer_reference, holder)
    return (tag,)
