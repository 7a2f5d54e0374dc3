"""The order funnel: an order counts once for each stage that it ever reached, and once for the status it has."""

from typing import Any

from infra.testing import given
from infra.testing.rows import GivenRows
from projectors.supply.order_funnel import Funnel, OrderFunnel
from schemas.supply.orders import (
    ApproveOrder,
    CancelOrder,
    DeclineOrder,
    DeliverOrder,
    OrderReallocated,
    RejectOrder,
    RequestApproval,
    ReturnOrder,
)
from tests.unit.supply.words import BASICS, CONFIRMED, ORDER, SHIPPED, SUPPLY, line_lots, place, ship

DELIVER = DeliverOrder(order_id="O1", shipment_id="SH1")


def funnel(*facts: Any) -> GivenRows:
    return given(OrderFunnel, *facts, rules=SUPPLY)


def statuses(rows: GivenRows) -> dict[str, int]:
    return {
        key[0]: row.orders
        for (table, key), row in rows.rows.items()
        if table == "statuses" and row is not None
    }


def test_orders_are_counted_as_they_are_placed() -> None:
    rows = funnel(*BASICS, place(), place(order_id="O2"))
    assert rows.row() == Funnel(placed=2)
    assert statuses(rows) == {"placed": 2}


def test_an_order_reaches_stage_after_stage() -> None:
    rows = funnel(*SHIPPED, DELIVER)
    assert rows.row() == Funnel(placed=1, confirmed=1, shipped=1, delivered=1)
    assert statuses(rows) == {"delivered": 1}


def test_it_is_shipped_when_nothing_is_left_to_ship() -> None:
    rows = funnel(*CONFIRMED, ship("SH1", (1, 4)))
    assert (rows.row().shipped, statuses(rows)) == (0, {"partially-shipped": 1})
    rows.when(DELIVER)
    assert (rows.row().delivered, statuses(rows)) == (0, {"partially-shipped": 1})
    rows.when(ship("SH2"))
    assert (rows.row().shipped, statuses(rows)) == (1, {"shipped": 1})
    rows.when(DeliverOrder(order_id="O1", shipment_id="SH2"))
    assert (rows.row(), statuses(rows)) == (
        Funnel(placed=1, confirmed=1, shipped=1, delivered=1),
        {"delivered": 1},
    )


def test_it_is_shipped_and_delivered_when_the_rest_becomes_short() -> None:
    rows = funnel(*CONFIRMED, ship("SH1", (1, 4)), DELIVER)
    event = OrderReallocated(
        customer_id="C1",
        site_id="S1",
        ordered_at="2026-01-15T12:00:00Z",
        currency="EUR",
        status_before="partially-shipped",
        lines=(),
        status="delivered",
    )
    rows.when((ORDER, event))
    assert (rows.row().shipped, rows.row().delivered) == (1, 1)
    assert statuses(rows) == {"delivered": 1}


def test_returns_of_one_order_count_once() -> None:
    first = ReturnOrder(order_id="O1", return_id="RT1", lines=line_lots((1, "A", 4)))
    second = ReturnOrder(order_id="O1", return_id="RT2", lines=line_lots((1, "A", 1)))
    assert funnel(*SHIPPED, first, second).row().returned == 1


def test_an_order_is_rejected_or_cancelled_from_wherever_it_was() -> None:
    waiting = (*BASICS, place(), RequestApproval(order_id="O1"))
    assert statuses(funnel(*waiting)) == {"awaiting-approval": 1}
    assert statuses(funnel(*waiting, ApproveOrder(order_id="O1"))) == {"placed": 1}
    declined = funnel(*waiting, DeclineOrder(order_id="O1"))
    assert (declined.row(), statuses(declined)) == (Funnel(placed=1, rejected=1), {"rejected": 1})
    rejected = funnel(*BASICS, place(), RejectOrder(order_id="O1", rule="insufficient-stock"))
    assert statuses(rejected) == {"rejected": 1}
    cancelled = funnel(*CONFIRMED, CancelOrder(order_id="O1"))
    assert (cancelled.row(), statuses(cancelled)) == (
        Funnel(placed=1, confirmed=1, cancelled=1),
        {"cancelled": 1},
    )
