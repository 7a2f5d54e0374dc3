"""Reservations: first expiry first out, then first received; all or a part; once."""

from datetime import timedelta

from infra.testing import given
from schemas.supply.quantities import LineLots
from schemas.supply.rejections import AlreadyReserved, InsufficientStock
from schemas.supply.stock import StockReserved, StockUnreserved, UnreserveStock
from tests.unit.supply.words import (
    BASICS,
    EARLY,
    EARLY_ENDS,
    EXPIRE,
    LATE,
    SEND_BACK,
    SHIPPED,
    STOCK,
    SUPPLY,
    lots,
    quarantine,
    recall,
    receive,
    reserve,
)

UNRESERVE = UnreserveStock(site_id="S1", item_id="I1", order_id="O1")


def reserved(*pairs: tuple[str | None, int], line_no: int = 1, order_id: str = "O1") -> StockReserved:
    return StockReserved(order_id=order_id, line_no=line_no, lots=lots(*pairs))


def test_the_lot_that_expires_first_goes_first() -> None:
    given(SUPPLY, *BASICS, receive(5, "LATE", LATE), receive(5, "EARLY", EARLY)).when(reserve(7)).then(
        reserved(("EARLY", 5), ("LATE", 2))
    )


def test_of_two_lots_with_one_date_the_first_received_goes_first() -> None:
    given(SUPPLY, *BASICS, receive(5, "Z"), receive(5, "A")).when(reserve(7)).then(
        reserved(("Z", 5), ("A", 2))
    )


def test_a_reservation_looks_past_lots_that_are_reserved_up() -> None:
    given(SUPPLY, *BASICS, receive(5, "A"), receive(5, "B", LATE), reserve(5, "O9")).when(reserve(5)).then(
        reserved(("B", 5))
    )


def test_quarantined_recalled_and_expired_lots_are_not_reserved() -> None:
    stocked = (*BASICS, receive(5, "A"), receive(5, "B", LATE))
    given(SUPPLY, *stocked, quarantine("A")).when(reserve(5)).then(reserved(("B", 5)))
    given(SUPPLY, *stocked, recall("A")).when(reserve(5)).then(reserved(("B", 5)))
    expired = given(SUPPLY, *stocked)
    expired.when(EXPIRE, now=EARLY_ENDS).then_accepted()
    expired.when(reserve(5)).then(reserved(("B", 5)))


def test_a_lot_is_usable_through_its_last_day_at_the_site_as_the_business_saw_it() -> None:
    stocked = (*BASICS, receive(5, "A"), receive(5, "B", LATE))
    last_moment = EARLY_ENDS - timedelta(microseconds=1)
    given(SUPPLY, *stocked).when(reserve(5), occurred_at=last_moment).then(reserved(("A", 5)))
    given(SUPPLY, *stocked).when(reserve(5), occurred_at=EARLY_ENDS).then(reserved(("B", 5)))
    given(SUPPLY, *stocked).when(reserve(5), now=EARLY_ENDS, occurred_at=last_moment).then(reserved(("A", 5)))


def test_returned_units_are_not_reserved_but_the_rest_of_their_lot_is() -> None:
    given(SUPPLY, *SHIPPED, SEND_BACK).when(reserve(21, "O2")).then_refused(
        InsufficientStock, requested=21, available=20
    )


def test_too_little_is_refused_with_what_there_is() -> None:
    given(SUPPLY, *BASICS, receive(5)).when(reserve(6, line_no=3)).then_refused(
        InsufficientStock,
        requested=6,
        available=5,
        lines=[{"line_no": 3, "requested": 6, "available": 5}],
    )
    given(SUPPLY).when(reserve(6)).then_refused(InsufficientStock, available=0)


def test_a_part_is_reserved_where_a_part_will_do() -> None:
    some = given(SUPPLY, *BASICS, receive(5))
    some.when(reserve(6, partial=True)).then(reserved(("A", 5)))
    some.when(reserve(6, partial=True)).then_nothing()
    some.when(reserve(6, "O2", partial=True)).then_refused(InsufficientStock, requested=6, available=0)


def test_reserving_what_is_reserved_changes_nothing() -> None:
    given(SUPPLY, *BASICS, receive(5), reserve(3)).when(reserve(3)).then_nothing()


def test_another_quantity_for_the_same_line_is_refused() -> None:
    given(SUPPLY, *BASICS, receive(5), reserve(3)).when(reserve(4)).then_refused(
        AlreadyReserved, order_id="O1", line_no=1, requested=4, reserved=3
    )
    given(SUPPLY, *BASICS, receive(5), reserve(3)).when(reserve(2, partial=True)).then_refused(
        AlreadyReserved
    )


def test_a_reservation_is_topped_up_to_a_quantity() -> None:
    given(SUPPLY, *BASICS, receive(5), receive(9, "B", LATE), reserve(3)).when(reserve(8, top_up=True)).then(
        reserved(("A", 2), ("B", 3))
    )
    given(SUPPLY, *BASICS, receive(5), reserve(3)).when(reserve(3, top_up=True)).then_nothing()
    given(SUPPLY, *BASICS, receive(5), reserve(3)).when(reserve(2, top_up=True)).then_nothing()


def test_lines_of_one_order_and_orders_of_one_item_reserve_side_by_side() -> None:
    (
        given(SUPPLY, *BASICS, receive(50))
        .when(reserve(10))
        .then(reserved(("A", 10)))
        .when(reserve(20, line_no=2))
        .then(reserved(("A", 20), line_no=2))
        .when(reserve(20, "O2"))
        .then(reserved(("A", 20), order_id="O2"))
        .when(reserve(1, "O3"))
        .then_refused(InsufficientStock, requested=1, available=0)
    )


def test_giving_back_frees_all_lines_of_an_order() -> None:
    given_back = given(SUPPLY, *BASICS, receive(5), receive(5, "B", LATE), reserve(7), reserve(1, line_no=2))
    given_back.when(reserve(1, "O2")).then_accepted()
    given_back.when(UNRESERVE).then(
        StockUnreserved(
            order_id="O1",
            lines=(
                LineLots(line_no=1, lots=lots(("A", 5), ("B", 2))),
                LineLots(line_no=2, lots=lots(("B", 1))),
            ),
        )
    )
    state = given_back.log.state(STOCK)
    assert {label: lot.reserved for label, lot in state.lots.items()} == {"A": 0, "B": 1}
    assert [order for order, _ in state.reservations.items()] == ["O2"]


def test_giving_back_nothing_changes_nothing() -> None:
    given(SUPPLY, *BASICS, receive(5)).when(UNRESERVE).then_nothing()
