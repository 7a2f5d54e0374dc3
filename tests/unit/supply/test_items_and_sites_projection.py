"""Items and sites: the document says what was said last."""

import json

from infra.testing import given
from projectors.supply.items import Items
from projectors.supply.sites import Sites
from query_api.supply.items import ItemDocument
from query_api.supply.sites import SiteDocument
from schemas.messages import Money
from schemas.supply import views
from schemas.supply.items import ChangeItem, DiscontinueItem, RegisterItem
from tests.unit.supply.words import BASICS, ITEM, SITE, SUPPLY

PRICE = Money(amount=250, currency="EUR")
REGISTERED = RegisterItem(
    item_id="I9",
    name="Syringe",
    category="consumables",
    list_price=PRICE,
    gtin="4006381333931",
    manufacturer="ACME",
)


def test_a_registered_item_is_the_document_that_the_contract_describes() -> None:
    rows = given(Items, REGISTERED, rules=SUPPLY)
    assert json.loads(rows.row("I9").encode()) == {
        "item_id": "I9",
        "stream": "items/I9",
        "version": 1,
        "status": "active",
        "name": "Syringe",
        "category": "consumables",
        "tracking": {"lot": True, "expiry": True},
        "stocked": True,
        "list_price": {"amount": 250, "currency": "EUR"},
        "gtin": "4006381333931",
        "manufacturer": "ACME",
    }


def test_what_was_not_said_of_an_item_is_null() -> None:
    rows = given(Items, ITEM, rules=SUPPLY)
    rows.then_row("I1", category=None, list_price=None, gtin=None, manufacturer=None)


def test_a_change_says_anew_what_it_names_and_leaves_the_rest() -> None:
    changed = ChangeItem.model_validate({"item_id": "I9", "name": "Syringe 5 ml", "list_price": None})
    rows = given(Items, REGISTERED, changed, rules=SUPPLY)
    rows.then_row("I9", version=2, name="Syringe 5 ml", category="consumables", list_price=None)


def test_a_discontinued_item_says_so() -> None:
    rows = given(Items, REGISTERED, DiscontinueItem(item_id="I9"), rules=SUPPLY)
    rows.then_row("I9", status="discontinued", version=2, name="Syringe")


def test_a_site_is_the_document_that_the_contract_describes() -> None:
    rows = given(Sites, SITE, rules=SUPPLY)
    assert json.loads(rows.row("S1").encode()) == {
        "site_id": "S1",
        "stream": "sites/S1",
        "version": 1,
        "name": "Main store",
        "time_zone": "Europe/Berlin",
    }


def test_their_documents_are_what_the_views_say() -> None:
    given(ItemDocument, *BASICS, rules=SUPPLY).when(item_id="I2").then(name="Masks")
    given(SiteDocument, *BASICS, rules=SUPPLY).when(site_id="S2").then(time_zone="America/New_York")
    assert (
        views.Item.model_fields.keys()
        == json.loads(given(Items, ITEM, rules=SUPPLY).row("I1").encode()).keys()
    )
