"""Quarantine, recalls and expiry keep lots from being used, reserved units too."""

from datetime import timedelta

from infra.testing import given
from schemas.errors import NotFound
from schemas.supply.quantities import Released
from schemas.supply.recalls import CloseRecall
from schemas.supply.rejections import LotOnHold, WrongStatus
from schemas.supply.stock import (
    ExpireLot,
    LotExpired,
    QuarantineRecalledStock,
    QuarantineReleased,
    ReleaseQuarantine,
    StockQuarantined,
    StockReceived,
    StockTransferredIn,
    TransferStock,
)
from tests.unit.supply.test_stock import BULK, plain_receipt
from tests.unit.supply.words import (
    AFTER_EARLY,
    BASICS,
    EARLY_ENDS,
    EXPIRE,
    LATE,
    SEND_BACK,
    SHIPPED,
    SITE,
    SUPPLY,
    quarantine,
    recall,
    receive,
    reserve,
)

RELEASE = ReleaseQuarantine(site_id="S1", item_id="I1", lot="A")
RECALLED = QuarantineRecalledStock(site_id="S1", item_id="I1", recall_id="R1")
CLOSE = CloseRecall(recall_id="R1", outcome="destroyed")


def released(quantity: int, order_id: str = "O1", line_no: int = 1) -> Released:
    return Released(order_id=order_id, line_no=line_no, quantity=quantity)


def test_a_quarantine_takes_all_of_a_lot_from_its_orders_too() -> None:
    given(SUPPLY, *BASICS, receive(10), reserve(4, "O2"), reserve(1, line_no=2), reserve(2)).when(
        quarantine()
    ).then(
        StockQuarantined(
            lot="A",
            cause="torn box",
            available=3,
            reserved=7,
            quarantined=10,
            released=(released(2), released(1, line_no=2), released(4, "O2")),
        )
    )


def test_a_quarantine_leaves_other_lots_of_a_reservation() -> None:
    stock = given(SUPPLY, *BASICS, receive(5), receive(5, "B", LATE), reserve(7)).when(quarantine()).state()
    assert stock.reserved_for("O1", 1) == {"B": 2}


def test_a_quarantine_happens_once() -> None:
    given(SUPPLY, *BASICS, receive(10), quarantine()).when(quarantine()).then_nothing()


def test_an_empty_lot_is_quarantined_so_that_what_comes_later_is_too() -> None:
    emptied = given(SUPPLY, *BASICS, receive(1), receive(5, "B"))
    emptied.when(TransferStock(site_id="S1", to_site_id="S2", item_id="I1", lot="A", quantity=1))
    emptied.when(quarantine()).then(StockQuarantined(lot="A", cause="torn box", quarantined=0))
    assert emptied.when(receive(3)).only(StockReceived).into == "quarantined"


def test_a_recall_is_noted_on_a_lot_that_is_in_quarantine_already() -> None:
    held = given(SUPPLY, *BASICS, receive(10), quarantine(), recall("A"))
    held.when(quarantine(recall_id="R1")).then(
        StockQuarantined(lot="A", cause="torn box", recall_id="R1", quarantined=10)
    )
    held.when(quarantine(recall_id="R1")).then_nothing()


def test_a_recall_that_does_not_hold_the_lot_is_no_cause() -> None:
    given(SUPPLY, *BASICS, receive(10), recall("B")).when(quarantine(recall_id="R1")).then_refused(NotFound)
    given(SUPPLY, *BASICS, receive(10)).when(RECALLED).then_refused(NotFound)


def test_the_recalled_lots_at_a_site_are_quarantined_together() -> None:
    stocked = (*BASICS, receive(5), receive(6, "B"), receive(7, "C"), reserve(3), recall("A", "C", "X"))
    given(SUPPLY, *stocked).when(RECALLED).then(
        StockQuarantined(
            lot="A",
            cause="recall R1",
            recall_id="R1",
            available=2,
            reserved=3,
            quarantined=5,
            released=(released(3),),
        ),
        StockQuarantined(lot="C", cause="recall R1", recall_id="R1", available=7, quarantined=7),
    )
    given(SUPPLY, *stocked, RECALLED).when(RECALLED).then_nothing()


def test_a_recall_of_all_lots_holds_those_without_a_name_too() -> None:
    given(SUPPLY, SITE, BULK, plain_receipt(5), recall()).when(RECALLED).then(
        StockQuarantined(lot=None, cause="recall R1", recall_id="R1", available=5, quarantined=5)
    )


def test_a_recalled_lot_that_arrives_later_comes_into_quarantine() -> None:
    event = given(SUPPLY, *BASICS, recall("A")).when(receive(5)).only(StockReceived)
    assert (event.into, event.held_by) == ("quarantined", ("R1",))


def test_units_that_were_there_before_are_quarantined_after_a_late_arrival() -> None:
    late = given(SUPPLY, *BASICS, receive(5), recall("A"), receive(2))
    late.when(RECALLED).then(
        StockQuarantined(lot="A", cause="recall R1", recall_id="R1", available=5, quarantined=7)
    )


def test_an_open_recall_is_not_released() -> None:
    recalled = given(SUPPLY, *BASICS, receive(5), recall("A"), RECALLED)
    recalled.when(RELEASE).then_refused(LotOnHold, lot="A", recalls=("R1",))


def test_closing_a_recall_releases_nothing_until_the_site_does() -> None:
    closed = given(SUPPLY, *BASICS, receive(5), receive(5, site_id="S2"), recall("A"), RECALLED, CLOSE)
    closed.when(receive(1)).then_accepted()
    assert closed.log.state("stock/S1/I1").lot("A").quarantined == 6
    closed.when(RELEASE).then(QuarantineReleased(lot="A", quantity=6, into="available", cleared=("R1",)))
    closed.when(reserve(6)).then_accepted()
    assert closed.when(receive(1)).only(StockReceived).into == "available"
    assert closed.when(receive(1, site_id="S2")).only(StockReceived).into == "quarantined"


def test_a_lot_cleared_at_one_site_is_held_at_another() -> None:
    closed = given(SUPPLY, *BASICS, receive(5), recall("A"), RECALLED, CLOSE, RELEASE)
    moved = closed.when(TransferStock(site_id="S1", to_site_id="S2", item_id="I1", lot="A", quantity=2))
    assert moved.only(StockTransferredIn).held_by == ("R1",)
    assert moved.state("stock/S2/I1").lot("A").quarantined == 2


def test_a_release_where_nothing_is_in_quarantine_changes_nothing() -> None:
    given(SUPPLY, *BASICS, receive(5)).when(RELEASE).then_nothing()


def test_returned_units_are_released_by_themselves() -> None:
    given(SUPPLY, *SHIPPED, SEND_BACK).when(RELEASE).then(
        QuarantineReleased(lot="A", quantity=4, into="available")
    )


def test_expiry_takes_all_of_a_lot_from_its_orders_too() -> None:
    stocked = given(SUPPLY, *BASICS, receive(10), reserve(4))
    stocked.when(EXPIRE, now=EARLY_ENDS).then(
        LotExpired(lot="A", available=6, reserved=4, released=(released(4),))
    )
    stocked.when(EXPIRE, now=AFTER_EARLY).then_nothing()


def test_expiry_is_never_early() -> None:
    early = EARLY_ENDS - timedelta(seconds=1)
    given(SUPPLY, *BASICS, receive(10)).when(EXPIRE, now=early).then_refused(
        WrongStatus, current_status="usable"
    )
    given(SUPPLY, SITE, BULK, plain_receipt(5)).when(
        ExpireLot(site_id="S1", item_id="I1"), now=early
    ).then_refused(WrongStatus)


def test_a_timer_that_carries_an_earlier_time_expires_all_the_same() -> None:
    given(SUPPLY, *BASICS, receive(10)).when(
        EXPIRE, now=AFTER_EARLY, occurred_at=EARLY_ENDS.replace(year=2025)
    ).then(LotExpired(lot="A", available=10))


def test_quarantine_outranks_expiry_until_it_ends() -> None:
    held = given(SUPPLY, *BASICS, receive(10), quarantine())
    held.when(EXPIRE, now=AFTER_EARLY).then(LotExpired(lot="A"))
    held.when(RELEASE).then(QuarantineReleased(lot="A", quantity=10, into="expired"))


def test_expired_units_can_be_quarantined() -> None:
    expired = given(SUPPLY, *BASICS, receive(10))
    expired.when(EXPIRE, now=AFTER_EARLY).then_accepted()
    expired.when(quarantine()).then(StockQuarantined(lot="A", cause="torn box", expired=10, quarantined=10))
