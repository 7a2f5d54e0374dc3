"""The language of supply says its bounds, and takes and gives the contract's field names."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from infra.domains import load_domains, load_registry
from schemas.registry import Registry
from schemas.supply.items import RegisterItem
from schemas.supply.orders import OrderPlaced, PlaceOrder, ShipOrder
from schemas.supply.quantities import LotQuantity
from schemas.supply.recalls import IssueRecall
from schemas.supply.sites import RegisterSite
from schemas.supply.stock import ReceiveStock
from schemas.supply.views import Recall

PRICE = {"amount": 1, "currency": "EUR"}
LINE = {"line_no": 1, "item_id": "I1", "quantity": 1, "unit_price": PRICE}
ORDER = {"order_id": "O1", "customer_id": "C1", "site_id": "S1", "lines": [LINE]}
RECEIPT = {"site_id": "S1", "item_id": "I1", "quantity": 1, "lot": "A", "expires_on": "2026-12-31"}
RECALL = {"recall_id": "R1", "class": "II", "scope": [{"item_id": "I1", "lots": ["A"]}]}


@pytest.fixture(name="registry", scope="module")
def _registry() -> Registry:
    return load_registry(load_domains(("supply",)))


PERMISSIONS = {
    "sites.register": "clerk",
    "items.register": "clerk",
    "items.change": "clerk",
    "items.discontinue": "clerk",
    "stock.receive": "warehouse",
    "stock.adjust": "warehouse",
    "stock.dispose": "warehouse",
    "stock.transfer": "warehouse",
    "stock.quarantine": "quality",
    "stock.release-quarantine": "quality",
    "stock.reserve": "system",
    "stock.unreserve": "system",
    "stock.expire": "system",
    "orders.place": "clerk",
    "orders.approve": "admin",
    "orders.decline": "admin",
    "orders.confirm": "system",
    "orders.reject": "system",
    "orders.mark-recalled": "system",
    "orders.cancel": "clerk",
    "orders.ship": "warehouse",
    "orders.deliver": "warehouse",
    "orders.return": "clerk",
    "recalls.issue": "quality",
    "recalls.acknowledge": "quality",
    "recalls.close": "quality",
}
RULES = {
    "unknown-item",
    "unknown-site",
    "item-discontinued",
    "already-exists",
    "wrong-tracking",
    "expiry-differs",
    "insufficient-stock",
    "would-break-reservation",
    "lot-on-hold",
    "lot-expired",
    "wrong-status",
    "duplicate-line",
    "duplicate-reference",
    "exceeds-shipped",
    "recall-closed",
    "mixed-currencies",
    "already-reserved",
    "unknown-lot",
}


def test_the_contracts_commands_are_there_with_their_roles(registry: Registry) -> None:
    roles = {name: command.permission for name, command in registry.commands.items()}
    assert {name: roles.get(name) for name in PERMISSIONS} == PERMISSIONS
    assert {roles[name] for name in set(roles) - set(PERMISSIONS)} == {"system"}


def test_the_contracts_rules_are_there(registry: Registry) -> None:
    assert set(registry.rejections) >= RULES


def test_every_message_says_what_it_is(registry: Registry) -> None:
    for message in (*registry.commands.values(), *registry.newest.values(), *registry.rejections.values()):
        assert (message.__doc__ or "").strip(), message


def test_every_id_of_a_route_is_a_field(registry: Registry) -> None:
    for command in registry.commands.values():
        assert set(command.id_fields) <= set(command.model_fields), command


@pytest.mark.parametrize(
    ("command", "body"),
    [
        (RegisterSite, {"site_id": "S1", "name": "Main", "time_zone": "UTC"}),
        (RegisterItem, {"item_id": "I1", "name": "Gloves"}),
        (ReceiveStock, RECEIPT),
        (PlaceOrder, ORDER),
        (IssueRecall, RECALL),
    ],
)
def test_a_body_has_the_contracts_names(command: Any, body: dict[str, Any]) -> None:
    assert command.model_validate_json(json.dumps(body))


@pytest.mark.parametrize(
    ("command", "body", "change"),
    [
        (ReceiveStock, RECEIPT, {"quantity": 0}),
        (ReceiveStock, RECEIPT, {"quantity": -1}),
        (ReceiveStock, RECEIPT, {"quantity": 2**53 + 1}),
        (ReceiveStock, RECEIPT, {"quantity": 1.5}),
        (ReceiveStock, RECEIPT, {"quantity": "1"}),
        (ReceiveStock, RECEIPT, {"lot": ""}),
        (ReceiveStock, RECEIPT, {"lot": "x" * 51}),
        (ReceiveStock, RECEIPT, {"lot": "Lös 1"}),
        (ReceiveStock, RECEIPT, {"lot": "a\n"}),
        (ReceiveStock, RECEIPT, {"lot": "a\x00"}),
        (ReceiveStock, RECEIPT, {"expires_on": "2026-02-30"}),
        (ReceiveStock, RECEIPT, {"expires_on": "0001-01-01"}),
        (ReceiveStock, RECEIPT, {"colour": "red"}),
        (RegisterItem, {"item_id": "I1", "name": "x"}, {"gtin": "123"}),
        (RegisterItem, {"item_id": "I1", "name": "x"}, {"item_name": "y"}),
        (RegisterItem, {"item_id": "I1", "name": "x"}, {"stocked": 1}),
        (PlaceOrder, ORDER, {"lines": []}),
        (PlaceOrder, ORDER, {"lines": [LINE | {"line_no": 0}]}),
        (PlaceOrder, ORDER, {"fulfilment": "some"}),
        (PlaceOrder, ORDER, {"ordered_at": "2026-01-01"}),
        (PlaceOrder, ORDER, {"contact": "a\x00b"}),
        (ShipOrder, {"order_id": "O1", "shipment_id": "S"}, {"lines": []}),
        (IssueRecall, RECALL, {"class": "IV"}),
        (IssueRecall, RECALL, {"scope": []}),
        (IssueRecall, RECALL, {"scope": [{"item_id": "I1", "lots": []}]}),
        (IssueRecall, RECALL, {"scope": [{"item_id": "I1", "lots": ["A"] * 1_001}]}),
    ],
)
def test_what_is_out_of_bounds_is_refused(command: Any, body: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        command.model_validate_json(json.dumps(body | change))


@pytest.mark.parametrize("lot", ["A", "x" * 50, "a b", "10/2026 #7 (b)", "~!%\"'"])
def test_a_lot_is_what_the_label_says(lot: str) -> None:
    assert LotQuantity(lot=lot, quantity=1).lot == lot


def test_contact_is_marked_as_personal() -> None:
    for message in (PlaceOrder, OrderPlaced):
        kinds = {type(mark).__name__ for mark in message.model_fields["contact"].metadata}
        assert "Personal" in kinds


def test_a_recalls_class_is_called_class() -> None:
    fields = Recall.model_json_schema(mode="serialization")["properties"]
    assert "class" in fields
    assert "recall_class" not in fields
    assert "class" in IssueRecall.model_json_schema()["properties"]


VIEWS = {
    "Order": "order_id stream version status customer_id customer_reference site_id deliver_to fulfilment ordered_at "
    "requested_on updated_at total recalls contact lines shipments returns rejection",
    "StockLevel": "site_id item_id stream version updated_at on_hand reserved quarantined expired available lots",
    "LotTrace": "item_id lot expires_on on_hold recalls totals stock items next",
    "Item": "item_id stream version status name category tracking stocked list_price gtin manufacturer",
    "Site": "site_id stream version name time_zone",
    "Recall": "recall_id stream version status class scope reason issued_at closed_at outcome stock orders customers",
    "DailyDemand": "day currency orders units placed net",
    "DemandSeries": "bucket time_zone from to previous_from series",
    "OrderFunnel": "placed confirmed shipped delivered rejected cancelled returned",
    "TopItem": "item_id name currency orders units placed net",
}


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_a_view_has_exactly_the_contracts_fields(registry: Registry, name: str) -> None:
    schema = registry.views[name].model_json_schema(mode="serialization")
    assert list(schema["properties"]) == VIEWS[name].split()
