"""Supply's workflows on a real log, from a command of a client to the last event that follows. Fault row F43."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from signal import SIGKILL
from typing import Any

import pytest

from schemas.supply.items import Tracking
from schemas.supply.orders import (
    ApproveOrder,
    CancelOrder,
    OrderCancelled,
    OrderConfirmed,
    OrderPlaced,
    OrderReallocated,
    OrderRecalled,
    OrderRejected,
    ShipOrder,
)
from schemas.supply.quantities import LineQuantity
from schemas.supply.recalls import IssueRecall, RecalledItem
from schemas.supply.stock import (
    LotExpired,
    StockQuarantined,
    StockReserved,
    StockUnreserved,
    TransferStock,
)
from tests.integration.supply.shop import OTHER_SITE, SITE, WORKFLOWS, item, place, receive
from tests.integration.workflows.world import World, open_world, run_until_dead

TIMEOUT = "EVERFOLD_CONFIRM_TIMEOUT_SECONDS"
LIMIT = "EVERFOLD_APPROVAL_LIMIT"
WAITING = 1_000
LOTS = Tracking(lot=True, expiry=True)


@pytest.fixture
async def world(store_url: str) -> AsyncIterator[World]:
    async with open_world(store_url, domains="supply") as opened:
        await opened.send(SITE, OTHER_SITE, item("I1"), item("I2"), item("MASK", tracking=LOTS))
        yield opened


async def settle(world: World) -> None:
    await world.until_caught_up(*WORKFLOWS)


async def test_a_thousand_orders_that_waited_longer_than_the_time_out_are_all_confirmed(world: World) -> None:
    """No order is cancelled by lateness of ours: the time runs from when an order is taken up."""
    await world.send(receive("I1", 3 * WAITING), receive("I2", WAITING))
    async with world.workflows(**{TIMEOUT: "1"}):
        await settle(world)
    await world.send(*[place(f"O{number}", {"I1": 3, "I2": 1}) for number in range(WAITING)])
    await asyncio.sleep(2.5)
    async with world.workflows(**{TIMEOUT: "1"}):
        await settle(world)
        await asyncio.sleep(1.5)
    counts = [await world.count(kind) for kind in (OrderConfirmed, OrderCancelled, OrderRejected)]
    assert counts == [WAITING, 0, 0]
    assert (
        await world.fetch("SELECT count(*) FROM everfold.scheduled_commands WHERE workflow = 'fulfilment'")
        == 0
    )


async def test_orders_approved_while_nobody_ran_are_confirmed_however_long_ago_that_was(world: World) -> None:
    await world.send(receive("I1", 100))
    variables = {TIMEOUT: "1", LIMIT: "other=1,demo=500"}
    await world.send(place("SMALL", {"I1": 5}), *[place(f"O{number}", {"I1": 6}) for number in range(10)])
    async with world.workflows(**variables):
        await settle(world)
    assert await world.count(OrderConfirmed) == 1
    await world.send(*[ApproveOrder(order_id=f"O{number}") for number in range(10)])
    await asyncio.sleep(1.5)
    async with world.workflows(**variables):
        await settle(world)
    assert await world.count(OrderConfirmed) == 11
    assert await world.count(OrderCancelled) == 0


@pytest.mark.parametrize(
    "failpoint", ["workflow.before_send", "workflow.after_send", "workflow.before_commit"]
)
async def test_orders_are_settled_once_though_the_process_is_killed_in_the_middle(
    world: World, failpoint: str
) -> None:
    """Some find what they want, some a part of it, some nothing; stock that comes in later changes no answer."""
    await world.send(receive("I1", 45))
    orders = [place(f"O{number:02}", {"I1": 4, "I2": 1}, fulfilment="partial") for number in range(15)]
    orders.append(place("P1", {"I2": 5}))
    await world.send(*orders)
    assert await run_until_dead(world, f"{failpoint}=kill@2") == -SIGKILL
    await world.send(receive("I2", 1_000))
    async with world.workflows():
        await settle(world)
    placed, confirmed = await world.count(OrderPlaced), await world.events(OrderConfirmed)
    assert len(confirmed) + await world.count(OrderRejected) == placed
    assert await world.count(StockReserved) == sum(
        len({a.line_no for a in event.allocations}) for event in confirmed
    )
    promised = sum(allocation.quantity for event in confirmed for allocation in event.allocations)
    reserved = sum(part.quantity for event in await world.events(StockReserved) for part in event.lots)
    given_back = sum(
        part.quantity
        for event in await world.events(StockUnreserved)
        for line in event.lines
        for part in line.lots
    )
    assert reserved - given_back == promised


async def test_a_cancelled_order_gives_its_units_to_the_next(world: World) -> None:
    await world.send(receive("I1", 5), place("O1", {"I1": 5}))
    async with world.workflows():
        await settle(world)
        await world.send(CancelOrder(order_id="O1"))
        await settle(world)
        await world.send(place("O2", {"I1": 5}))
        await settle(world)
    assert await world.count(OrderConfirmed) == 2


async def test_a_recall_reaches_stock_reservations_and_customers_at_every_site(world: World) -> None:
    far = datetime.now(UTC).date() + timedelta(days=400)
    mask: dict[str, Any] = {"lot": "BAD", "expires_on": far}
    await world.send(
        receive("MASK", 30, **mask),
        TransferStock(site_id="S1", to_site_id="S2", item_id="MASK", lot="BAD", quantity=10),
        place("SENT", {"MASK": 5}),
        place("HELD", {"MASK": 8}),
        place("SHORT", {"MASK": 4}),
    )
    async with world.workflows():
        await settle(world)
        await world.send(
            ShipOrder(order_id="SENT", shipment_id="SH1", lines=(LineQuantity(line_no=1, quantity=2),)),
            receive("MASK", 9, lot="GOOD", expires_on=far + timedelta(days=1)),
        )
        await world.send(
            IssueRecall(
                recall_id="R1", recall_class="I", scope=(RecalledItem(item_id="MASK", lots=("BAD",)),)
            )
        )
        await settle(world)
        await world.send(receive("MASK", 7, **mask))
        await settle(world)
    quarantined = {event.stream for event in await world.recorded(StockQuarantined)}
    assert quarantined == {"stock/S1/MASK", "stock/S2/MASK"}
    (marked,) = await world.events(OrderRecalled)
    assert [(part.lot, part.quantity) for part in marked.lines] == [("BAD", 2)]
    refilled = {
        event.stream: decoded.lines[0]
        for event, decoded in zip(
            await world.recorded(OrderReallocated), await world.events(OrderReallocated), strict=True
        )
    }
    assert set(refilled) == {"orders/SENT", "orders/HELD", "orders/SHORT"}
    assert sum(line.short for line in refilled.values()) == 3 + 8 + 4 - 9
    stock = await stock_figures(world)
    assert stock["BAD"] == (28 - 10 + 7, 0, 28 - 10 + 7)
    assert stock["GOOD"] == (9, 9, 0)


async def stock_figures(world: World) -> dict[str, tuple[int, int, int]]:
    """Fold the stock at S1: on hand, reserved, quarantined by lot."""
    from command_api.supply.stock_state import StockState, evolve

    state = StockState()
    async for event in world.log.read_stream("demo", "stock/S1/MASK"):
        for decoded in world.registry.decode(event.type, event.schema_version, event.data):
            state = evolve(state, decoded)
    return {str(label): (lot.on_hand, lot.reserved, lot.quarantined) for label, lot in state.lots.items()}


async def test_a_lot_expires_when_its_day_is_over_and_orders_are_filled_from_another(world: World) -> None:
    today = datetime.now(UTC).date()
    await world.send(
        receive("MASK", 10, lot="OLD", expires_on=today + timedelta(days=2)), place("O1", {"MASK": 6})
    )
    async with world.workflows():
        await settle(world)
        assert await world.count(OrderConfirmed) == 1
        assert await world.count(LotExpired) == 0
        await world.send(receive("MASK", 4, lot="NEW", expires_on=today + timedelta(days=300)))
        await settle(world)
        await world.pool.execute(
            "UPDATE everfold.scheduled_commands SET try_at = clock_timestamp() WHERE key = 'S1/MASK/OLD'"
        )
        await world.until(lambda: _has(world, OrderReallocated))
    (expired,) = await world.events(LotExpired)
    assert (expired.available, expired.reserved) == (4, 6)
    (refilled,) = await world.events(OrderReallocated)
    assert [(part.lot, part.quantity) for part in refilled.lines[0].lots] == [("NEW", 4)]
    assert refilled.lines[0].short == 2


async def _has(world: World, kind: type[OrderReallocated]) -> bool:
    return await world.count(kind) > 0


async def test_a_lot_received_after_its_day_expires_at_once_and_a_backdated_one_in_its_turn(
    world: World,
) -> None:
    """An import of old receipts: what is due long ago is due now, once for each lot."""
    past = datetime.now(UTC) - timedelta(days=900)
    await world.send(
        *[receive("MASK", 1, lot=f"L{number}", expires_on=past.date()) for number in range(5)],
        receive("MASK", 1, lot="L0", expires_on=past.date()),
        occurred_at=past - timedelta(days=10),
    )
    async with world.workflows():
        await settle(world)
        await world.until(lambda: _five(world))
        await settle(world)
    assert await world.count(LotExpired) == 5
    assert await world.fetch("SELECT count(*) FROM everfold.scheduled_commands") == 0


async def _five(world: World) -> bool:
    return await world.count(LotExpired) >= 5


async def test_two_processes_settle_the_orders_of_many_tenants_once(world: World) -> None:
    tenants = [f"clinic-{number}" for number in range(8)]
    async with world.workflows(), world.workflows():
        for tenant in tenants:
            await world.send(SITE, item("I1"), receive("I1", 40), tenant=tenant)
            await world.send(*[place(f"O{number}", {"I1": 2}) for number in range(30)], tenant=tenant)
        for tenant in tenants:
            await world.until_caught_up(*WORKFLOWS, tenant=tenant)
    for tenant in tenants:
        counts = [
            await world.count(kind, tenant=tenant) for kind in (OrderConfirmed, OrderRejected, StockReserved)
        ]
        assert counts == [20, 10, 20]
