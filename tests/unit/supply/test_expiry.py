"""Expiry: the timer that each arrival of a dated lot sets, and what follows when the lot's day is over."""

from command_api.supply.expiry import Expiry
from command_api.workflow import Schedule
from infra.testing import given
from schemas.supply.orders import ReallocateOrder
from schemas.supply.quantities import Released
from schemas.supply.stock import ExpireLot, LotExpired, StockReceived, StockReturned, StockTransferredIn
from tests.unit.supply.words import EARLY, EARLY_ENDS, STOCK, SUPPLY

EXPIRE = ExpireLot(site_id="S1", item_id="I1", lot="A")
TIMER = Schedule("S1/I1/A", EARLY_ENDS, EXPIRE)
DATED = {"lot": "A", "quantity": 5, "expires_on": EARLY, "usable_until": EARLY_ENDS}


def test_a_received_lot_expires_at_the_end_of_its_last_day_at_the_site() -> None:
    given(Expiry).when(STOCK, StockReceived(**DATED)).then(TIMER)


def test_a_lot_that_comes_from_elsewhere_or_back_sets_the_same_timer() -> None:
    given(Expiry).when(STOCK, StockTransferredIn(from_site_id="S2", **DATED)).then(TIMER)
    returned = StockReturned(order_id="O1", customer_id="C1", return_id="RT1", line_no=1, **DATED)
    given(Expiry).when(STOCK, returned).then(TIMER)


def test_a_lot_without_a_date_sets_none() -> None:
    given(Expiry).when(STOCK, StockReceived(lot="A", quantity=5)).then_nothing()


def test_orders_that_lose_units_to_expiry_are_filled_anew_once_each() -> None:
    expired = LotExpired(
        lot="A",
        reserved=6,
        released=(
            Released(order_id="O2", line_no=2, quantity=1),
            Released(order_id="O1", line_no=1, quantity=2),
            Released(order_id="O2", line_no=1, quantity=3),
        ),
    )
    given(Expiry).when(STOCK, expired).then(
        ReallocateOrder(order_id="O2", lines=(1, 2)), ReallocateOrder(order_id="O1", lines=(1,))
    )


def test_a_lot_that_expires_unreserved_concerns_no_order() -> None:
    given(Expiry, rules=SUPPLY).when(STOCK, LotExpired(lot="A", available=5)).then_nothing()
