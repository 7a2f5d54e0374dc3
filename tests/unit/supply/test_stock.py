"""Stock comes in, is counted, destroyed and moved; what is reserved stays."""

from datetime import date

import pytest
from pydantic import ValidationError

from command_api.supply.stock_state import Lot
from infra.testing import given
from schemas import Command
from schemas.messages import INTEGER_MAX
from schemas.supply.distribution import ItemStocked, LotDated
from schemas.supply.items import RegisterItem, Tracking
from schemas.supply.rejections import (
    ExpiryDiffers,
    InsufficientStock,
    LotExpired,
    LotOnHold,
    QuantityOverflow,
    UnknownItem,
    UnknownLot,
    UnknownSite,
    WouldBreakReservation,
    WrongTracking,
)
from schemas.supply.stock import (
    AdjustStock,
    DisposeStock,
    ExpireLot,
    QuarantineStock,
    ReceiveStock,
    ReleaseQuarantine,
    StockAdjusted,
    StockDisposed,
    StockReceived,
    StockTransferredIn,
    StockTransferredOut,
    TransferStock,
)
from tests.unit.supply.words import (
    AFTER_EARLY,
    BASICS,
    EARLY,
    EARLY_ENDS,
    EXPIRE,
    HOLDS,
    ITEM,
    LATE,
    SEND_BACK,
    SHIPPED,
    SITE,
    SUPPLY,
    place,
    quarantine,
    recall,
    receive,
    reserve,
)

DATED = RegisterItem(item_id="I1", name="Milk", tracking=Tracking(lot=False, expiry=True))
BULK = RegisterItem(item_id="I1", name="Swabs", tracking=Tracking(lot=False, expiry=False))
LOTS_ONLY = RegisterItem(item_id="I1", name="Screws", tracking=Tracking(lot=True, expiry=False))


def adjust(delta: int, lot: str | None = "A") -> AdjustStock:
    return AdjustStock(site_id="S1", item_id="I1", lot=lot, delta=delta)


def dispose(quantity: int, lot: str | None = "A") -> DisposeStock:
    return DisposeStock(site_id="S1", item_id="I1", lot=lot, quantity=quantity)


def transfer(quantity: int, lot: str | None = "A") -> TransferStock:
    return TransferStock(site_id="S1", item_id="I1", to_site_id="S2", lot=lot, quantity=quantity)


def plain_receipt(quantity: int = 5, lot: str | None = None, expires_on: date | None = None) -> ReceiveStock:
    return ReceiveStock(site_id="S1", item_id="I1", quantity=quantity, lot=lot, expires_on=expires_on)


RECEIVED = StockReceived(lot="A", quantity=5, expires_on=EARLY, usable_until=EARLY_ENDS)


def test_the_first_receipt_of_a_lot_says_where_the_item_went_and_when_the_lot_ends() -> None:
    given(SUPPLY, *BASICS).when(receive(5)).then(
        RECEIVED,
        (HOLDS, ItemStocked(site_id="S1")),
        (HOLDS, LotDated(lot="A", expires_on=EARLY)),
    )


def test_a_further_receipt_of_a_lot_says_nothing_more() -> None:
    given(SUPPLY, *BASICS, receive(5)).when(receive(5)).then(RECEIVED)


def test_a_receipt_keeps_supplier_and_document() -> None:
    command = receive(5).model_copy(update={"supplier_id": "SUP", "document": "DN 7"})
    event = given(SUPPLY, *BASICS).when(command).only(StockReceived)
    assert (event.supplier_id, event.document) == ("SUP", "DN 7")


def test_goods_come_only_into_known_sites_and_of_known_items() -> None:
    given(SUPPLY, ITEM).when(receive(5)).then_refused(UnknownSite, site_id="S1")
    given(SUPPLY, SITE).when(receive(5)).then_refused(UnknownItem, item_id="I1")


@pytest.mark.parametrize(
    ("item", "receipt"),
    [
        (ITEM, plain_receipt()),
        (ITEM, plain_receipt(lot="A")),
        (ITEM, plain_receipt(expires_on=EARLY)),
        (LOTS_ONLY, plain_receipt(lot="A", expires_on=EARLY)),
        (LOTS_ONLY, plain_receipt()),
        (DATED, plain_receipt(lot="A", expires_on=EARLY)),
        (DATED, plain_receipt()),
        (BULK, plain_receipt(lot="A")),
        (BULK, plain_receipt(expires_on=EARLY)),
        (RegisterItem(item_id="I1", name="Freight", stocked=False), plain_receipt(lot="A", expires_on=EARLY)),
    ],
)
def test_lot_and_expiry_are_given_exactly_as_the_item_tracks_them(
    item: RegisterItem, receipt: Command
) -> None:
    given(SUPPLY, SITE, item).when(receipt).then_refused(
        WrongTracking, lot=item.tracking.lot, expiry=item.tracking.expiry, stocked=item.stocked
    )


def test_a_lot_has_one_expiry_date_at_all_sites() -> None:
    facts = {"lot": "A", "expires_on": "2026-03-31", "given": "2026-06-30"}
    known = given(SUPPLY, *BASICS, receive(5))
    known.when(receive(5, expires_on=LATE)).then_refused(ExpiryDiffers, **facts)
    known.when(receive(5, expires_on=LATE, site_id="S2")).then_refused(ExpiryDiffers, **facts)
    known.when(receive(5, "B", LATE, "S2")).then_accepted()


def test_an_item_that_tracks_only_expiry_has_a_lot_for_each_date() -> None:
    stock = (
        given(SUPPLY, SITE, DATED)
        .when(plain_receipt(5, expires_on=EARLY))
        .then_accepted()
        .when(plain_receipt(7, expires_on=LATE))
        .then_accepted()
        .state()
    )
    assert {label: lot.on_hand for label, lot in stock.lots.items()} == {"2026-03-31": 5, "2026-06-30": 7}


def test_no_lot_named_means_the_only_date_there_is() -> None:
    one = given(SUPPLY, SITE, DATED, plain_receipt(5, expires_on=EARLY))
    one.when(adjust(-1, None)).then(StockAdjusted(lot="2026-03-31", delta=-1, available=-1))
    one.when(plain_receipt(5, expires_on=LATE)).then_accepted()
    one.when(adjust(-1, None)).then_refused(UnknownLot, lot=None, lots=["2026-03-31", "2026-06-30"])


def test_an_item_without_lots_has_a_single_one_without_a_name() -> None:
    stock = given(SUPPLY, SITE, BULK, plain_receipt(5)).when(adjust(2, None))
    stock.then(StockAdjusted(lot=None, delta=2, available=2))
    assert stock.state().lots.get(None) == Lot(rank=0, on_hand=7)


def test_more_than_an_integer_counts_is_not_taken_in() -> None:
    given(SUPPLY, *BASICS, receive(INTEGER_MAX)).when(receive(1, "B")).then_refused(
        QuantityOverflow, on_hand=INTEGER_MAX, quantity=1
    )
    given(SUPPLY, *BASICS, receive(INTEGER_MAX)).when(adjust(1)).then_refused(QuantityOverflow)


@pytest.mark.parametrize(
    "command",
    [
        adjust(1, "X"),
        dispose(1, "X"),
        transfer(1, "X"),
        quarantine("X"),
        ReleaseQuarantine(site_id="S1", item_id="I1", lot="X"),
        ExpireLot(site_id="S1", item_id="I1", lot="X"),
    ],
)
def test_a_lot_that_was_never_here_is_unknown(command: Command) -> None:
    given(SUPPLY, *BASICS, receive(5)).when(command).then_refused(UnknownLot, lot="X")


def test_what_is_wrong_with_an_unknown_lot_is_said() -> None:
    given(SUPPLY, ITEM).when(adjust(1)).then_refused(UnknownSite, site_id="S1")
    given(SUPPLY, SITE).when(adjust(1)).then_refused(UnknownItem, item_id="I1")
    given(SUPPLY, SITE, ITEM).when(adjust(1, None)).then_refused(WrongTracking, lot=True)
    given(SUPPLY, SITE, BULK).when(adjust(1)).then_refused(WrongTracking, lot=False)


def test_a_count_that_is_right_changes_nothing() -> None:
    given(SUPPLY, *BASICS, receive(5)).when(adjust(0)).then_nothing()


def test_a_count_takes_available_units_before_quarantined_and_expired_ones() -> None:
    returned = given(SUPPLY, *SHIPPED, SEND_BACK)
    returned.when(adjust(-21)).then(StockAdjusted(lot="A", delta=-21, available=-20, quarantined=-1))
    returned.when(adjust(3)).then(StockAdjusted(lot="A", delta=3, available=3))


def test_what_is_found_of_a_lot_in_quarantine_or_expired_is_so_too() -> None:
    given(SUPPLY, *BASICS, receive(5), quarantine()).when(adjust(2)).then(
        StockAdjusted(lot="A", delta=2, quarantined=2)
    )
    expired = given(SUPPLY, *BASICS, receive(5))
    expired.when(EXPIRE, now=AFTER_EARLY).then_accepted()
    expired.when(adjust(2)).then(StockAdjusted(lot="A", delta=2, expired=2))
    expired.when(adjust(-3)).then(StockAdjusted(lot="A", delta=-3, expired=-3))


@pytest.mark.parametrize("command", [adjust(-6), dispose(6)])
def test_what_is_reserved_is_neither_counted_away_nor_destroyed(command: Command) -> None:
    given(SUPPLY, *BASICS, receive(10), place(), reserve(5)).when(command).then_refused(
        WouldBreakReservation, requested=6, available=5, reserved=5
    )


@pytest.mark.parametrize("command", [adjust(-11), dispose(11)])
def test_no_more_is_taken_away_than_there_is(command: Command) -> None:
    given(SUPPLY, *BASICS, receive(10)).when(command).then_refused(
        InsufficientStock, requested=11, available=10
    )


def test_disposal_takes_expired_units_first_then_quarantined_then_others() -> None:
    given(SUPPLY, *SHIPPED, SEND_BACK).when(dispose(6)).then(
        StockDisposed(lot="A", quantity=6, available=2, quarantined=4)
    )
    expired = given(SUPPLY, *SHIPPED, SEND_BACK)
    expired.when(EXPIRE, now=AFTER_EARLY).then_accepted()
    expired.when(dispose(22)).then(StockDisposed(lot="A", quantity=22, quarantined=2, expired=20))


def test_disposal_says_which_recalls_held_the_lot() -> None:
    recalled = given(SUPPLY, *BASICS, receive(5), recall("A"), quarantine(recall_id="R1"))
    recalled.when(dispose(2)).then(StockDisposed(lot="A", quantity=2, quarantined=2, held_by=("R1",)))
    recalled.when(adjust(-1)).then(StockAdjusted(lot="A", delta=-1, quarantined=-1, held_by=("R1",)))


def test_a_transfer_takes_the_lot_along_with_its_date_as_the_other_site_sees_it() -> None:
    moved = given(SUPPLY, *BASICS, receive(5)).when(transfer(2))
    moved.then(
        StockTransferredOut(to_site_id="S2", lot="A", quantity=2),
        (
            "stock/S2/I1",
            StockTransferredIn(
                from_site_id="S1",
                lot="A",
                quantity=2,
                expires_on=EARLY,
                usable_until=EARLY_ENDS.replace(month=4, day=1, hour=4),
            ),
        ),
        (HOLDS, ItemStocked(site_id="S2")),
    )
    moved.when(transfer(1)).then(
        StockTransferredOut(to_site_id="S2", lot="A", quantity=1),
        ("stock/S2/I1", moved.past.log.events[-1].event),
    )


def test_a_transfer_goes_to_another_known_site() -> None:
    with pytest.raises(ValidationError, match="another site"):
        TransferStock(site_id="S1", item_id="I1", to_site_id="S1", lot="A", quantity=1)
    given(SUPPLY, SITE, ITEM, receive(5)).when(transfer(1)).then_refused(UnknownSite, site_id="S2")


def test_only_available_units_are_transferred() -> None:
    reserved = given(SUPPLY, *BASICS, receive(10), place(), reserve(6))
    reserved.when(transfer(5)).then_refused(WouldBreakReservation, requested=5, available=4, reserved=6)
    reserved.when(transfer(11)).then_refused(InsufficientStock, requested=11, available=4)
    reserved.when(transfer(4), occurred_at=AFTER_EARLY).then_refused(
        LotExpired, lot="A", expires_on="2026-03-31"
    )
    reserved.when(quarantine()).then_accepted()
    reserved.when(transfer(4)).then_refused(LotOnHold, lot="A", recalls=())


def test_a_recalled_lot_is_not_transferred() -> None:
    given(SUPPLY, *BASICS, receive(10), recall("A")).when(transfer(1)).then_refused(
        LotOnHold, lot="A", recalls=("R1",)
    )


def test_a_transfer_that_the_other_site_cannot_count_is_refused() -> None:
    given(SUPPLY, *BASICS, receive(5), receive(INTEGER_MAX, "B", site_id="S2")).when(
        transfer(1)
    ).then_refused(QuantityOverflow)


def test_what_comes_into_a_quarantined_or_expired_lot_is_so_too() -> None:
    event = given(SUPPLY, *BASICS, receive(5), quarantine()).when(receive(1)).only(StockReceived)
    assert event.into == "quarantined"
    expired = given(SUPPLY, *BASICS, receive(5))
    expired.when(EXPIRE, now=AFTER_EARLY).then_accepted()
    assert expired.when(receive(1)).only(StockReceived).into == "expired"
    there = given(SUPPLY, *BASICS, receive(5), receive(5, site_id="S2"))
    other = QuarantineStock(site_id="S2", item_id="I1", lot="A", cause="wet")
    assert there.when(other).when(transfer(1)).only(StockTransferredIn).into == "quarantined"
