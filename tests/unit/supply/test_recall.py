"""Recall: what follows from a recall being issued, and from units being taken away from orders."""

from typing import Any

from command_api.supply.recall import READS_MAX, Recall
from command_api.workflow import Read, Send
from infra.testing import NOON, GivenWorkflow, given
from infra.testing.reactions import TriggerAt
from schemas.supply.orders import MarkOrderRecalled, OrderRecalled, ReallocateOrder
from schemas.supply.quantities import LineLot, Released
from schemas.supply.recalls import CloseRecall, HeldItem, RecallIssued
from schemas.supply.stock import QuarantineRecalledStock, StockQuarantined, StockShipped
from tests.unit.supply.words import (
    BASICS,
    LATE,
    ORDER,
    STOCK,
    SUPPLY,
    confirm,
    line,
    line_lots,
    lots,
    place,
    recall,
    receive,
    reserve,
    ship,
)

RECALL = "recalls/R1"
REFILL = Send(ReallocateOrder(order_id="O1", lines=(1,)))


def issued(*sites: str, lots: tuple[str, ...] | None = ("A",), item_id: str = "I1") -> RecallIssued:
    return RecallIssued(recall_class="I", scope=(HeldItem(item_id=item_id, lots=lots, sites=sites),))


def quarantine_at(site_id: str) -> QuarantineRecalledStock:
    return QuarantineRecalledStock(site_id=site_id, item_id="I1", recall_id="R1")


def shipped(
    order_id: str, line_no: int, *units: tuple[str | None, int], shipment_id: str = "SH1"
) -> StockShipped:
    return StockShipped(
        order_id=order_id, customer_id="C1", shipment_id=shipment_id, line_no=line_no, lots=lots(*units)
    )


def stocked(*facts: Any) -> GivenWorkflow:
    return given(Recall, *BASICS, *facts, rules=SUPPLY)


def test_a_recall_quarantines_the_item_at_every_site_that_has_had_it() -> None:
    given(Recall).when(RECALL, issued("S1", "S2")).then(
        quarantine_at("S1"),
        quarantine_at("S2"),
        Read("stock/S1/I1", ("StockShipped",), until=1),
        Read("stock/S2/I1", ("StockShipped",), until=1),
    )


def test_a_recall_of_what_nobody_ever_had_does_nothing() -> None:
    assert not given(Recall).when(RECALL, issued()).steps


def test_every_order_that_got_recalled_units_is_marked_with_its_lots() -> None:
    past = (
        (STOCK, shipped("O1", 1, ("A", 2), ("B", 9))),
        (STOCK, shipped("O2", 3, ("A", 1))),
        (STOCK, shipped("O1", 1, ("A", 3), shipment_id="SH2")),
        (STOCK, shipped("O3", 1, ("C", 1))),
    )
    reacted = given(Recall, *past).when(RECALL, issued("S1", lots=("A", "B")))
    assert [command for command in reacted.sent if isinstance(command, MarkOrderRecalled)] == [
        MarkOrderRecalled(order_id="O1", recall_id="R1", lines=line_lots((1, "A", 5), (1, "B", 9))),
        MarkOrderRecalled(order_id="O2", recall_id="R1", lines=line_lots((3, "A", 1))),
    ]


def test_a_recall_of_all_lots_marks_whoever_got_any() -> None:
    reacted = given(Recall, (STOCK, shipped("O3", 1, (None, 4)))).when(RECALL, issued("S1", lots=None))
    assert reacted.sent[-1] == MarkOrderRecalled(
        order_id="O3", recall_id="R1", lines=(LineLot(line_no=1, quantity=4),)
    )


def test_many_stock_streams_are_read_some_at_a_time() -> None:
    sites = tuple(f"S{number}" for number in range(READS_MAX + 1))
    rounds = given(Recall).when(RECALL, issued(*sites)).rounds
    assert [len(steps) for steps in rounds if steps and isinstance(steps[0], Read)] == [READS_MAX, 1]


def test_reserved_units_are_quarantined_too_and_their_orders_filled_anew() -> None:
    world = stocked(
        receive(5, "A"),
        receive(3, "B", LATE),
        place(line(quantity=5)),
        reserve(5),
        confirm((1, "A", 5)),
        recall("A"),
    )
    world.when(RECALL, issued("S1"))
    (quarantined,) = [r.event for r in world.log.events if isinstance(r.event, StockQuarantined)]
    assert quarantined.released == (Released(order_id="O1", line_no=1, quantity=5),)
    assert list(world.workflow.react(TriggerAt(quarantined, STOCK, 9, 9, NOON, NOON, NOON))) == [[REFILL]]
    world.log.carry_out(REFILL.command, world.moment)
    assert world.log.state(STOCK).reserved_for("O1", 1) == {"B": 3}
    order = world.log.state(ORDER)
    assert (order.lines[1].reserved, order.lines[1].short) == (3, 2)


def test_an_order_shipped_from_a_recalled_lot_knows_it() -> None:
    world = stocked(
        receive(5, "A"), place(line(quantity=5)), reserve(5), confirm((1, "A", 5)), ship(), recall("A")
    )
    world.when(RECALL, issued("S1"))
    (marked,) = [r.event for r in world.log.events if isinstance(r.event, OrderRecalled)]
    assert marked.lines == line_lots((1, "A", 5))


def test_closing_a_recall_releases_nothing_by_itself() -> None:
    assert "RecallClosed" not in Recall.reactions
    world = stocked(receive(5, "A"), recall("A"))
    world.when(RECALL, issued("S1"))
    world.log.carry_out(CloseRecall(recall_id="R1", outcome="destroyed"), world.moment)
    assert world.log.state(STOCK).lot("A").quarantined == 5


def test_a_quarantine_that_takes_nothing_from_orders_is_no_concern() -> None:
    given(Recall).when(STOCK, StockQuarantined(lot="A", cause="torn", quarantined=5)).then_nothing()
