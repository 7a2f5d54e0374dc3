"""Orders ship what is reserved, lots as reserved; take goods back; and are filled anew."""

from datetime import timedelta

from infra.testing import given
from schemas.errors import NotFound
from schemas.messages import INTEGER_MAX
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
)
from schemas.supply.quantities import Removed
from schemas.supply.rejections import (
    AlreadyExists,
    DuplicateLine,
    ExceedsShipped,
    InsufficientStock,
    LotExpired,
    LotOnHold,
    QuantityOverflow,
)
from schemas.supply.stock import StockReserved, StockReturned, StockShipped, TransferStock
from tests.unit.supply.test_orders import REFERENCE, facts
from tests.unit.supply.words import (
    BASICS,
    CONFIRMED,
    EARLY,
    EARLY_ENDS,
    EXPIRE,
    LATE,
    SEND_BACK,
    SHIPPED,
    STOCK,
    SUPPLY,
    confirm,
    line,
    line_lots,
    lots,
    place,
    quarantine,
    recall,
    receive,
    reserve,
    ship,
)

TWO_LOTS = (
    *BASICS,
    receive(6, "B", LATE),
    receive(6),
    place(),
    reserve(10),
    confirm((1, "A", 6), (1, "B", 4)),
)
"""Six of A, which expires first, and four of B."""
REALLOCATE = ReallocateOrder(order_id="O1")


def deliver(shipment_id: str = "SH1") -> DeliverOrder:
    return DeliverOrder(order_id="O1", shipment_id=shipment_id)


def send_back(*parts: tuple[int, str | None, int], return_id: str = "RT1") -> ReturnOrder:
    return ReturnOrder(order_id="O1", return_id=return_id, lines=line_lots(*parts))


def left(*pairs: tuple[str | None, int], shipment_id: str = "SH1", line_no: int = 1) -> StockShipped:
    return StockShipped(
        order_id="O1", customer_id="C1", shipment_id=shipment_id, line_no=line_no, lots=lots(*pairs)
    )


def removed(quantity: int) -> Removed:
    return Removed(line_no=1, item_id="I1", quantity=quantity, amount=quantity * 100)


# -- ship


def test_all_that_is_reserved_ships_and_the_stock_with_it() -> None:
    given(SUPPLY, *CONFIRMED).when(ship(carrier="DHL", tracking="123")).then(
        OrderShipped(
            shipment_id="SH1",
            carrier="DHL",
            tracking="123",
            lines=line_lots((1, "A", 10)),
            status="shipped",
            first=True,
            **facts("confirmed"),
        ),
        (STOCK, left(("A", 10))),
    )


def test_parts_ship_in_the_order_in_which_their_lots_expire() -> None:
    (
        given(SUPPLY, *TWO_LOTS)
        .when(ship("SH1", (1, 7)))
        .then(
            OrderShipped(
                shipment_id="SH1",
                lines=line_lots((1, "A", 6), (1, "B", 1)),
                status="partially-shipped",
                first=True,
                **facts("confirmed"),
            ),
            (STOCK, left(("A", 6), ("B", 1))),
        )
        .when(ship("SH2"))
        .then(
            OrderShipped(
                shipment_id="SH2",
                lines=line_lots((1, "B", 3)),
                status="shipped",
                first=False,
                **facts("partially-shipped"),
            ),
            (STOCK, left(("B", 3), shipment_id="SH2")),
        )
    )


def test_lines_without_stock_ship_without_stock() -> None:
    lines = (line(1), line(2, "FREIGHT", 2))
    confirmed = (*BASICS, place(*lines), receive(10), reserve(10), confirm((1, "A", 10)))
    given(SUPPLY, *confirmed).when(ship("SH1", (2, 1))).then(
        OrderShipped(
            shipment_id="SH1",
            lines=line_lots((2, None, 1)),
            status="partially-shipped",
            first=True,
            **facts("confirmed"),
        )
    )
    shipped = given(SUPPLY, *confirmed).when(ship())
    assert shipped.only(OrderShipped).lines == line_lots((1, "A", 10), (2, None, 2))
    assert shipped.only(OrderShipped).status == "shipped"


def test_two_lines_of_one_item_ship_each_its_own() -> None:
    confirmed = (
        *BASICS,
        place(line(1, quantity=3), line(2, quantity=4)),
        receive(5),
        receive(5, "B", LATE),
        reserve(3),
        reserve(4, line_no=2),
        confirm((1, "A", 3), (2, "A", 2), (2, "B", 2)),
    )
    shipped = given(SUPPLY, *confirmed).when(ship())
    assert shipped.only(OrderShipped).lines == line_lots((1, "A", 3), (2, "A", 2), (2, "B", 2))
    assert shipped.state(STOCK).on_hand == 3


def test_the_same_shipment_again_changes_nothing_and_another_by_its_name_is_refused() -> None:
    partly = given(SUPPLY, *CONFIRMED, ship("SH1", (1, 4)))
    partly.when(ship("SH1", (1, 4))).then_nothing()
    partly.when(ship("SH1")).then_nothing()
    partly.when(ship("SH1", (1, 5))).then_refused(AlreadyExists, what="shipment SH1")


def test_no_more_ships_than_is_reserved() -> None:
    given(SUPPLY, *CONFIRMED).when(ship("SH1", (1, 11), (7, 1))).then_refused(
        InsufficientStock,
        requested=12,
        available=10,
        lines=[
            {"line_no": 1, "requested": 11, "available": 10},
            {"line_no": 7, "requested": 1, "available": 0},
        ],
    )


def test_a_line_is_named_once_in_a_shipment() -> None:
    given(SUPPLY, *CONFIRMED).when(ship("SH1", (1, 1), (1, 1))).then_refused(DuplicateLine, line_no=1)


def test_recalled_units_do_not_ship_from_the_recalls_position_on() -> None:
    given(SUPPLY, *TWO_LOTS, recall("A")).when(ship()).then_refused(
        LotOnHold, lot="A", recalls=("R1",), line_no=1
    )
    given(SUPPLY, *TWO_LOTS, recall("B")).when(ship("SH1", (1, 6))).then_accepted()


def test_expired_units_do_not_ship_as_the_business_saw_it() -> None:
    given(SUPPLY, *CONFIRMED).when(ship(), occurred_at=EARLY_ENDS).then_refused(
        LotExpired, lot="A", expires_on="2026-03-31", line_no=1
    )
    last_moment = EARLY_ENDS - timedelta(microseconds=1)
    given(SUPPLY, *CONFIRMED).when(ship(), now=EARLY_ENDS, occurred_at=last_moment).then_accepted()


def test_units_that_a_quarantine_took_away_do_not_ship() -> None:
    given(SUPPLY, *CONFIRMED, quarantine()).when(ship()).then_refused(
        InsufficientStock,
        requested=10,
        available=0,
        lines=[{"line_no": 1, "requested": 10, "available": 0}],
    )
    rest = given(SUPPLY, *TWO_LOTS, quarantine()).when(ship()).only(OrderShipped)
    assert (rest.lines, rest.status) == (line_lots((1, "B", 4)), "partially-shipped")


# -- deliver


def test_an_order_is_delivered_when_all_of_it_has_arrived() -> None:
    (
        given(SUPPLY, *CONFIRMED, ship("SH1", (1, 4)))
        .when(deliver())
        .then(OrderDelivered(shipment_id="SH1", status="partially-shipped", **facts("partially-shipped")))
        .when(deliver())
        .then_nothing()
        .when(ship("SH2"))
        .then_accepted()
        .when(deliver("SH2"))
        .then(OrderDelivered(shipment_id="SH2", status="delivered", **facts("shipped")))
    )


def test_a_shipment_that_never_left_is_not_found() -> None:
    given(SUPPLY, *SHIPPED).when(deliver("SH9")).then_refused(NotFound, what="shipment SH9")


# -- return


def test_what_comes_back_goes_into_quarantine() -> None:
    back = StockReturned(
        order_id="O1",
        customer_id="C1",
        return_id="RT1",
        line_no=1,
        lot="A",
        quantity=4,
        expires_on=EARLY,
        usable_until=EARLY_ENDS,
    )
    given(SUPPLY, *SHIPPED).when(SEND_BACK).then(
        OrderReturned(
            return_id="RT1",
            lines=line_lots((1, "A", 4)),
            status="shipped",
            first=True,
            removed=(removed(4),),
            **facts("shipped"),
        ),
        (STOCK, back),
    ).when(SEND_BACK).then_nothing()


def test_a_return_is_the_first_one_only_once() -> None:
    second = given(SUPPLY, *SHIPPED, SEND_BACK, deliver()).when(send_back((1, "A", 6), return_id="RT2"))
    assert (second.only(OrderReturned).first, second.only(OrderReturned).status) == (False, "delivered")


def test_another_return_by_the_same_name_is_refused() -> None:
    given(SUPPLY, *SHIPPED, SEND_BACK).when(send_back((1, "A", 5))).then_refused(
        AlreadyExists, what="return RT1"
    )


def test_no_more_comes_back_of_a_lot_than_was_shipped() -> None:
    given(SUPPLY, *SHIPPED, SEND_BACK).when(send_back((1, "A", 7), return_id="RT2")).then_refused(
        ExceedsShipped,
        lines=[{"line_no": 1, "lot": "A", "requested": 7, "shipped": 10, "returned": 4}],
    )
    for part in ((1, "B", 1), (1, None, 1), (9, "A", 1)):
        given(SUPPLY, *SHIPPED).when(send_back(part)).then_refused(ExceedsShipped)


def test_the_same_lot_named_twice_in_a_return_counts_together() -> None:
    given(SUPPLY, *SHIPPED).when(send_back((1, "A", 6), (1, "A", 5))).then_refused(ExceedsShipped)


def test_lines_without_stock_come_back_without_stock() -> None:
    freight = (*BASICS, place(line(1, "FREIGHT", 2)), confirm(), ship())
    given(SUPPLY, *freight).when(send_back((1, None, 1))).then(
        OrderReturned(
            return_id="RT1",
            lines=line_lots((1, None, 1)),
            status="shipped",
            first=True,
            removed=(Removed(line_no=1, item_id="FREIGHT", quantity=1, amount=100),),
            **facts("shipped"),
        )
    )


def test_a_recalled_lot_that_comes_back_is_known_as_such() -> None:
    event = given(SUPPLY, *SHIPPED, recall("A")).when(SEND_BACK).only(StockReturned)
    assert event.held_by == ("R1",)


def test_two_lines_that_bring_back_one_held_lot_count_it_together() -> None:
    shipped = (
        *BASICS,
        place(line(1, quantity=3), line(2, quantity=4)),
        receive(7),
        reserve(3),
        reserve(4, line_no=2),
        confirm((1, "A", 3), (2, "A", 4)),
        ship(),
        recall("A"),
    )
    decided = given(SUPPLY, *shipped).when(send_back((1, "A", 3), (2, "A", 4)))
    back = [event for _, event in decided.events if isinstance(event, StockReturned)]
    assert [event.quarantined_now for event in back] == [3, 7]
    assert decided.state(STOCK).lot("A").quarantined == 7


def test_a_return_that_the_stock_cannot_count_is_refused() -> None:
    full = (*SHIPPED, receive(INTEGER_MAX - 20, "Z", LATE))
    given(SUPPLY, *full).when(SEND_BACK).then_refused(QuantityOverflow)


# -- reallocate


def reallocated(*pairs: tuple[str | None, int], reserved: int, short: int) -> tuple[ReallocatedLine, ...]:
    return (ReallocatedLine(line_no=1, lots=lots(*pairs), reserved=reserved, short=short),)


def test_an_order_that_has_all_it_was_promised_is_left_as_it_is() -> None:
    given(SUPPLY, *CONFIRMED).when(REALLOCATE).then_nothing()
    given(SUPPLY, *BASICS, place()).when(REALLOCATE).then_nothing()
    given(SUPPLY, *SHIPPED).when(REALLOCATE).then_nothing()


def test_an_order_that_lost_units_is_filled_from_other_lots() -> None:
    lost = given(SUPPLY, *CONFIRMED, receive(50, "B", LATE), quarantine())
    lost.when(REALLOCATE).then(
        OrderReallocated(
            lines=reallocated(("B", 10), reserved=10, short=0), status="confirmed", **facts("confirmed")
        ),
        (STOCK, StockReserved(order_id="O1", line_no=1, lots=lots(("B", 10)))),
    ).when(REALLOCATE).then_nothing()


def test_what_cannot_be_had_is_short() -> None:
    given(SUPPLY, *CONFIRMED, receive(3, "B", LATE), quarantine()).when(REALLOCATE).then(
        OrderReallocated(
            lines=reallocated(("B", 3), reserved=3, short=7),
            status="confirmed",
            removed=(removed(7),),
            **facts("confirmed"),
        ),
        (STOCK, StockReserved(order_id="O1", line_no=1, lots=lots(("B", 3)))),
    )


def test_lots_that_were_shipped_before_stay_on_the_line() -> None:
    partly = given(SUPPLY, *TWO_LOTS, receive(9, "C", LATE), ship("SH1", (1, 4)), quarantine())
    decided = partly.when(REALLOCATE)
    assert decided.only(OrderReallocated).lines == reallocated(("A", 4), ("B", 6), reserved=10, short=0)


def test_an_order_with_nothing_left_to_ship_is_shipped_or_delivered() -> None:
    placed = (*BASICS, place(customer_reference="PO 7/2026"), receive(10), reserve(10), confirm((1, "A", 10)))
    partly = (*placed, ship("SH1", (1, 4)))
    assert given(SUPPLY, *partly, quarantine()).when(REALLOCATE).only(OrderReallocated).status == "shipped"
    delivered = given(SUPPLY, *partly, deliver(), quarantine()).when(REALLOCATE)
    assert delivered.only(OrderReallocated).status == "delivered"
    assert delivered.state(REFERENCE).order_id is None


def test_an_order_that_lost_everything_stays_confirmed_with_all_of_it_short() -> None:
    event = given(SUPPLY, *CONFIRMED, quarantine()).when(REALLOCATE).only(OrderReallocated)
    assert (event.status, event.lines) == ("confirmed", reallocated(reserved=0, short=10))


def test_only_the_lines_named_are_filled_anew() -> None:
    confirmed = (
        *BASICS,
        place(line(1, quantity=3), line(2, quantity=4)),
        receive(10),
        reserve(3),
        reserve(4, line_no=2),
        confirm((1, "A", 3), (2, "A", 4)),
        receive(5, "B", LATE),
        quarantine(),
    )
    only = ReallocateOrder(order_id="O1", lines=(2,))
    event = given(SUPPLY, *confirmed).when(only).only(OrderReallocated)
    assert [(part.line_no, part.reserved) for part in event.lines] == [(2, 4)]
    both = given(SUPPLY, *confirmed).when(REALLOCATE).only(OrderReallocated)
    assert [(part.line_no, part.reserved, part.short) for part in both.lines] == [(1, 3, 0), (2, 2, 2)]


def test_an_order_is_not_filled_from_recalled_lots() -> None:
    event = (
        given(SUPPLY, *CONFIRMED, receive(50, "B", LATE), recall("A", "B"), quarantine())
        .when(REALLOCATE)
        .only(OrderReallocated)
    )
    assert event.lines == reallocated(reserved=0, short=10)


def test_expired_units_are_replaced_too() -> None:
    expired = given(SUPPLY, *CONFIRMED, receive(50, "B", LATE))
    expired.when(EXPIRE, now=EARLY_ENDS).then_accepted()
    assert expired.when(REALLOCATE).only(StockReserved).lots == lots(("B", 10))


# -- recalls


def test_an_order_knows_which_recalled_lots_its_customer_was_sent() -> None:
    mark = MarkOrderRecalled(order_id="O1", recall_id="R1", lines=line_lots((1, "A", 10)))
    (
        given(SUPPLY, *SHIPPED)
        .when(mark)
        .then(OrderRecalled(recall_id="R1", customer_id="C1", lines=line_lots((1, "A", 10))))
        .when(mark)
        .then_nothing()
    )


def test_further_lots_of_a_recall_are_marked_alone() -> None:
    shipped = given(SUPPLY, *TWO_LOTS, ship())
    shipped.when(
        MarkOrderRecalled(order_id="O1", recall_id="R1", lines=line_lots((1, "A", 6)))
    ).then_accepted()
    both = MarkOrderRecalled(order_id="O1", recall_id="R1", lines=line_lots((1, "A", 6), (1, "B", 4)))
    shipped.when(both).then(OrderRecalled(recall_id="R1", customer_id="C1", lines=line_lots((1, "B", 4))))


def test_what_was_not_shipped_is_not_marked() -> None:
    mark = MarkOrderRecalled(order_id="O1", recall_id="R1", lines=line_lots((1, "A", 11)))
    given(SUPPLY, *SHIPPED).when(mark).then_refused(
        ExceedsShipped, lines=[{"line_no": 1, "lot": "A", "requested": 11, "shipped": 10}]
    )


def test_a_transferred_lot_ships_from_where_it_went() -> None:
    moved = TransferStock(site_id="S1", to_site_id="S2", item_id="I1", lot="A", quantity=4)
    given(SUPPLY, *BASICS, receive(10), moved).when(reserve(7)).then_refused(InsufficientStock, available=6)
