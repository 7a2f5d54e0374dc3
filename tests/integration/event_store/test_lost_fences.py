"""A server is put back to before a tenant left it: the fence is put up again before anybody writes there. # F55 F57"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from event_store.archive import Policy
from event_store.connections import connect
from event_store.integrity import verify_log
from event_store.log import Answer, Snapshot
from event_store.log_check import LogCheck
from event_store.lost_moves import LostMoves, refusals
from event_store.migrate import migrate
from event_store.object_store import DirectoryStore
from event_store.postgres import PostgresLog
from event_store.recovery import NotRecoverable, recover
from event_store.standing import GuardedLog, RestoredUnverified
from infra.failpoints import FailpointReached, arm
from infra.settings import Settings, load_settings
from schemas.envelope import BEGINNING, RecordedEvent
from schemas.errors import TenantMoving
from schemas.moves import TenantArrived, TenantLeft
from tests.archives import archiver_of
from tests.contract.log.appends import append, key
from tests.integration.event_store.test_moving import ALL, FAR, NEAR, events_of, moves_in, tenants_at
from tests.services import NAMESPACE, create_database, drop_database

LEFT, TO, THIRD = 0, 4, 1
OTHER = "globex"
LOG_ID = "6f1b6f0e-0000-4000-8000-000000000000"


class Restorable:
    """A log on two databases, of which a copy can be put in the place of one."""

    def __init__(self, postgres_url: str, urls: dict[range, str]) -> None:
        self.urls = urls
        self._server = postgres_url
        self._copies: dict[range, str] = {}

    def copy(self, part: range) -> None:
        """Keep a copy of a database as it is; nobody is connected to it."""
        self._copies[part] = create_database(self._server, template=_name(self.urls[part]))

    async def restore(self, part: range) -> None:
        """Put the copy in the database's place."""
        url = self.urls[part]
        drop_database(self._server, url)
        admin = await asyncpg.connect(self._server)
        await admin.execute(f"ALTER DATABASE {_name(self._copies.pop(part))} RENAME TO {_name(url)}")
        await admin.close()

    def log(self, **more: Any) -> PostgresLog:
        """Return a log that knows nothing yet."""
        return PostgresLog(self.urls, NAMESPACE, **more)

    def drop(self) -> None:
        """Leave nothing behind."""
        for url in (*self.urls.values(), *self._copies.values()):
            drop_database(self._server, url)


def _name(url: str) -> str:
    return url.rpartition("/")[2]


@pytest.fixture
def stored(postgres_url: str) -> Iterator[Restorable]:
    """Two databases with half of the partitions each; they are parts of one log."""
    urls = {part: create_database(postgres_url) for part in (NEAR, FAR)}
    for part, url in urls.items():
        migrate(url, NAMESPACE, part, range_events=8, log_id=LOG_ID)
    stored = Restorable(postgres_url, urls)
    yield stored
    stored.drop()


@pytest.fixture
def failpoints() -> Iterator[None]:
    """No failpoint stays armed."""
    yield
    arm("")


@pytest.fixture
async def tenant(stored: Restorable) -> str:
    """A tenant of partition 0, three events old, and a neighbour."""
    tenant = next(tenants_at(LEFT))
    async with stored.log() as log:
        await log.append_batch(
            LEFT, [append("a/1", 0, 3, key=key("one"), tenant=tenant), append("n/1", 0, tenant=OTHER)]
        )
    return tenant


async def put_up_again(log: PostgresLog) -> list[dict[str, Any]]:
    kept = await LostMoves(log, actor="ann", reason="restored").put_up_again()
    assert not refusals(kept)
    return [one.document() for one in kept]


def of_tenant(events: Sequence[RecordedEvent]) -> list[tuple[int, int]]:
    return [(event.partition, event.version) for event in events]


async def has_left(log: PostgresLog, tenant: str, *partitions: int) -> None:
    """Check that partitions take nothing of a tenant, also by a process that has never heard of its moves."""
    for partition in partitions:
        with pytest.raises(TenantMoving):
            await log.append_batch(partition, [append("a/1", 3, tenant=tenant)])
        with pytest.raises(TenantMoving):
            await log.append_batch(partition, [append("new/1", 0, tenant=tenant)])


async def test_a_fence_that_was_lost_is_put_up_again_and_the_past_goes_on_where_it_went(
    stored: Restorable, tenant: str
) -> None:
    stored.copy(NEAR)
    async with stored.log() as log:
        await log.move_tenant(tenant, TO)
        await log.append_batch(TO, [append("a/1", 3, tenant=tenant)])
    await stored.restore(NEAR)

    async with stored.log() as log:
        assert await log.partition_of(tenant) == LEFT, "the restored server would take it again"
        (kept,) = await put_up_again(log)
        assert (kept["tenant"], kept["partition"], kept["fences"]) == (tenant, TO, {str(LEFT): 5})
        assert (kept["streams_cut"], kept["streams_doubled"]) == (0, 0)
        assert await moves_in(log, tenant) == [(LEFT, TenantLeft.type), (TO, TenantArrived.type)]
        (again,) = await put_up_again(log)
        assert (again["fences"], again["torn"], again["streams_cut"]) == ({}, [LEFT], 0), "nothing more to do"
    async with stored.log() as log:
        assert await log.partition_of(tenant) == TO
        await has_left(log, tenant, LEFT, THIRD)
        first, last = await log.append_batch(
            TO, [append("b/1", 0, key=key("one"), tenant=tenant), append("a/1", 4, tenant=tenant)]
        )
        assert (first.answer, first.partition, last.answer) == (Answer.DUPLICATE, LEFT, Answer.APPENDED)
        assert of_tenant(await events_of(log, tenant, "a/1")) == [
            (LEFT, 1), (LEFT, 2), (LEFT, 3), (TO, 4), (TO, 5),
        ]  # fmt: skip
        residence = (await log.residences_of(tenant)).before(TO)[0]
        assert residence.last_position == (await log.heads())[LEFT].position == 5
        assert (await verify_log(log, ALL)).ok


async def test_what_was_lost_before_the_fence_is_said_and_keys_bound_to_it_are_free_again(
    stored: Restorable, tenant: str
) -> None:
    stored.copy(NEAR)
    async with stored.log() as log:
        await log.append_batch(
            LEFT, [append("a/1", 3, 2, key=key("lost"), tenant=tenant), append("b/1", 0, tenant=tenant)]
        )
        await log.move_tenant(tenant, TO)
        outcomes = await log.append_batch(
            TO, [append("a/1", 5, tenant=tenant), append("c/1", 0, tenant=tenant)]
        )
        saved = Snapshot(tenant, "a/1", b"s" * 16, 1, 6, outcomes[0].commit, b"{}")
        assert await log.save_states(TO, [saved]) == 1
    await stored.restore(NEAR)
    async with stored.log() as log:
        for _ in range(2):  # the second finds the fence in its place, and the same tears
            (kept,) = await put_up_again(log)
            assert (kept["streams_cut"], kept["streams_doubled"], sorted(kept["named"])) == (
                2,
                0,
                ["a/1", "b/1"],
            )
        assert [entry async for entry in log.snapshots.list(tenant=tenant, entries_max=9)] == []
        (again,) = await log.append_batch(TO, [append("d/1", 0, key=key("lost"), tenant=tenant)])
        assert again.answer is Answer.APPENDED
        (known,) = await log.append_batch(TO, [append("d/2", 0, key=key("one"), tenant=tenant)])
        assert known.answer is Answer.DUPLICATE
        assert of_tenant(await events_of(log, tenant, "a/1")) == [(LEFT, 1), (LEFT, 2), (LEFT, 3), (TO, 6)]


async def test_a_tenant_that_was_written_in_both_partitions_recovers_nothing_and_is_written_in_one(
    stored: Restorable, tenant: str, tmp_path: Path
) -> None:
    stored.copy(NEAR)
    async with stored.log() as log:
        await log.move_tenant(tenant, TO)
        await log.append_batch(TO, [append("a/1", 3, tenant=tenant)])
        for number in range(20):
            await log.append_batch(TO, [append("x/1", number, tenant=OTHER)])
            await log.keep_house(TO, keys_kept=timedelta(days=1))
    await stored.restore(NEAR)
    store = DirectoryStore(tmp_path)
    async with stored.log(archive=store) as log:
        await log.append_batch(LEFT, [append("a/1", 3, tenant=tenant), append("e/1", 0, tenant=tenant)])
        archiver = archiver_of(log, store, stored.urls[FAR])
        assert [one async for one in archiver.run(TO, Policy(keep=0, age_min=timedelta()), actor="t")]
        for _ in range(2):
            kept = await LostMoves(log, actor="ann", reason="restored").put_up_again()
            (said,) = refusals(kept)
            assert tenant in said
            assert "a/1" in said
            assert "e/1" in said
    async with stored.log() as log:
        await has_left(log, tenant, LEFT)
        assert await log.partition_of(tenant) == TO


async def test_every_move_of_several_is_put_up_again_in_order(stored: Restorable, tenant: str) -> None:
    """The restored server had the middle of three residences, and lost an arrival and a fence of it."""
    stored.copy(FAR)
    async with stored.log() as log:
        await log.move_tenant(tenant, TO)
        await log.append_batch(TO, [append("a/1", 3, tenant=tenant)])
        await log.move_tenant(tenant, THIRD)
        await log.append_batch(THIRD, [append("a/1", 4, tenant=tenant)])
    await stored.restore(FAR)
    async with stored.log() as log:
        await log.append_batch(TO, [append("n/9", 0, 3, tenant=OTHER)])
        (kept,) = await put_up_again(log)
        assert (kept["arrivals"], kept["fences"]) == ({str(TO): 4}, {str(TO): 5})
        assert (kept["streams_cut"], kept["named"]) == (1, ["a/1"])
    async with stored.log() as log:
        assert await moves_in(log, tenant) == [
            (LEFT, TenantLeft.type), (THIRD, TenantArrived.type), (TO, TenantArrived.type), (TO, TenantLeft.type),
        ]  # fmt: skip
        assert [(one.partition, one.first_position, one.last_position) for one in await log.residences_of(tenant)] == [
            (LEFT, 1, 5), (TO, 4, 5), (THIRD, 1, None),
        ]  # fmt: skip
        await has_left(log, tenant, LEFT, TO)
        await log.append_batch(THIRD, [append("a/1", 5, tenant=tenant)])
        assert of_tenant(await events_of(log, tenant, "a/1"))[-2:] == [(THIRD, 5), (THIRD, 6)]
        assert (await verify_log(log, ALL)).ok


async def test_a_server_that_was_told_of_the_move_and_lacks_the_fence_gets_it(
    stored: Restorable, tenant: str
) -> None:
    """So a program of before left it, which told every server after a restore and put up no fence."""
    stored.copy(NEAR)
    async with stored.log() as log:
        await log.move_tenant(tenant, TO)
    far = await connect(stored.urls[FAR])
    (row,) = await far.fetch("SELECT * FROM everfold.tenant_moves")
    far.terminate()
    await stored.restore(NEAR)
    near = await connect(stored.urls[NEAR])
    await near.execute("SELECT everfold.note_move_v1($1, $2, $3, $4, $5, $6, $7, $8, $9)", *row)
    near.terminate()
    async with stored.log() as log:
        await has_left(log, tenant, LEFT)
        (kept,) = await put_up_again(log)
        assert kept["fences"] == {str(LEFT): 5}
        assert await moves_in(log, tenant) == [(LEFT, TenantLeft.type), (TO, TenantArrived.type)]
    near = await connect(stored.urls[NEAR])
    assert await near.fetchval("SELECT count(*) FROM everfold.tenant_moves") == 1, (
        "nothing that stood in stays"
    )
    near.terminate()


@pytest.mark.parametrize("step", ["before_fence_again", "fenced_again", "told"])
async def test_cut_short_it_is_gone_on_with(
    stored: Restorable, tenant: str, failpoints: None, step: str
) -> None:
    stored.copy(NEAR)
    async with stored.log() as log:
        await log.move_tenant(tenant, TO)
    await stored.restore(NEAR)
    async with stored.log() as log:
        arm(f"move.{step}=raise")
        with pytest.raises(FailpointReached):
            await put_up_again(log)
        arm("")
    async with stored.log() as log:
        if step != "before_fence_again":
            await has_left(log, tenant, LEFT)
        await put_up_again(log)
        assert await moves_in(log, tenant) == [(LEFT, TenantLeft.type), (TO, TenantArrived.type)]
        assert await log.partition_of(tenant) == TO
        for url in stored.urls.values():
            admin = await connect(url)
            assert await admin.fetchval("SELECT sum(left_position) FROM everfold.tenant_moves") == 5
            admin.terminate()


async def test_the_same_command_of_a_move_puts_its_fence_up_again_too(
    stored: Restorable, tenant: str
) -> None:
    stored.copy(NEAR)
    async with stored.log() as log:
        await log.move_tenant(tenant, TO)
    await stored.restore(NEAR)
    async with stored.log() as log:
        await log.move_tenant(tenant, TO)
        assert await moves_in(log, tenant) == [(LEFT, TenantLeft.type), (TO, TenantArrived.type)]
        await has_left(log, tenant, LEFT)


async def test_a_placement_that_one_server_has_lost_is_told_to_it_again(stored: Restorable) -> None:
    placed, empty = [name for name, _ in zip(tenants_at(LEFT), range(2), strict=False)]
    stored.copy(NEAR)
    async with stored.log() as log:
        for name in (placed, empty):
            await log.place_tenant(name, TO)
        await log.append_batch(TO, [append("a/1", 0, tenant=placed)])
    await stored.restore(NEAR)
    async with stored.log() as log:
        assert await log.partition_of(placed) == LEFT
        kept = {one["tenant"]: one for one in await put_up_again(log)}
        assert {name: (one["placed"], one["partition"]) for name, one in kept.items()} == {
            placed: (True, TO), empty: (True, TO),
        }  # fmt: skip
    async with stored.log() as log:
        assert [await log.partition_of(name) for name in (placed, empty)] == [TO, TO]
        await has_left(log, placed, LEFT)
        assert await put_up_again(log) == []


async def test_a_tenant_that_was_placed_and_then_written_in_both_is_said(stored: Restorable) -> None:
    placed = next(tenants_at(LEFT))
    stored.copy(NEAR)
    async with stored.log() as log:
        await log.place_tenant(placed, TO)
        await log.append_batch(TO, [append("a/1", 0, tenant=placed)])
    await stored.restore(NEAR)
    async with stored.log() as log:
        await log.append_batch(LEFT, [append("a/1", 0, tenant=placed)])
        (said,) = refusals(await LostMoves(log, actor="ann", reason="restored").put_up_again())
        assert placed in said


# -- everfold recover -------------------------------------------------------------------------------------


@pytest.fixture
def guarded(stored: Restorable, tmp_path: Path) -> Settings:
    """Settings of a log whose heads are kept outside."""
    (heads := tmp_path / "heads").mkdir()
    near, far = stored.urls[NEAR], stored.urls[FAR]
    return load_settings(
        _env_file=None, store_url=f"0-3={near},4-7={far}", read_url=far, data_dir=tmp_path / "data", heads=heads,
        domains="toy", broker_url="log",
    )  # fmt: skip


async def export(settings: Settings) -> None:
    async with PostgresLog(settings.store_urls, NAMESPACE) as log:
        check = LogCheck.planned(settings, against=None, since=None, export=settings.heads)
        await check.run(settings, log)


async def recovered(settings: Settings) -> dict[str, Any]:
    assert settings.heads is not None
    async with (
        PostgresLog(settings.store_urls, NAMESPACE) as log,
        asyncpg.create_pool(settings.read_url_or_store, min_size=1, max_size=2) as pool,
    ):
        return await recover(settings, log, pool, settings.heads, reason=None, steps={})


async def test_recovering_puts_the_fence_up_before_anything_is_served(
    stored: Restorable, guarded: Settings, tenant: str, failpoints: None
) -> None:
    stored.copy(NEAR)
    async with stored.log() as log:
        await log.move_tenant(tenant, TO)
        await log.append_batch(TO, [append("a/1", 3, tenant=tenant)])
    await export(guarded)
    await stored.restore(NEAR)
    for step in ("verified", "moves", "epoch"):
        arm(f"recover.{step}=raise")
        with pytest.raises(FailpointReached):
            await recovered(guarded)
        arm("")
        async with GuardedLog(guarded) as log:
            for partition in (LEFT, TO):
                with pytest.raises((RestoredUnverified, TenantMoving)):
                    await log.append_batch(partition, [append("a/1", 4, tenant=tenant)])
            assert log.standing.missing(), f"cut short after {step} nobody serves"
    report = await recovered(guarded)
    assert (report["lost"][0]["partition"], report["lost"][0]["position"]) == (LEFT, 5)
    async with GuardedLog(guarded) as log:
        assert not log.standing.missing()
        assert await log.partition_of(tenant) == TO
        await has_left(log, tenant, LEFT)
        assert await moves_in(log, tenant) == [(LEFT, TenantLeft.type), (TO, TenantArrived.type)]
        (taken,) = await log.append_batch(TO, [append("a/1", 4, tenant=tenant)])
        assert taken.answer is Answer.APPENDED
        page = await log.read_page(LEFT, BEGINNING, events_max=10)
        assert [event.type for event in page.events][-1] == TenantLeft.type


async def test_timers_of_lost_events_that_went_along_with_their_tenant_are_forgotten(
    stored: Restorable, guarded: Settings, tenant: str
) -> None:
    stored.copy(NEAR)
    async with stored.log() as log:
        lost, there = append("a/1", 3, tenant=tenant), append("a/1", 4, tenant=tenant)
        await log.append_batch(LEFT, [lost])
        await log.move_tenant(tenant, TO)
        await log.append_batch(TO, [there])
        kept = (await events_of(log, tenant, "a/1"))[0].id
    await export(guarded)
    pool = await asyncpg.connect(guarded.read_url_or_store)
    timer = (
        "INSERT INTO everfold.scheduled_commands (partition, workflow, tenant, key, due_at, try_at, command, fields, "
        "idempotency_key, causation_id, correlation_id) VALUES ($1, 'w', $2, $3, now(), now(), 'c', '', '', $4, '')"
    )
    for partition, key_, cause in (
        (TO, "lost", lost.events[0].id),
        (-1 - TO, "lost on its way", lost.events[0].id),
        (TO, "old", kept),
        (TO, "new", there.events[0].id),
    ):
        await pool.execute(timer, partition, tenant, key_, cause)
    await stored.restore(NEAR)
    report = await recovered(guarded)
    assert report["followers"]["forgotten"] == {"timers": 2}
    rows = await pool.fetch("SELECT key FROM everfold.scheduled_commands ORDER BY key")
    await pool.close()
    assert [row["key"] for row in rows] == ["new", "old"]


async def test_two_histories_of_a_tenant_are_not_recovered_from(
    stored: Restorable, guarded: Settings, tenant: str
) -> None:
    stored.copy(NEAR)
    async with stored.log() as log:
        await log.move_tenant(tenant, TO)
        await log.append_batch(TO, [append("a/1", 3, tenant=tenant)])
    await export(guarded)
    await stored.restore(NEAR)
    async with stored.log() as unguarded:
        await unguarded.append_batch(LEFT, [append("a/1", 3, tenant=tenant)])
    with pytest.raises(NotRecoverable, match="two histories"):
        await recovered(guarded)
    async with GuardedLog(guarded) as log:
        assert log.standing.missing()
    async with stored.log() as unguarded:
        await has_left(unguarded, tenant, LEFT)
