"""The log on a database of the test's own, and a superuser's connection to it."""

from collections.abc import AsyncIterator

import pytest

from event_store.connections import StoreConnection, connect
from event_store.postgres import PostgresLog
from tests.services import PARTITIONS


@pytest.fixture
async def log(store_url: str) -> AsyncIterator[PostgresLog]:
    """An empty log."""
    async with PostgresLog({range(PARTITIONS): store_url}) as log:
        yield log


@pytest.fixture
async def admin(store_url: str) -> AsyncIterator[StoreConnection]:
    """A superuser's connection to the log's database."""
    connection = await connect(store_url)
    yield connection
    connection.terminate()
