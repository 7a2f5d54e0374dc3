"""A story that has been told, for all tests of this folder: they only ask."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from infra.testing.log import Recorded
from schemas.supply.stock import ReceiveStock
from tests.integration.supply.told import ODD_LOT, OTHER_TENANT, Told, settings_of, telling
from tests.services import REDIS_DATABASES, create_database, drop_database
from tests.unit.supply.story import Story

SEED = 4
STEPS, ORDERS_AT_ONCE = 600, 12


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def told(
    postgres_url: str, template: str, redis_server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Told]:
    """A story of some thousand events, and a neighbour's."""
    store_url = create_database(postgres_url, template=template)
    redis_url = urlsplit(redis_server_url)._replace(path=f"/{REDIS_DATABASES - 1}").geturl()
    folder: Path = tmp_path_factory.mktemp("told")
    # Made up first: nothing else of this process goes on meanwhile, and leases would run out.
    story, neighbours = events_of(SEED), events_of(SEED + 1)
    async with telling(settings_of(store_url, redis_url, folder)) as told:
        await told.tell(neighbours, tenant=OTHER_TENANT)
        await told.tell(story)
        yield told
    drop_database(postgres_url, store_url)


def events_of(seed: int) -> list[Recorded]:
    """Return a story's events."""
    story = Story(seed)
    for _ in range(STEPS):
        story.step()
    story.carry_out(ReceiveStock(site_id="S1", item_id="LOT", lot=ODD_LOT, quantity=5))
    for _ in range(ORDERS_AT_ONCE):
        story.carry_out(story.place())
    return story.log.events
