"""Where tenants live when the log stands on several servers: two databases of one server are two of them to the log."""

from collections.abc import AsyncIterator, Iterator

import pytest

from event_store.failures import PartitionNotHere, TenantHasEvents
from event_store.migrate import migrate
from event_store.placement import home_of
from event_store.postgres import PostgresLog
from schemas.errors import StoreUnavailable, TenantMoving
from tests.contract.log.appends import TENANT, append
from tests.services import NAMESPACE, create_database, drop_database

NEAR, FAR = range(4), range(4, 8)
HOME = home_of(TENANT, range(8))
BESIDE = next(partition for partition in (NEAR if HOME in NEAR else FAR) if partition != HOME)
NOBODY = "postgresql://127.0.0.1:1/nobody"
UNPLACED = next(name for name in map(str, range(1_000)) if home_of(name, range(8)) == HOME)
ACROSS, BESIDE_ACROSS = (FAR if HOME in NEAR else NEAR)[:2]


@pytest.fixture
def urls(postgres_url: str) -> Iterator[dict[range, str]]:
    """Two databases, each with half of the partitions."""
    made = {partitions: create_database(postgres_url) for partitions in (NEAR, FAR)}
    for partitions, url in made.items():
        migrate(url, NAMESPACE, partitions)
    yield made
    for url in made.values():
        drop_database(postgres_url, url)


@pytest.fixture
async def log(urls: dict[range, str]) -> AsyncIterator[PostgresLog]:
    """A log on both."""
    async with PostgresLog(urls) as log:
        yield log


async def test_a_tenant_with_events_on_another_server_stays_there(
    log: PostgresLog, urls: dict[range, str]
) -> None:
    await log.place_tenant(TENANT, ACROSS)
    await log.append_batch(ACROSS, [append("a/1", 0)])
    for elsewhere in (HOME, BESIDE, BESIDE_ACROSS):
        with pytest.raises(TenantHasEvents):
            await log.place_tenant(TENANT, elsewhere)
    async with PostgresLog(urls) as another:
        assert await another.partition_of(TENANT) == ACROSS


async def test_a_tenant_without_events_may_be_placed_again(log: PostgresLog) -> None:
    for partition in (ACROSS, BESIDE, BESIDE_ACROSS, HOME):
        await log.place_tenant(TENANT, partition)
        assert await log.partition_of(TENANT) == partition
    await log.append_batch(HOME, [append("a/1", 0)])


async def test_where_a_tenant_lived_before_takes_no_events_of_it(
    log: PostgresLog, urls: dict[range, str]
) -> None:
    async with PostgresLog(urls) as stale:
        await log.place_tenant(TENANT, ACROSS)
        assert await stale.partition_of(TENANT) == ACROSS
        await log.place_tenant(TENANT, BESIDE)
        with pytest.raises(TenantMoving):
            await stale.append_batch(ACROSS, [append("a/1", 0)])
        assert await stale.partition_of(TENANT) == BESIDE


async def test_there_is_no_placement_in_a_partition_that_the_log_has_not(log: PostgresLog) -> None:
    with pytest.raises(PartitionNotHere):
        await log.place_tenant(TENANT, 8)
    assert await log.partition_of(TENANT) == HOME


async def test_where_to_read_is_known_while_the_server_with_the_word_on_it_is_away(
    log: PostgresLog, urls: dict[range, str]
) -> None:
    await log.place_tenant(TENANT, ACROSS)
    away = {part: url if HOME not in part else NOBODY for part, url in urls.items()}
    async with PostgresLog(away) as other:
        with pytest.raises(StoreUnavailable):
            await other.partition_of(TENANT)
        assert await other.likely_partition_of(TENANT) == ACROSS
        assert await other.likely_partition_of(UNPLACED) == HOME
    async with PostgresLog(dict.fromkeys(urls, NOBODY)) as nothing:
        with pytest.raises(StoreUnavailable):
            await nothing.likely_partition_of(TENANT)
