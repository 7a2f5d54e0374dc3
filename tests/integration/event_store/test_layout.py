"""The layout of a database: migrated, checked, taken back, and grown ahead of the log."""

import asyncio
from datetime import timedelta

import pytest

from event_store.connections import StoreConnection, connect
from event_store.failures import PartitionNotHere, TenantHasEvents
from event_store.integrity import verify_log
from event_store.log import Answer
from event_store.migrate import LogNotEmpty, migrate, migrate_all
from event_store.placement import home_of
from event_store.postgres import PostgresLog
from schemas.envelope import BEGINNING
from schemas.errors import BadDefinition, StoreUnavailable, TenantMoving
from tests.contract.log.appends import append, key, tagged
from tests.integration.event_store.test_old_keys import age_keys

Urls = dict[range, str]


async def relations(url: str, namespace: str) -> set[str]:
    connection = await connect(url)
    try:
        rows = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace($1)", namespace
        )
        return {row[0] for row in rows}
    finally:
        connection.terminate()


async def test_a_database_is_checked_migrated_and_checked_again(database: str) -> None:
    before = migrate(database, "everfold", range(2), check=True)
    assert (before.before, before.is_current, before.partitions_missing) == (None, False, (0, 1))
    assert await relations(database, "everfold") == set()
    done = migrate(database, "everfold", range(2), reason="a test")
    assert (done.before, done.after, done.partitions_made) == (None, done.newest, (0, 1))
    assert migrate(database, "everfold", range(2), check=True).is_current
    assert migrate(database, "everfold", range(2)).partitions_made == ()
    connection = await connect(database)
    runs = await connection.fetch(
        "SELECT revision_before, revision_after, reason FROM everfold.migration_runs"
    )
    assert [tuple(run) for run in runs] == [(None, done.newest, "a test")]
    connection.terminate()


async def test_an_empty_log_can_be_taken_away_and_one_with_events_cannot(database: str) -> None:
    migrate(database, "everfold", range(1))
    assert migrate(database, "everfold", range(1), to="base").after is None
    assert await relations(database, "everfold") <= {
        "migration_runs", "schema_revision", "schema_revision_pkc",
    }  # fmt: skip
    migrate(database, "everfold", range(1))
    async with PostgresLog({range(1): database}) as log:
        await log.append_batch(0, [append("a/1", 0)])
        with pytest.raises(LogNotEmpty):
            migrate(database, "everfold", range(1), to="base")
        assert (await log.heads())[0].position == 1


async def test_several_migrations_at_once_do_the_work_once(database: str) -> None:
    done = await asyncio.gather(
        *(asyncio.to_thread(migrate, database, "everfold", range(2)) for _ in range(3))
    )
    assert sorted(len(one.partitions_made) for one in done) == [0, 0, 2]
    assert len({one.after for one in done}) == 1


def test_the_number_of_partitions_is_fixed_for_a_logs_life(database: str) -> None:
    migrate(database, "everfold", range(2))
    for other in (range(1), range(3), range(1, 3)):
        with pytest.raises(BadDefinition):
            migrate(database, "everfold", other)
    assert migrate(database, "everfold", range(2), check=True).is_current


async def test_keys_outlive_the_step_to_a_table_a_day_and_the_step_back(database: str) -> None:
    migrate(database, "everfold", range(2))
    async with PostgresLog({range(2): database}) as log:
        await log.append_batch(0, [append("a/1", 0, key=key("new")), append("a/2", 0, key=key("old"))])
        await age_keys(database, "old", timedelta(hours=23))
        before = migrate(database, "everfold", range(2), to="r0004_operator_acts")
        assert before.after == "r0004_operator_acts"
        assert migrate(database, "everfold", range(2)).is_current
        outcomes = await log.append_batch(
            0, [append("a/1", 0, key=key("new")), append("a/2", 0, key=key("old"))]
        )
        assert [outcome.answer for outcome in outcomes] == [Answer.DUPLICATE] * 2
        await log.append_batch(0, [tagged("a/3", "x")])
        with pytest.raises(LogNotEmpty):
            migrate(database, "everfold", range(2), to="r0004_operator_acts")


def test_a_revision_that_is_not_known_is_refused(database: str) -> None:
    with pytest.raises(BadDefinition):
        migrate(database, "everfold", range(1), to="r9999_nothing")


def test_a_server_that_is_away_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable):
        migrate("postgresql://postgres@127.0.0.1:1/nothing", "everfold", range(1))


async def test_two_namespaces_share_a_database_without_meeting(database: str) -> None:
    for namespace in ("one", "two"):
        migrate(database, namespace, range(1))
    async with (
        PostgresLog({range(1): database}, "one") as one,
        PostgresLog({range(1): database}, "two") as two,
    ):
        await one.append_batch(0, [append("a/1", 0, key=key("k"))])
        (outcome,) = await two.append_batch(0, [append("a/1", 0, 2, key=key("k"))])
        assert (outcome.answer, outcome.position) == (Answer.APPENDED, 2)
        assert (await one.heads())[0].position == 1


async def test_partitions_stand_on_several_servers(database: str, store_url: str) -> None:
    urls: Urls = {range(1): database, range(1, 3): store_url}
    done = migrate_all(urls, database, "split")
    assert [one.partitions_made for one in done] == [(0,), (1, 2)]
    async with PostgresLog(urls, "split") as log:
        assert list(log.partitions) == [0, 1, 2]
        for partition in log.partitions:
            await log.append_batch(partition, [append("a/1", 0, partition + 1)])
        assert {p: mark.position for p, mark in (await log.heads()).items()} == {0: 1, 1: 2, 2: 3}
        assert (await verify_log(log, log.partitions)).events == 6
    async with PostgresLog({range(2): database, range(2, 3): store_url}, "split") as wrong:
        with pytest.raises(PartitionNotHere):
            await wrong.append_batch(1, [append("a/1", 0)])
        with pytest.raises(PartitionNotHere):
            await wrong.append_batch(9, [append("a/1", 0)])


async def test_the_log_grows_from_one_range_into_the_next(database: str) -> None:
    migrate(database, "everfold", range(1), range_events=10)
    async with PostgresLog({range(1): database}) as log:
        for version in range(0, 60, 3):
            await log.keep_house(0, keys_kept=timedelta(days=1))
            await log.append_batch(0, [append("demo/1", version, 3)])
        events = [event async for event in log.read_stream("acme", "demo/1")]
        assert [event.version for event in events] == list(range(1, 61))
        page = await log.read_page(0, BEGINNING, events_max=100)
        assert [event.position for event in page.events] == list(range(1, 61))
        assert (await verify_log(log, [0])).ok
    ranges = {name for name in await relations(database, "everfold") if name.startswith("events_p0_r")}
    assert {f"events_p0_r{number}" for number in range(7)} <= ranges


async def test_an_append_that_no_range_is_there_for_has_it_made_and_succeeds_when_repeated(
    database: str,
) -> None:
    migrate(database, "everfold", range(1), range_events=5)
    async with PostgresLog({range(1): database}) as log:
        await log.append_batch(0, [append("a/1", 0, 8)])
        with pytest.raises(StoreUnavailable):
            await log.append_batch(0, [append("a/1", 8, 4)])
        (outcome,) = await log.append_batch(0, [append("a/1", 8, 4)])
        assert (outcome.answer, outcome.position) == (Answer.APPENDED, 12)


async def test_appends_go_on_while_a_range_is_made(database: str, log: PostgresLog) -> None:
    """The table is attached, which takes no lock that an append waits for."""
    migrate(database, "everfold", range(1), range_events=5)
    async with PostgresLog({range(1): database}) as log:
        await log.append_batch(0, [append("a/1", 0, 6)])
        holder = await connect(database)
        async with holder.transaction():
            await holder.execute("SELECT everfold.ensure_ranges_v1(0)")
            async with asyncio.timeout(2):
                (outcome,) = await log.append_batch(0, [append("a/1", 6)])
        assert outcome.answer is Answer.APPENDED
        holder.terminate()


async def test_a_tenant_is_placed_before_its_first_event_and_stays(log: PostgresLog, store_url: str) -> None:
    """F55"""
    home = home_of("acme", log.partitions)
    other = (home + 1) % len(log.partitions)
    async with PostgresLog({range(8): store_url}) as stale:
        assert await stale.partition_of("acme") == home
        await log.place_tenant("acme", other)
        assert await log.partition_of("acme") == other
        with pytest.raises(TenantMoving):
            await stale.append_batch(home, [append("a/1", 0)])
        assert await stale.partition_of("acme") == other
    await log.append_batch(other, [append("a/1", 0)])
    await log.place_tenant("acme", other)
    with pytest.raises(TenantHasEvents):
        await log.place_tenant("acme", home)
    assert await log.partition_of("acme") == other


async def test_followers_are_told_of_a_new_head(log: PostgresLog, admin: StoreConnection) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    await admin.add_listener("everfold_head", lambda *news: told.put_nowait(news[-1]))
    await log.append_batch(3, [append("a/1", 0, 2)])
    async with asyncio.timeout(5):
        assert await told.get() == "3:2"
    for version in range(2, 12):
        await log.append_batch(3, [append("a/1", version)])
    async with asyncio.timeout(5):
        while await told.get() != "3:12":
            pass
