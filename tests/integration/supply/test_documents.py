"""Every document is answered byte for byte as a fold of the log has it, and as it was at any position."""

from typing import Any
from urllib.parse import quote

import orjson
import pytest

from projectors.projection import Projection
from projectors.supply.items import Items
from projectors.supply.orders import Orders
from projectors.supply.recalls import Recalls
from projectors.supply.sites import Sites
from projectors.supply.stock_levels import StockLevels
from schemas.messages import View
from schemas.supply import views
from tests.integration.supply.told import Told

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest.mark.parametrize(
    ("route", "projection", "view"),
    [
        ("items", Items, views.Item),
        ("sites", Sites, views.Site),
        ("orders", Orders, views.Order),
        ("stock-levels", StockLevels, views.StockLevel),
        ("recalls", Recalls, views.Recall),
    ],
)
async def test_each_document_is_the_fold_of_the_log(
    told: Told, route: str, projection: type[Projection[Any]], view: type[View]
) -> None:
    documents = await told.folded(projection)
    assert documents
    for key, document in documents.items():
        response = await told.get(f"/v1/{route}/{'/'.join(key)}")
        assert response.content == document
        view.model_validate_json(response.content)


@pytest.mark.parametrize("path", ["items/no", "sites/no", "orders/no", "stock-levels/S1/no", "recalls/no"])
async def test_what_does_not_exist_is_not_found(told: Told, path: str) -> None:
    response = await told.get(f"/v1/{path}")
    assert (response.status_code, response.json()["type"]) == (404, "/problems/not-found")


async def test_an_order_as_of_an_earlier_version_is_what_it_was_then(told: Told) -> None:
    documents = await told.folded(Orders)
    (order_id,), document = max(documents.items(), key=lambda entry: orjson.loads(entry[1])["version"])
    events = [event async for event in told.side.log.read_stream("demo", f"orders/{order_id}")]
    for event in events:
        commit = await told.side.log.commit_of(event.partition, event.position)
        assert commit is not None
        token = (
            f"p1.{event.partition}.{event.position:x}.{commit.hash[:4].hex()}.{told.token.rsplit('.', 1)[1]}"
        )
        response = await told.client.get(f"/v1/orders/{order_id}", params={"as_of": token})
        assert response.json()["version"] == event.version
    assert response.content == document


async def test_a_stock_level_as_of_before_its_first_receipt_is_not_found(told: Told) -> None:
    (site_id, item_id), _ = next(iter((await told.folded(StockLevels)).items()))
    path = f"/v1/stock-levels/{quote(site_id)}/{quote(item_id)}"
    response = await told.client.get(path, params={"as_of": "2020-01-01"})
    assert response.status_code == 404
