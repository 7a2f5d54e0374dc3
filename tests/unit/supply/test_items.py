"""Items are registered once, may be changed, and end by being discontinued."""

from command_api.supply.items import Items
from infra.testing import given
from schemas.messages import Money
from schemas.supply.items import (
    ChangeItem,
    DiscontinueItem,
    ItemChanged,
    ItemDiscontinued,
    ItemRegistered,
    RegisterItem,
    Tracking,
)
from schemas.supply.rejections import AlreadyExists, UnknownItem
from tests.unit.supply.words import ITEM

PRICE = Money(amount=495, currency="EUR")


def test_an_item_is_registered_and_tracks_everything_unless_told_otherwise() -> None:
    given(Items).when(ITEM).then(
        ItemRegistered(name="Gloves", tracking=Tracking(lot=True, expiry=True), stocked=True)
    )


def test_an_item_is_registered_with_all_that_is_said_of_it() -> None:
    command = RegisterItem(
        item_id="I9",
        name="Freight",
        category="charges",
        tracking=Tracking(lot=False, expiry=False),
        stocked=False,
        list_price=PRICE,
        gtin="04012345678901",
        manufacturer="Acme",
    )
    given(Items).when(command).then(
        ItemRegistered(
            name="Freight",
            category="charges",
            tracking=Tracking(lot=False, expiry=False),
            stocked=False,
            list_price=PRICE,
            gtin="04012345678901",
            manufacturer="Acme",
        )
    )


def test_an_item_is_registered_only_once() -> None:
    given(Items, ITEM).when(ITEM).then_refused(AlreadyExists, what="items/I1")


def test_a_change_says_all_that_holds_afterwards() -> None:
    (
        given(Items, ITEM)
        .when(ChangeItem(item_id="I1", category="hands"))
        .then(ItemChanged(name="Gloves", category="hands"))
        .when(ChangeItem(item_id="I1", list_price=PRICE))
        .then(ItemChanged(name="Gloves", category="hands", list_price=PRICE))
        .when(ChangeItem(item_id="I1", name="Long gloves"))
        .then(ItemChanged(name="Long gloves", category="hands", list_price=PRICE))
    )


def test_null_takes_a_category_away_and_leaving_it_out_does_not() -> None:
    (
        given(Items, ITEM, ChangeItem(item_id="I1", category="hands", list_price=PRICE))
        .when(ChangeItem(item_id="I1", category=None))
        .then(ItemChanged(name="Gloves", category=None, list_price=PRICE))
    )


def test_a_change_to_what_holds_already_changes_nothing() -> None:
    given(Items, ITEM).when(ChangeItem(item_id="I1", name="Gloves")).then_nothing()
    given(Items, ITEM).when(ChangeItem(item_id="I1")).then_nothing()


def test_an_unknown_item_is_neither_changed_nor_discontinued() -> None:
    given(Items).when(ChangeItem(item_id="I1", name="x")).then_refused(UnknownItem, item_id="I1")
    given(Items).when(DiscontinueItem(item_id="I1")).then_refused(UnknownItem, item_id="I1")


def test_an_item_is_discontinued_once() -> None:
    (
        given(Items, ITEM)
        .when(DiscontinueItem(item_id="I1"))
        .then(ItemDiscontinued())
        .when(DiscontinueItem(item_id="I1"))
        .then_nothing()
    )
