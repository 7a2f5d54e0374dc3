"""Orders are placed, approved, confirmed, rejected and cancelled."""

from typing import Any

import pytest
from pydantic import ValidationError

from infra.testing import NOON, given
from schemas import Command, Event
from schemas.errors import NotFound
from schemas.messages import INTEGER_MAX, Money
from schemas.supply.items import DiscontinueItem
from schemas.supply.orders import (
    ApproveOrder,
    CancelOrder,
    DeclineOrder,
    DeliverOrder,
    LineToPlace,
    MarkOrderRecalled,
    OrderApprovalRequested,
    OrderApproved,
    OrderCancelled,
    OrderConfirmed,
    OrderPlaced,
    OrderRejected,
    PlacedLine,
    ReallocateOrder,
    RejectOrder,
    RequestApproval,
    ReturnOrder,
    TimeOutOrder,
)
from schemas.supply.quantities import LineQuantity, LineShortage, Removed
from schemas.supply.references import reference_tag
from schemas.supply.rejections import (
    AlreadyExists,
    DuplicateLine,
    DuplicateReference,
    InsufficientStock,
    ItemDiscontinued,
    MixedCurrencies,
    UnknownItem,
    UnknownSite,
    WrongStatus,
)
from tests.unit.supply.words import (
    BASICS,
    CONFIRMED,
    ITEM,
    ORDER,
    SHIPPED,
    SITE,
    SUPPLY,
    confirm,
    line,
    line_lots,
    place,
    quarantine,
    receive,
    reserve,
    ship,
)

EUR = Money(amount=100, currency="EUR")
REQUEST = RequestApproval(order_id="O1", limit=500)
APPROVE, DECLINE = ApproveOrder(order_id="O1"), DeclineOrder(order_id="O1")
CANCEL, TIME_OUT = CancelOrder(order_id="O1"), TimeOutOrder(order_id="O1")
REJECT = RejectOrder(
    order_id="O1",
    rule="insufficient-stock",
    lines=(LineShortage(line_no=1, requested=10, available=0),),
)
PLACED: tuple[Command | Event, ...] = (*BASICS, place())
AWAITING = (*PLACED, REQUEST)
REFERENCE = reference_tag("C1", "PO 7/2026")


def facts(status_before: str) -> dict[str, Any]:
    about = {"customer_id": "C1", "site_id": "S1", "ordered_at": NOON, "currency": "EUR"}
    return about | {"status_before": status_before}


def removed(quantity: int = 10, line_no: int = 1, item_id: str = "I1") -> Removed:
    return Removed(line_no=line_no, item_id=item_id, quantity=quantity, amount=quantity * 100)


# -- place


def test_an_order_says_all_there_is_to_know_of_it() -> None:
    command = place(
        line(2, "FREIGHT", 1, 900),
        line(1),
        fulfilment="partial",
        deliver_to="Ward 3",
        ordered_at=NOON.replace(year=2020),
        requested_on=NOON.date(),
        contact="Ann",
    )
    given(SUPPLY, *BASICS).when(command).then(
        OrderPlaced(
            customer_id="C1",
            site_id="S1",
            lines=(
                PlacedLine(line_no=1, item_id="I1", quantity=10, unit_price=EUR, stocked=True),
                PlacedLine(
                    line_no=2,
                    item_id="FREIGHT",
                    quantity=1,
                    unit_price=Money(amount=900, currency="EUR"),
                    stocked=False,
                ),
            ),
            fulfilment="partial",
            deliver_to="Ward 3",
            ordered_at=NOON.replace(year=2020),
            requested_on=NOON.date(),
            contact="Ann",
            total=Money(amount=1_900, currency="EUR"),
        )
    )


def test_an_order_is_ordered_when_it_happened_unless_it_says_when() -> None:
    earlier = NOON.replace(year=2011)
    event = given(SUPPLY, *BASICS).when(place(), occurred_at=earlier).only(OrderPlaced)
    assert event.ordered_at == earlier


def test_an_order_is_placed_once() -> None:
    given(SUPPLY, *PLACED).when(place()).then_refused(AlreadyExists, what=ORDER)


def test_an_order_needs_a_known_site_and_known_items() -> None:
    given(SUPPLY, ITEM).when(place()).then_refused(UnknownSite, site_id="S1")
    given(SUPPLY, SITE, ITEM).when(place(line(1), line(2, "X"), line(3, "Y"))).then_refused(
        UnknownItem,
        item_id="X",
        lines=[{"line_no": 2, "item_id": "X"}, {"line_no": 3, "item_id": "Y"}],
    )


def test_a_discontinued_item_is_not_ordered() -> None:
    given(SUPPLY, *BASICS, DiscontinueItem(item_id="I1")).when(place()).then_refused(
        ItemDiscontinued, item_id="I1", lines=[{"line_no": 1, "item_id": "I1"}]
    )


def test_a_line_number_stands_for_one_line() -> None:
    given(SUPPLY, *BASICS).when(place(line(1), line(1, "I2"))).then_refused(DuplicateLine, line_no=1)


def test_an_order_has_one_currency() -> None:
    dollars = LineToPlace(line_no=2, item_id="I1", quantity=1, unit_price=Money(amount=1, currency="USD"))
    given(SUPPLY, *BASICS).when(place(line(1), dollars)).then_refused(
        MixedCurrencies, currencies=["EUR", "USD"]
    )


def test_a_total_that_no_integer_holds_is_not_taken() -> None:
    with pytest.raises(ValidationError, match="total"):
        place(line(1, quantity=INTEGER_MAX, price=2))
    with pytest.raises(ValidationError, match="total"):
        place(line(1, quantity=INTEGER_MAX, price=1), line(2, quantity=1, price=1))


@pytest.mark.parametrize("count", [0, 1_001])
def test_an_order_has_one_to_a_thousand_lines(count: int) -> None:
    with pytest.raises(ValidationError, match="lines"):
        given(SUPPLY, *BASICS).when(
            place().model_validate(place().model_dump() | {"lines": [line(no + 1) for no in range(count)]})
        )


def test_a_thousand_lines_are_decided() -> None:
    lines = [line(no + 1) for no in range(1_000)]
    event = given(SUPPLY, *BASICS).when(place(*lines)).only(OrderPlaced)
    assert event.total.amount == 1_000_000


# -- references


def test_a_reference_is_claimed_with_the_order() -> None:
    decided = given(SUPPLY, *BASICS).when(place(customer_reference="PO 7/2026"))
    assert len(decided.events) == 1
    assert decided.state(REFERENCE).order_id == "O1"


def test_a_reference_is_unique_among_a_customers_open_orders() -> None:
    claimed = given(SUPPLY, *BASICS, place(customer_reference="PO 7/2026"))
    claimed.when(place(order_id="O2", customer_reference="PO 7/2026")).then_refused(
        DuplicateReference, customer_id="C1", customer_reference="PO 7/2026", order_id="O1"
    )
    other = place(order_id="O2", customer_reference="PO 7/2026").model_copy(update={"customer_id": "C2"})
    claimed.when(other).then_accepted()
    claimed.when(place(order_id="O3", customer_reference="po 7/2026")).then_accepted()


@pytest.mark.parametrize(
    "ending",
    [
        (CANCEL,),
        (TIME_OUT,),
        (REJECT,),
        (REQUEST, DECLINE),
        (
            receive(10),
            reserve(10),
            confirm((1, "A", 10)),
            ship(),
            DeliverOrder(order_id="O1", shipment_id="SH1"),
        ),
    ],
)
def test_a_settled_order_gives_its_reference_back(ending: tuple[Command, ...]) -> None:
    *before, last = ending
    settled = given(SUPPLY, *BASICS, place(customer_reference="PO 7/2026"), *before)
    assert settled.log.state(REFERENCE).order_id == "O1"
    assert settled.when(last).state(REFERENCE).order_id is None
    settled.when(place(order_id="O2", customer_reference="PO 7/2026")).then_accepted()
    assert settled.when(last).then_nothing().state(REFERENCE).order_id == "O2"


def test_an_order_that_is_only_partly_delivered_keeps_its_reference() -> None:
    partly = given(
        SUPPLY,
        *BASICS,
        place(customer_reference="PO 7/2026"),
        receive(10),
        reserve(10),
        confirm((1, "A", 10)),
        ship("SH1", (1, 4)),
        DeliverOrder(order_id="O1", shipment_id="SH1"),
    )
    partly.when(place(order_id="O2", customer_reference="PO 7/2026")).then_refused(DuplicateReference)


# -- approval


def test_an_order_waits_for_approval_and_goes_on() -> None:
    (
        given(SUPPLY, *PLACED)
        .when(REQUEST)
        .then(OrderApprovalRequested(limit=500))
        .when(REQUEST)
        .then_nothing()
        .when(APPROVE)
        .then(OrderApproved())
        .when(APPROVE)
        .then_nothing()
        .when(REQUEST)
        .then_nothing()
    )


def test_an_approved_order_is_confirmed_like_others() -> None:
    approved = given(SUPPLY, *AWAITING, receive(10), reserve(10))
    approved.when(confirm((1, "A", 10))).then_refused(WrongStatus, current_status="awaiting-approval")
    approved.when(APPROVE).then_accepted()
    approved.when(confirm((1, "A", 10))).then_accepted()


def test_a_declined_order_is_rejected_by_that_name() -> None:
    (
        given(SUPPLY, *AWAITING)
        .when(DECLINE)
        .then(OrderRejected(rule="declined", removed=(removed(),), **facts("awaiting-approval")))
        .when(DECLINE)
        .then_nothing()
        .when(APPROVE)
        .then_refused(WrongStatus, current_status="rejected")
    )


# -- confirm


def test_a_confirmed_order_is_promised_what_is_reserved() -> None:
    (
        given(SUPPLY, *PLACED, receive(10), reserve(10))
        .when(confirm((1, "A", 10)))
        .then(OrderConfirmed(allocations=line_lots((1, "A", 10)), **facts("placed")))
        .when(confirm((1, "A", 10)))
        .then_nothing()
    )


def test_an_order_that_takes_a_part_is_promised_the_rest_short() -> None:
    placed = (*BASICS, place(line(1), line(2, "I2", 3), fulfilment="partial"))
    given(SUPPLY, *placed, receive(4), reserve(4)).when(confirm((1, "A", 4))).then(
        OrderConfirmed(
            allocations=line_lots((1, "A", 4)),
            short=(LineQuantity(line_no=1, quantity=6), LineQuantity(line_no=2, quantity=3)),
            removed=(removed(6), removed(3, 2, "I2")),
            **facts("placed"),
        )
    )


def test_an_order_that_wants_everything_is_not_promised_a_part() -> None:
    given(SUPPLY, *PLACED, receive(4), reserve(4)).when(confirm((1, "A", 4))).then_refused(
        InsufficientStock,
        requested=10,
        available=4,
        lines=[{"line_no": 1, "requested": 10, "available": 4}],
    )


def test_nothing_at_all_is_not_a_part() -> None:
    given(SUPPLY, *BASICS, place(fulfilment="partial")).when(confirm()).then_refused(InsufficientStock)


def test_lines_without_stock_need_no_reservation() -> None:
    given(SUPPLY, *BASICS, place(line(1, "FREIGHT", 2))).when(confirm()).then(
        OrderConfirmed(allocations=(), **facts("placed"))
    )


@pytest.mark.parametrize(
    "parts",
    [[], [(1, "A", 9)], [(1, "B", 10)], [(1, "A", 10), (2, "A", 1)], [(1, "A", 10), (3, None, 1)]],
)
def test_what_the_stock_does_not_hold_for_the_order_is_not_promised(
    parts: list[tuple[int, str | None, int]],
) -> None:
    placed = (*BASICS, place(line(1), line(3, "FREIGHT", 1)), receive(50), reserve(10))
    given(SUPPLY, *placed).when(confirm(*parts)).then_refused(InsufficientStock)


def test_an_order_whose_reservation_was_just_taken_away_is_not_promised() -> None:
    given(SUPPLY, *PLACED, receive(10), reserve(10), quarantine()).when(confirm((1, "A", 10))).then_refused(
        InsufficientStock, lines=[{"line_no": 1, "requested": 10, "available": 0}]
    )


def test_a_line_is_not_promised_more_than_it_ordered() -> None:
    given(SUPPLY, *PLACED, receive(20), reserve(12)).when(confirm((1, "A", 12))).then_refused(
        InsufficientStock
    )


# -- reject, cancel, time out


def test_a_rejected_order_says_why() -> None:
    (
        given(SUPPLY, *PLACED)
        .when(REJECT)
        .then(
            OrderRejected(
                rule="insufficient-stock", lines=REJECT.lines, removed=(removed(),), **facts("placed")
            )
        )
        .when(REJECT)
        .then_nothing()
    )


def test_an_order_that_awaits_approval_may_be_rejected_or_cancelled() -> None:
    given(SUPPLY, *AWAITING).when(REJECT).then_accepted()
    given(SUPPLY, *AWAITING).when(CANCEL).then_accepted()


def test_a_cancelled_order_no_longer_counts() -> None:
    (
        given(SUPPLY, *CONFIRMED)
        .when(CANCEL)
        .then(OrderCancelled(cause="requested", removed=(removed(),), **facts("confirmed")))
        .when(CANCEL)
        .then_nothing()
    )


def test_what_was_short_is_not_taken_off_twice() -> None:
    placed = (*BASICS, place(fulfilment="partial"), receive(4), reserve(4), confirm((1, "A", 4)))
    given(SUPPLY, *placed).when(CANCEL).then(OrderCancelled(removed=(removed(4),), **facts("confirmed")))


def test_only_an_order_that_nobody_settled_times_out() -> None:
    given(SUPPLY, *PLACED).when(TIME_OUT).then(
        OrderCancelled(cause="timed-out", removed=(removed(),), **facts("placed"))
    )
    for past in (AWAITING, CONFIRMED, SHIPPED, (*PLACED, REJECT), (*PLACED, CANCEL)):
        given(SUPPLY, *past).when(TIME_OUT).then_nothing()


@pytest.mark.parametrize(
    ("past", "command", "status"),
    [
        (PLACED, APPROVE, "placed"),
        (PLACED, DECLINE, "placed"),
        (CONFIRMED, REQUEST, "confirmed"),
        (CONFIRMED, REJECT, "confirmed"),
        ((*PLACED, CANCEL), REJECT, "cancelled"),
        ((*PLACED, CANCEL), confirm(), "cancelled"),
        ((*PLACED, REJECT), confirm(), "rejected"),
        ((*PLACED, REJECT), CANCEL, "rejected"),
        ((*PLACED, REJECT), DECLINE, "rejected"),
        (SHIPPED, CANCEL, "shipped"),
        (SHIPPED, REJECT, "shipped"),
        ((*CONFIRMED, ship("SH1", (1, 4))), CANCEL, "partially-shipped"),
        (PLACED, ship(), "placed"),
        ((*CONFIRMED, CANCEL), ship(), "cancelled"),
        (SHIPPED, ship("SH2"), "shipped"),
        (CONFIRMED, ReturnOrder(order_id="O1", return_id="RT1", lines=line_lots((1, "A", 1))), "confirmed"),
    ],
)
def test_a_status_does_not_allow_everything(past: tuple[Command, ...], command: Command, status: str) -> None:
    given(SUPPLY, *past).when(command).then_refused(WrongStatus, what=ORDER, current_status=status)


@pytest.mark.parametrize(
    "command",
    [
        REQUEST,
        APPROVE,
        DECLINE,
        confirm(),
        REJECT,
        CANCEL,
        TIME_OUT,
        ReallocateOrder(order_id="O1"),
        MarkOrderRecalled(order_id="O1", recall_id="R1", lines=line_lots((1, "A", 1))),
        ship(),
        DeliverOrder(order_id="O1", shipment_id="SH1"),
        ReturnOrder(order_id="O1", return_id="RT1", lines=line_lots((1, "A", 1))),
    ],
)
def test_an_order_that_was_never_placed_is_not_found(command: Command) -> None:
    given(SUPPLY, *BASICS).when(command).then_refused(NotFound, what=ORDER)
