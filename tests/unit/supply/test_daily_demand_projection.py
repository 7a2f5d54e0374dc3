"""Daily demand: what was ordered counts on its own day, and so does what is taken off later."""

from typing import Any

from infra.testing import given
from infra.testing.rows import GivenRows
from projectors.supply.daily_demand import DailyDemand, Demand
from schemas.messages import Money
from schemas.supply.orders import (
    CancelOrder,
    ConfirmOrder,
    LineToPlace,
    OrderReallocated,
    RejectOrder,
    ReturnOrder,
)
from schemas.supply.quantities import Removed
from tests.unit.supply.words import (
    BASICS,
    CONFIRMED,
    ORDER,
    SHIPPED,
    SUPPLY,
    line,
    line_lots,
    place,
    receive,
    reserve,
)

DAY = "2026-01-15"
TWO_ITEMS = place(line(1, quantity=10), line(2, "I2", quantity=3, price=50), line(3, quantity=1))


def demand(*facts: Any) -> GivenRows:
    return given(DailyDemand, *facts, rules=SUPPLY)


def net(*facts: Any, item_id: str = "") -> int:
    row: Demand = demand(*facts).row(DAY, "EUR", "S1", item_id)
    return row.net


def test_an_order_counts_once_in_all_and_once_for_each_item() -> None:
    rows = demand(*BASICS, TWO_ITEMS)
    rows.then_row(DAY, "EUR", "S1", "", orders=1, units=14, placed=1_250, net=1_250)
    rows.then_row(DAY, "EUR", "S1", "I1", orders=1, units=11, placed=1_100, net=1_100)
    rows.then_row(DAY, "EUR", "S1", "I2", orders=1, units=3, placed=150, net=150)


def test_orders_of_one_day_add_up() -> None:
    rows = demand(*BASICS, TWO_ITEMS, place(order_id="O2"))
    rows.then_row(DAY, "EUR", "S1", "", orders=2, units=24, placed=2_250, net=2_250)


def test_the_day_is_that_of_ordered_at_in_utc() -> None:
    rows = demand(*BASICS, place(ordered_at="2025-12-31T23:30:00-01:00"))
    rows.then_row("2026-01-01", "EUR", "S1", "", orders=1)


def test_each_currency_has_its_own_row() -> None:
    dollars = LineToPlace(line_no=1, item_id="I1", quantity=1, unit_price=Money(amount=5, currency="USD"))
    rows = demand(*BASICS, place(), place(dollars, order_id="O2"))
    rows.then_row(DAY, "EUR", "S1", "", placed=1_000).then_row(DAY, "USD", "S1", "", placed=5)


def test_a_rejected_order_is_still_placed_and_has_no_net() -> None:
    rows = demand(*BASICS, TWO_ITEMS, RejectOrder(order_id="O1", rule="insufficient-stock"))
    rows.then_row(DAY, "EUR", "S1", "", orders=1, placed=1_250, net=0)
    rows.then_row(DAY, "EUR", "S1", "I2", orders=1, placed=150, net=0)


def test_a_cancelled_order_has_no_net() -> None:
    assert net(*CONFIRMED, CancelOrder(order_id="O1")) == 0


def test_what_is_short_is_taken_off() -> None:
    facts = (*BASICS, receive(4), place(fulfilment="partial"), reserve(10, partial=True))
    confirmed = ConfirmOrder(order_id="O1", allocations=line_lots((1, "A", 4)))
    assert net(*facts, confirmed) == 400
    assert net(*facts, confirmed, CancelOrder(order_id="O1")) == 0


def test_what_becomes_short_later_is_taken_off_then() -> None:
    event = OrderReallocated(
        customer_id="C1",
        site_id="S1",
        ordered_at="2026-01-15T12:00:00Z",
        currency="EUR",
        status_before="confirmed",
        removed=(Removed(line_no=1, item_id="I1", quantity=3, amount=300),),
        lines=(),
        status="confirmed",
    )
    assert net(*CONFIRMED, (ORDER, event)) == net(*CONFIRMED, (ORDER, event), item_id="I1") == 700


def test_what_comes_back_is_taken_off() -> None:
    assert net(*SHIPPED, ReturnOrder(order_id="O1", return_id="RT1", lines=line_lots((1, "A", 4)))) == 600


def test_sums_may_grow_beyond_64_bits() -> None:
    huge = Demand(1, 2**70, 2**80, 2**80)
    assert Demand.decode(huge.encode()) == huge
