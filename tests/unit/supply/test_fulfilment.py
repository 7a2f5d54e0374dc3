"""Fulfilment: what follows from an order being placed, approved, cancelled."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from command_api.supply.approval import ApprovalLimits
from command_api.supply.fulfilment import TIMEOUT_SECONDS, Fulfilment
from command_api.workflow import Read, Schedule, Send, Unschedule
from infra.testing import NOON, GivenWorkflow, given
from infra.testing.reactions import TriggerAt
from schemas import Command, Event
from schemas.errors import BadDefinition
from schemas.messages import Money
from schemas.supply.orders import (
    CancelOrder,
    ConfirmOrder,
    OrderApproved,
    OrderCancelled,
    OrderConfirmed,
    OrderPlaced,
    OrderRejected,
    PlacedLine,
    RejectOrder,
    RequestApproval,
    TimeOutOrder,
)
from schemas.supply.quantities import LineQuantity, LineShortage
from schemas.supply.rejections import AlreadyReserved, InsufficientStock
from schemas.supply.stock import ReserveStock, StockReserved, UnreserveStock
from tests.unit.supply.words import (
    BASICS,
    LATE,
    ORDER,
    STOCK,
    SUPPLY,
    line_lots,
    lots,
    quarantine,
    receive,
    reserve,
)

TIMER = Schedule("O1", NOON + timedelta(seconds=TIMEOUT_SECONDS), TimeOutOrder(order_id="O1"))
SETTLED = Unschedule("O1")


def placed(*lines: tuple[int, str, int], fulfilment: Any = "complete", price: int = 100) -> OrderPlaced:
    return OrderPlaced(
        customer_id="C1",
        site_id="S1",
        lines=tuple(
            PlacedLine(
                line_no=line_no,
                item_id=item_id,
                quantity=quantity,
                unit_price=Money(amount=price, currency="EUR"),
                stocked=item_id != "FREIGHT",
            )
            for line_no, item_id, quantity in lines
        ),
        fulfilment=fulfilment,
        ordered_at=NOON,
        total=Money(amount=sum(quantity * price for _, _, quantity in lines), currency="EUR"),
    )


def stocked(*facts: Any, workflow: Fulfilment | None = None) -> GivenWorkflow:
    """The workflow beside the real rules, with sites and items."""
    return given(workflow or Fulfilment(), *BASICS, *facts, rules=SUPPLY)


def events_of(world: GivenWorkflow, kind: type[Event]) -> list[Any]:
    return [recorded.event for recorded in world.log.events if isinstance(recorded.event, kind)]


def unreserve(item_id: str = "I1") -> UnreserveStock:
    return UnreserveStock(site_id="S1", item_id=item_id, order_id="O1")


def test_an_order_whose_lines_can_all_be_reserved_is_confirmed_with_their_lots() -> None:
    reacted = stocked(receive(6, "A"), receive(10, "B", LATE)).when(ORDER, placed((1, "I1", 8)))
    reacted.then(
        TIMER,
        reserve(8),
        ConfirmOrder(order_id="O1", allocations=line_lots((1, "A", 6), (1, "B", 2))),
        SETTLED,
    )
    assert reacted.state(ORDER).status == "confirmed"


def test_all_lines_are_reserved_in_one_round() -> None:
    rounds = stocked(receive(10)).when(ORDER, placed((1, "I1", 3), (2, "I1", 4), (3, "I1", 2))).rounds
    assert [len(steps) for steps in rounds] == [1, 3, 1, 1]


def test_an_order_without_stocked_lines_is_confirmed_at_once() -> None:
    reacted = stocked().when(ORDER, placed((1, "FREIGHT", 1)))
    reacted.then(TIMER, ConfirmOrder(order_id="O1"), SETTLED)
    assert reacted.state(ORDER).status == "confirmed"


def test_stocked_and_other_lines_are_confirmed_together() -> None:
    reacted = stocked(receive(5)).when(ORDER, placed((1, "I1", 5), (2, "FREIGHT", 1)))
    reacted.then(TIMER, reserve(5), ConfirmOrder(order_id="O1", allocations=line_lots((1, "A", 5))), SETTLED)
    assert reacted.state(ORDER).lines[2].reserved == 1


def test_a_complete_order_that_falls_short_gives_back_and_is_rejected_with_its_lines() -> None:
    world = stocked(receive(5))
    reacted = world.when(ORDER, placed((1, "I1", 4), (2, "I2", 7)))
    reacted.then(
        TIMER,
        reserve(4),
        ReserveStock(site_id="S1", item_id="I2", order_id="O1", line_no=2, quantity=7),
        unreserve("I1"),
        unreserve("I2"),
        RejectOrder(
            order_id="O1",
            rule="insufficient-stock",
            lines=(LineShortage(line_no=2, requested=7, available=0),),
        ),
        SETTLED,
    )
    assert reacted.state(ORDER).status == "rejected"
    assert reacted.state(STOCK).lot("A").available == 5


def test_a_partial_order_that_falls_short_is_confirmed_with_what_there_is() -> None:
    world = stocked(receive(5))
    reacted = world.when(ORDER, placed((1, "I1", 8), (2, "I2", 3), fulfilment="partial"))
    assert reacted.state(ORDER).status == "confirmed"
    (confirmed,) = events_of(world, OrderConfirmed)
    assert confirmed.allocations == line_lots((1, "A", 5))
    assert confirmed.short == (LineQuantity(line_no=1, quantity=3), LineQuantity(line_no=2, quantity=3))


def test_a_partial_order_of_which_nothing_can_be_had_is_rejected() -> None:
    world = stocked()
    world.when(ORDER, placed((1, "I1", 8), fulfilment="partial"))
    (rejected,) = events_of(world, OrderRejected)
    assert rejected.lines == (LineShortage(line_no=1, requested=8, available=0),)


def test_a_partial_order_with_a_line_that_needs_no_stock_is_confirmed_without_the_rest() -> None:
    world = stocked()
    world.when(ORDER, placed((1, "I1", 8), (2, "FREIGHT", 1), fulfilment="partial"))
    (confirmed,) = events_of(world, OrderConfirmed)
    assert confirmed.short == (LineQuantity(line_no=1, quantity=8),)


def test_the_shortage_says_what_there_would_have_been() -> None:
    world = stocked(receive(5))
    world.when(ORDER, placed((1, "I1", 8)))
    (rejected,) = events_of(world, OrderRejected)
    assert rejected.lines == (LineShortage(line_no=1, requested=8, available=5),)


# -- approval -----------------------------------------------------------------------------------------------


def limited() -> Fulfilment:
    return Fulfilment.from_environment({"EVERFOLD_APPROVAL_LIMIT": "500"})


def test_an_order_over_the_limit_waits_for_approval_and_for_as_long_as_that_takes() -> None:
    reacted = stocked(receive(10), workflow=limited()).when(ORDER, placed((1, "I1", 6)))
    reacted.then(RequestApproval(order_id="O1", limit=500))
    assert reacted.state(ORDER).status == "awaiting-approval"


def test_an_order_at_the_limit_needs_no_approval() -> None:
    reacted = stocked(receive(10), workflow=limited()).when(ORDER, placed((1, "I1", 5)))
    assert reacted.state(ORDER).status == "confirmed"


def test_an_approved_order_is_settled_and_its_time_runs_from_then() -> None:
    waiting = stocked(receive(10), workflow=limited()).when(ORDER, placed((1, "I1", 6)))
    later = NOON + timedelta(days=2)
    approved = waiting.when(ORDER, OrderApproved(), now=later)
    approved.then(
        Read(ORDER, (OrderPlaced.type,)),
        Schedule("O1", later + timedelta(seconds=TIMEOUT_SECONDS), TimeOutOrder(order_id="O1")),
        reserve(6),
        ConfirmOrder(order_id="O1", allocations=line_lots((1, "A", 6))),
        SETTLED,
    )
    assert approved.state(ORDER).status == "confirmed"


def test_limits_are_one_number_or_one_for_each_tenant() -> None:
    limits = ApprovalLimits.parse("1000, acme=50, zeta=7")
    assert [limits.of(tenant) for tenant in ("acme", "zeta", "other")] == [50, 7, 1000]
    assert ApprovalLimits.parse("").of("acme") is None
    assert ApprovalLimits.parse("acme=50").of("other") is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EVERFOLD_APPROVAL_LIMIT", "many"),
        ("EVERFOLD_APPROVAL_LIMIT", "acme=-1"),
        ("EVERFOLD_CONFIRM_TIMEOUT_SECONDS", "soon"),
        ("EVERFOLD_CONFIRM_TIMEOUT_SECONDS", "0"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(variable: str, value: str) -> None:
    with pytest.raises(BadDefinition, match=variable):
        Fulfilment.from_environment({variable: value})


def test_the_time_out_is_counted_from_when_the_order_is_taken_up() -> None:
    quick = Fulfilment.from_environment({"EVERFOLD_CONFIRM_TIMEOUT_SECONDS": "2"})
    late = NOON + timedelta(hours=1)
    reacted = stocked(receive(5), workflow=quick).when(
        ORDER, placed((1, "I1", 5)), now=late, occurred_at=NOON
    )
    assert reacted.rounds[0] == [Schedule("O1", late + timedelta(seconds=2), TimeOutOrder(order_id="O1"))]
    assert reacted.state(ORDER).status == "confirmed"


# -- races --------------------------------------------------------------------------------------------------


def take_up(world: GivenWorkflow, event: Event, meanwhile: Mapping[int, Command] | None = None) -> list[Any]:
    """React to an event that is on the log already; `meanwhile`: what others do after so many steps."""
    recorded = next(each for each in world.log.events if each.stream == ORDER)
    trigger: Any = TriggerAt(event, ORDER, recorded.version, 1, NOON, NOON, NOON)
    reaction: Any = world.workflow.react(trigger)
    taken: list[Any] = []
    answers: Any = None
    while True:
        try:
            steps = reaction.send(answers)
        except StopIteration:
            return taken
        answers = [world._answer(step, world.moment) for step in steps]
        taken += steps
        if meanwhile and len(taken) in meanwhile:
            world.log.carry_out(meanwhile[len(taken)], world.moment)


def sent(steps: list[Any]) -> list[type[Command]]:
    return [type(step.command) for step in steps if isinstance(step, Send)]


def test_an_order_that_was_cancelled_before_it_was_taken_up_keeps_nothing_reserved() -> None:
    order = placed((1, "I1", 5))
    world = stocked(receive(5), (ORDER, order), CancelOrder(order_id="O1"))
    assert sent(take_up(world, order)) == [ReserveStock, ConfirmOrder, UnreserveStock]
    assert world.log.state(STOCK).lot("A").available == 5


def test_an_order_cancelled_between_reserving_and_confirming_keeps_nothing_reserved() -> None:
    order = placed((1, "I1", 5))
    world = stocked(receive(5), (ORDER, order))
    steps = take_up(world, order, {2: CancelOrder(order_id="O1")})
    assert sent(steps) == [ReserveStock, ConfirmOrder, UnreserveStock]
    assert world.log.state(STOCK).lot("A").available == 5


def test_an_order_that_lost_units_before_it_was_confirmed_is_tried_again() -> None:
    order = placed((1, "I1", 5))
    world = stocked(receive(5, "A"), receive(5, "B", LATE), (ORDER, order))
    steps = take_up(world, order, {2: quarantine("A")})
    assert sent(steps) == [ReserveStock, ConfirmOrder, UnreserveStock, ReserveStock, ConfirmOrder]
    assert world.log.state(ORDER).status == "confirmed"
    assert world.log.state(STOCK).reserved_for("O1", 1) == {"B": 5}


def test_an_order_that_keeps_losing_its_units_is_left_to_its_timer() -> None:
    world = stocked().answering(ReserveStock, [StockReserved(order_id="O1", line_no=1, lots=lots(("A", 5)))])
    world.answering(ConfirmOrder, InsufficientStock(5, 0))
    reacted = world.when(ORDER, placed((1, "I1", 5)))
    assert TIMER in reacted.steps
    assert SETTLED not in reacted.steps
    assert reacted.sent[-1] == unreserve()


def test_a_line_reserved_by_an_attempt_long_forgotten_is_given_back_and_reserved_anew() -> None:
    world = stocked(receive(9), reserve(5))
    world.when(ORDER, placed((1, "I1", 5)))
    assert world.log.state(ORDER).status == "confirmed"
    assert world.log.state(STOCK).reserved_for("O1", 1) == {"A": 5}


def test_an_order_settled_by_an_attempt_long_forgotten_is_left_as_it_is() -> None:
    order = placed((1, "I1", 5))
    promised = ConfirmOrder(order_id="O1", allocations=line_lots((1, "A", 5)))
    world = stocked(receive(9), (ORDER, order), reserve(5), promised)
    take_up(world, order)
    assert world.log.state(STOCK).reserved_for("O1", 1) == {"A": 5}


def test_another_reservation_than_was_asked_for_is_given_back_and_made_anew() -> None:
    world = stocked().answering(ReserveStock, AlreadyReserved("O1", 1, 5, 3))
    reacted = world.when(ORDER, placed((1, "I1", 5)))
    assert unreserve() in reacted.sent


# -- cancelled ----------------------------------------------------------------------------------------------


def test_a_cancelled_order_gives_back_what_was_reserved_of_each_item() -> None:
    world = stocked(receive(9))
    world.when(ORDER, placed((1, "I1", 3), (2, "I1", 2)))
    world.log.carry_out(CancelOrder(order_id="O1"), world.moment)
    (cancelled,) = events_of(world, OrderCancelled)
    assert take_up(world, cancelled) == [SETTLED, Send(unreserve())]
    assert world.log.state(STOCK).lot("A").available == 9
