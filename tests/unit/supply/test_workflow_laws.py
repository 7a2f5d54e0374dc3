"""
What the workflows together bring about, whatever people do meanwhile and however often the process dies.
"""

import asyncio
from collections import Counter
from functools import cache

from hypothesis import example, given, settings
from hypothesis import strategies as st

from command_api.supply.approval_deadline import Approval
from command_api.supply.distribution import DistributionState
from command_api.supply.order_state import OrderState
from command_api.supply.stock_state import StockState
from infra.domains import load_domains, load_registry
from infra.testing.log import TENANT
from schemas.registry import Registry
from schemas.supply.approvals import (
    ApprovalEscalated,
    ApprovalEscalation,
    ApprovalLapsed,
    ApprovalNeeded,
    ApprovalReminded,
    ApprovalReminder,
)
from schemas.supply.orders import ApproveOrder, OrderApprovalRequested, OrderRecalled
from schemas.supply.recalls import RecallIssued
from schemas.supply.stock import StockShipped
from tests.unit.supply.ledger import Ledger
from tests.unit.supply.office import Office

TURNS = 180
TOLD = {
    OrderApprovalRequested: ApprovalNeeded,
    ApprovalReminded: ApprovalReminder,
    ApprovalEscalated: ApprovalEscalation,
}
seeds = st.integers(0, 2**32)


@cache
def registry() -> Registry:
    return load_registry(load_domains(("supply",)))


def at_rest(seed: int) -> Office:
    """Return an office at the end of a story, with everything taken up."""

    async def tell() -> Office:
        office = Office(seed, registry())
        for _ in range(TURNS):
            await office.turn()
        await office.settle()
        return office

    return asyncio.run(tell())


def orders(office: Office) -> dict[str, OrderState]:
    states = office.story.log.states.items()
    return {stream: state for stream, state in states if isinstance(state, OrderState) and state.status}


def stocks(office: Office) -> dict[str, StockState]:
    return {
        stream: state for stream, state in office.story.log.states.items() if isinstance(state, StockState)
    }


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_every_order_is_settled_or_waits_for_somebody(seed: int) -> None:
    office = at_rest(seed)
    assert "placed" not in {order.status for order in orders(office).values()}
    for stream, order in orders(office).items():
        if order.status == "awaiting-approval":
            office.story.carry_out(ApproveOrder(order_id=stream.split("/")[1]))
    asyncio.run(office.settle())
    assert {"placed", "awaiting-approval"}.isdisjoint({order.status for order in orders(office).values()})


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_the_stock_holds_for_each_order_just_what_is_promised_and_not_shipped(seed: int) -> None:
    office = at_rest(seed)
    promised = {
        (f"stock/{order.site_id}/{line.item_id}", stream.split("/")[1], line_no): line.outstanding
        for stream, order in orders(office).items()
        if order.status in ("confirmed", "partially-shipped")
        for line_no, line in order.lines.items()
        if line.stocked and line.outstanding
    }
    held = {
        (stream, str(order_id), line_no): sum(units.values())
        for stream, stock in stocks(office).items()
        for order_id, lines in stock.reservations.items()
        for line_no, units in lines.items()
    }
    assert held == promised


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_the_domains_laws_hold_at_every_prefix(seed: int) -> None:
    ledger = Ledger()
    for recorded in at_rest(seed).story.log.events:
        ledger.add(recorded)


@settings(max_examples=40, deadline=None)
@given(seeds)
@example(211940)  # cleared and shipped before the workflow had come to the recall
def test_what_an_open_recall_holds_is_in_quarantine_everywhere_and_its_customers_are_known(seed: int) -> None:
    office = at_rest(seed)
    for stream, stock in stocks(office).items():
        distribution: DistributionState = office.story.log.state(f"distribution/{stream.split('/')[2]}")
        for label, lot in stock.lots.items():
            if distribution.holding_open(label):
                assert lot.quarantined == lot.on_hand, (stream, label)
    marked = {
        (recorded.stream, recorded.event.recall_id, part.line_no, part.lot)
        for recorded in office.story.log.events
        if isinstance(recorded.event, OrderRecalled)
        for part in recorded.event.lines
    }
    assert marked == brute_force_shipments(office)


def brute_force_shipments(office: Office) -> set[tuple[str, str, int, str | None]]:
    """Search the whole log: which order lines had been shipped lots of each recall when it was issued?"""
    shipped: set[tuple[str, str, int, str | None]] = set()
    found: set[tuple[str, str, int, str | None]] = set()
    for recorded in office.story.log.events:
        event = recorded.event
        if isinstance(event, StockShipped):
            item_id = recorded.stream.split("/")[2]
            shipped |= {(item_id, event.order_id, event.line_no, part.lot) for part in event.lots}
        if isinstance(event, RecallIssued):
            recall_id = recorded.stream.split("/")[1]
            found |= {
                (f"orders/{order_id}", recall_id, line_no, lot)
                for part in event.scope
                for item_id, order_id, line_no, lot in shipped
                if item_id == part.item_id and (part.lots is None or lot in part.lots)
            }
    return found


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_no_lot_outlives_its_last_day(seed: int) -> None:
    office = at_rest(seed)
    for stock in stocks(office).values():
        lots = [lot for _, lot in stock.lots.items()]
        assert all(
            lot.is_expired or not lot.usable_until or lot.usable_until > office.story.at for lot in lots
        )


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_people_are_told_of_each_order_that_waits_once_and_no_order_waits_for_ever(seed: int) -> None:
    office = at_rest(seed)
    (desk,) = [desk for desk in office.desks if isinstance(desk.workflow, Approval)]
    assert len({key for key, _ in desk.told}) == len(desk.told)
    told = Counter((type(notice), notice.model_dump()["order_id"]) for _, notice in desk.told)
    happened = Counter(
        (TOLD[type(recorded.event)], recorded.stream.split("/")[1])
        for recorded in office.story.log.events
        if type(recorded.event) in TOLD
    )
    assert {place: count for place, count in told.items() if place[0] is not ApprovalLapsed} == happened
    assert set(happened.values()) <= {1}
    for stream, order in orders(office).items():
        lapse = desk.timers.get((TENANT, f"{stream.split('/')[1]}/lapse"))
        assert (order.status == "awaiting-approval") == (lapse is not None)
        assert lapse is None or lapse.schedule.at > office.story.at


def test_the_stories_are_wild_enough() -> None:
    """Guards the tests above: the process does die, orders do end in every way."""
    offices = [at_rest(seed) for seed in range(20)]
    assert sum(office.crashes for office in offices) > 50
    ends = {order.status for office in offices for order in orders(office).values()}
    assert ends >= {"confirmed", "rejected", "cancelled", "shipped", "delivered", "awaiting-approval"}
    types = {recorded.event.type for office in offices for recorded in office.story.log.events}
    assert types >= {"ApprovalReminded", "ApprovalEscalated"}
    assert types >= {"OrderReallocated", "OrderRecalled", "LotExpired", "StockUnreserved", "OrderApproved"}
