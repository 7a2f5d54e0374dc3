"""This program over read tables that the former one has built: what they lack is read in the former way."""

from pathlib import Path

import asyncpg
import pytest

from projectors.supply.orders import Orders
from query_api.statements import schema_of
from query_api.supply.orders import OrderList
from tests.integration.supply.conftest import SEED, events_of
from tests.integration.supply.told import settings_of, telling
from tests.services import NAMESPACE

ASKED: tuple[dict[str, str], ...] = (
    {},
    {"sort": "ordered_at"},
    {"sort": "order_id"},
    {"status": "delivered"},
)


@pytest.mark.timeout(240)
async def test_orders_of_an_item_are_listed_before_the_index_of_their_times_is_there(
    store_url: str, redis_url: str, tmp_path: Path
) -> None:
    (walk,) = OrderList.walks.values()
    assert walk.since == Orders.version == 2
    schema = schema_of(NAMESPACE, Orders.name, 1)
    async with telling(settings_of(store_url, redis_url, tmp_path)) as told:
        await told.tell(events_of(SEED))
        newer = [await told.walk("/v1/orders", item_id="BOTH", limit=3, **asked) for asked in ASKED]
        connection = await asyncpg.connect(store_url)
        await connection.execute(f"UPDATE {NAMESPACE}.projections SET version = 1 WHERE name = 'orders'")
        await told.api.parts.side.refresh()
        await connection.execute(f"ALTER TABLE {schema}.items DROP COLUMN ordered_at")
        await connection.close()
        older = [await told.walk("/v1/orders", item_id="BOTH", limit=4, **asked) for asked in ASKED]
    assert older == newer
    assert all(newer)
