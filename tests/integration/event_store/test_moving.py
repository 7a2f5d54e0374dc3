"""Tenants that move between servers under traffic, and movers that are killed; two databases are two servers here."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from event_store.connections import connect
from event_store.failures import PartitionNotHere, TenantHasEvents, TenantLivedThere, TenantOnItsWay
from event_store.integrity import verify_log
from event_store.log import Answer
from event_store.migrate import LogNotEmpty, migrate
from event_store.placement import home_of
from event_store.postgres import PostgresLog
from infra.failpoints import FailpointReached, arm
from schemas.envelope import BEGINNING, RecordedEvent
from schemas.errors import OutcomeUnknown, StoreUnavailable, TenantMoving
from schemas.moves import TenantArrived, TenantLeft
from tests.contract.log.appends import append, key
from tests.integration.event_store.lost_tail import lose_tail
from tests.moving import FENCED, STEPS, killed_at
from tests.services import NAMESPACE, create_database, drop_database

NEAR, FAR = range(4), range(4, 8)
ALL = range(8)
NOTICED_SECONDS = 2.0


def tenants_at(home: int) -> Iterator[str]:
    """Return names of tenants whose home is a partition."""
    return (name for name in (f"t{number}" for number in range(1_000)) if home_of(name, ALL) == home)


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


@pytest.fixture
def failpoints() -> Iterator[None]:
    """No failpoint stays armed."""
    yield
    arm("")


async def events_of(log: PostgresLog, tenant: str, stream: str) -> list[RecordedEvent]:
    return [event async for event in log.read_stream(tenant, stream)]


async def moves_in(log: PostgresLog, tenant: str) -> list[tuple[int, str]]:
    """Return the events of a tenant's moves, by reading every partition whole."""
    return [
        (partition, event.type)
        for partition in ALL
        for event in await log.read_range(partition, 1, 10_000)
        if event.tenant == tenant and event.type in (TenantLeft.type, TenantArrived.type)
    ]


async def test_a_mover_that_is_killed_at_any_step_is_gone_on_with(
    log: PostgresLog, urls: dict[range, str]
) -> None:  # F55
    """Its past is in two partitions; it comes to another server, or its home is another one than both."""
    for number, (step, tenant) in enumerate(zip(STEPS, tenants_at(0), strict=False)):
        via = (1, 4)[number % 2]
        await log.append_batch(0, [append("a/1", 0, 2, key=key("one"), tenant=tenant)])
        await log.move_tenant(tenant, via)
        await log.append_batch(via, [append("a/1", 2, tenant=tenant)])
        assert await killed_at(step, urls, tenant, 5) == -signal.SIGKILL, step

        async with PostgresLog(urls) as other:
            if step in FENCED:
                with pytest.raises(TenantMoving):
                    await other.append_batch(via, [append("a/1", 3, tenant=tenant)])
                with pytest.raises(TenantMoving):
                    await other.append_batch(
                        await other.partition_of(tenant), [append("a/1", 3, tenant=tenant)]
                    )
                with pytest.raises(TenantOnItsWay):
                    await other.move_tenant(tenant, 6)
                with pytest.raises(TenantHasEvents):
                    await other.place_tenant(tenant, 6)
            await other.move_tenant(tenant, 5)
            assert await other.partition_of(tenant) == 5, step
            outcomes = await other.append_batch(
                5, [append("b/1", 9, 2, key=key("one"), tenant=tenant), append("a/1", 3, tenant=tenant)]
            )
            assert [(one.answer, one.partition) for one in outcomes] == [
                (Answer.DUPLICATE, 0),
                (Answer.APPENDED, None),
            ], step
            assert [(e.partition, e.version) for e in await events_of(other, tenant, "a/1")] == [
                (0, 1), (0, 2), (via, 3), (5, 4),
            ], step  # fmt: skip
            assert await moves_in(other, tenant) == [
                (0, TenantLeft.type), (via, TenantArrived.type), (via, TenantLeft.type), (5, TenantArrived.type),
            ], step  # fmt: skip


async def test_writers_lose_nothing_and_double_nothing_while_their_tenant_moves(
    urls: dict[range, str],
) -> None:  # F55, I04, I05
    moving, staying = [name for name, _ in zip(tenants_at(2), range(2), strict=False)]
    done = asyncio.Event()
    stored: dict[str, list[str]] = {moving: [], staying: []}
    refused = 0

    async def write(tenant: str, stream: str) -> None:
        """Append one event after the other, each under a key of its own, until it is acknowledged."""
        nonlocal refused
        version = number = 0
        async with PostgresLog(urls) as own:
            while not (done.is_set() and number):
                wish = append(stream, version, key=key(f"{stream}-{number}"), tenant=tenant)
                try:
                    (outcome,) = await own.append_batch(await own.partition_of(tenant), [wish])
                except (TenantMoving, StoreUnavailable, OutcomeUnknown):
                    refused += tenant == moving
                    await asyncio.sleep(0.005)
                    continue
                assert outcome.answer in (Answer.APPENDED, Answer.DUPLICATE), outcome
                stored[tenant].append(wish.events[0].id)
                version, number = outcome.version, number + 1

    writers = [
        asyncio.create_task(write(tenant, stream))
        for tenant in (moving, staying)
        for stream in ("a/1", "a/2", "a/3")
    ]
    async with PostgresLog(urls) as log:
        for to in (6, 0, 7):
            await grown(stored, moving)
            await log.move_tenant(moving, to)
        await grown(stored, moving)
        await grown(stored, staying)
        done.set()
        await asyncio.gather(*writers)

        assert [one.partition for one in await log.residences_of(moving)] == [2, 6, 0, 7]
        for tenant, ids in stored.items():
            streams = [await events_of(log, tenant, name) for name in ("a/1", "a/2", "a/3")]
            assert sorted(event.id for events in streams for event in events) == sorted(ids)
            for events in streams:
                assert [event.version for event in events] == list(range(1, len(events) + 1))
        assert (await verify_log(log, ALL)).ok
        assert refused > 0


async def grown(stored: dict[str, list[str]], tenant: str) -> None:
    """Wait until a tenant has some more events."""
    wanted = len(stored[tenant]) + 20
    while len(stored[tenant]) < wanted:
        await asyncio.sleep(0.005)


async def test_of_two_movers_at_once_one_moves_and_both_find_it_done(log: PostgresLog) -> None:  # F55
    tenant = next(tenants_at(1))
    await log.append_batch(1, [append("a/1", 0, tenant=tenant)])
    await asyncio.gather(log.move_tenant(tenant, 4), log.move_tenant(tenant, 4))
    assert await moves_in(log, tenant) == [(1, TenantLeft.type), (4, TenantArrived.type)]
    await log.append_batch(4, [append("a/1", 1, tenant=tenant)])


async def test_what_a_move_may_not_do_is_said_by_type(log: PostgresLog) -> None:
    tenant, placed, *_ = [name for name, _ in zip(tenants_at(3), range(2), strict=False)]
    await log.append_batch(3, [append("a/1", 0, tenant=tenant)])
    await log.move_tenant(tenant, 4)
    with pytest.raises(TenantLivedThere):
        await log.move_tenant(tenant, 3)
    with pytest.raises(PartitionNotHere):
        await log.move_tenant(tenant, 8)
    assert await log.move_tenant(placed, 5) is not None
    assert not (await log.residences_of(placed)).has_moved, "without events it is only placed"
    await log.append_batch(5, [append("a/1", 0, tenant=placed)])


async def test_no_placement_but_the_moves_own_is_taken(
    log: PostgresLog, urls: dict[range, str]
) -> None:  # F55
    tenant = next(tenants_at(3))
    await log.append_batch(3, [append("a/1", 0, tenant=tenant)])
    await log.move_tenant(tenant, 4)
    for url in urls.values():
        connection = await connect(url)
        for change in (
            "UPDATE everfold.tenant_partitions SET partition = 3",
            "DELETE FROM everfold.tenant_partitions",
        ):
            with pytest.raises(asyncpg.PostgresError) as refusal:
                await connection.execute(change)
            assert refusal.value.sqlstate == "ES006"
        connection.terminate()
    for partitions, url in urls.items():
        with pytest.raises(LogNotEmpty):
            migrate(url, NAMESPACE, partitions, to="r0017_live_tickets")


async def test_after_a_restore_that_lost_an_arrival_the_same_command_has_it_take_place_again(
    log: PostgresLog, urls: dict[range, str]
) -> None:  # F55
    tenant = next(tenants_at(0))
    await log.append_batch(0, [append("a/1", 0, 3, key=key("one"), tenant=tenant)])
    await log.move_tenant(tenant, 4)
    admin = await connect(urls[FAR])
    await lose_tail(admin, 4, after=0)
    async with admin.transaction():
        await admin.execute("SET LOCAL session_replication_role = replica")
        for table in ("tenant_moves", "tenant_partitions", "moved_keys", "streams"):
            await admin.execute(f"DELETE FROM everfold.{table}")
    admin.terminate()

    async with PostgresLog(urls) as restored:
        await restored.append_batch(4, [append("x/1", 0, tenant="other")])
        await restored.move_tenant(tenant, 4)
        assert (await restored.residences_of(tenant)).present[:2] == (4, 2)
        outcomes = await restored.append_batch(
            4, [append("a/1", 3, tenant=tenant), append("b/1", 0, key=key("one"), tenant=tenant)]
        )
        assert [one.answer for one in outcomes] == [Answer.APPENDED, Answer.DUPLICATE]
        assert [e.version for e in await events_of(restored, tenant, "a/1")] == [1, 2, 3, 4]


async def test_readers_notice_a_move_within_two_seconds(log: PostgresLog, urls: dict[range, str]) -> None:
    tenant = next(tenants_at(0))
    async with PostgresLog(urls) as reader:
        await log.append_batch(0, [append("a/1", 0, tenant=tenant)])
        assert await reader.partition_of(tenant) == 0
        await log.move_tenant(tenant, 4)
        await log.append_batch(4, [append("a/1", 1, tenant=tenant)])
        async with asyncio.timeout(NOTICED_SECONDS):
            while (await reader.residences_of(tenant)).present.partition != 4:
                await asyncio.sleep(0.01)
        assert [event.partition for event in await events_of(reader, tenant, "a/1")] == [0, 4]


async def test_a_tenant_that_is_on_its_way_is_read_where_it_came_from(
    log: PostgresLog, urls: dict[range, str], failpoints: None
) -> None:
    tenant = next(tenants_at(0))
    await log.append_batch(0, [append("a/1", 0, tenant=tenant)])
    arm("move.copied=raise")
    with pytest.raises(FailpointReached):
        await log.move_tenant(tenant, 4)
    arm("")
    async with PostgresLog(urls) as other:
        with pytest.raises(TenantMoving):
            await other.partition_of(tenant)
        assert await other.likely_partition_of(tenant) == 0
        assert (await other.residences_of(tenant)).is_moving
        assert [event.partition for event in await events_of(other, tenant, "a/1")] == [0]
    await log.move_tenant(tenant, 4)
    page = await log.read_page(4, BEGINNING, events_max=10)
    assert page.arrival is not None
    assert page.arrival.fence == (await log.heads())[0]
