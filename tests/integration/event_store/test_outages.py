"""What is lost on the way: refused, undone, or unknown and then settled, but never guessed."""

import asyncio
import random
from collections.abc import Sequence
from uuid import uuid4

import asyncpg
import pytest

from event_store.codec import Batch
from event_store.connections import StoreConnection
from event_store.log import Answer, Append, Check, NewEvent, Outcome, StreamTail
from event_store.migrate import migrate
from event_store.postgres import PostgresLog
from infra.embedded.server import RunningServer
from infra.sql import load_sql
from schemas.envelope import BEGINNING
from schemas.errors import OutcomeUnknown, StoreUnavailable
from tests.contract.log.appends import append, key
from tests.integration.command_api.proxy import proxy_to
from tests.services import PARTITIONS

POLL_SECONDS = 0.01
WAIT_SECONDS_MAX = 10.0
LATE_CALL = 77
LOCK = "SELECT FROM everfold.partitions WHERE partition = 0 FOR UPDATE"
WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'everfold-writer'"
    " AND wait_event_type = 'Lock'"
)


async def waiting_writer(admin: StoreConnection) -> int:
    """Wait until an append waits for the partition's lock, and return its process."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not (pid := await admin.fetchval(WAITING)):
            await asyncio.sleep(POLL_SECONDS)
            await admin.execute(
                "SELECT pg_stat_clear_snapshot()"
            )  # a transaction would else see the same for ever
    return int(pid)


async def until_appended(log: PostgresLog, position: int) -> None:
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while (await log.heads())[0].position < position:
            await asyncio.sleep(POLL_SECONDS)


async def test_a_writer_that_is_killed_leaves_the_outcome_unknown_and_it_is_settled(
    log: PostgresLog, admin: StoreConnection
) -> None:
    """F16"""
    wanted = append("a/1", 0)
    async with admin.transaction():
        await admin.execute(LOCK)
        lost = asyncio.create_task(log.append_batch(0, [wanted]))
        pid = await waiting_writer(admin)
        await admin.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(OutcomeUnknown):
            await lost
    assert await log.settle(0, wanted) is None
    (outcome,) = await log.append_batch(0, [wanted])
    assert outcome.answer is Answer.APPENDED


@pytest.mark.parametrize("named", [True, False], ids=["by its key", "by its events"])
async def test_a_reply_that_is_lost_after_commit_is_settled(
    log: PostgresLog, store_url: str, named: bool
) -> None:
    """F02, T06"""
    wanted = append("a/lost", 0, 2, key=key("k") if named else None)
    async with proxy_to(store_url) as (proxy, url), PostgresLog({range(PARTITIONS): url}) as cut:
        await cut.append_batch(0, [append("a/0", 0)])
        proxy.cut_after = lambda part: b"a/lost" in part
        with pytest.raises(OutcomeUnknown):
            await cut.append_batch(0, [wanted])
        proxy.cut_after = None
        await until_appended(log, 3)
        settled = await cut.settle(0, wanted)
    head = await log.head(0)
    assert head is not None
    assert settled == Outcome(Answer.APPENDED, 3, 2, head.mark, "a/lost", 2)


async def test_a_call_that_was_settled_does_nothing_when_it_arrives_late(
    log: PostgresLog, store_url: str, admin: StoreConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on its way when `settle` says no is refused, though no key and no version would stop it."""
    monkeypatch.setattr("event_store.postgres.random.getrandbits", lambda bits: LATE_CALL)
    wanted = append("a/late", -1)
    async with proxy_to(store_url) as (proxy, url), PostgresLog({range(PARTITIONS): url}) as cut:
        proxy.cut_before = lambda part: b"a/late" in part
        with pytest.raises(OutcomeUnknown):
            await cut.append_batch(0, [wanted])
        proxy.cut_before = None
        assert await cut.settle(0, wanted) is None
    call = load_sql("event_store", "sql/queries/append_batch.sql", namespace="everfold")
    with pytest.raises(asyncpg.PostgresError) as refused:
        await admin.execute(call, 0, LATE_CALL, *BEGINNING, *Batch([wanted]).arguments())
    assert refused.value.sqlstate == "ES004"
    assert await log.head(0) is None


async def test_a_warning_at_commit_is_no_success(log: PostgresLog, admin: StoreConnection) -> None:
    """F19: a cut-short wait for a standby is reported as success with a warning; any warning is taken for one."""
    await admin.execute(
        "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE WARNING ''w''; RETURN NULL; END';"
        "CREATE TRIGGER warn AFTER INSERT ON everfold.commits EXECUTE FUNCTION warn()"
    )
    wanted = append("a/1", 0)
    with pytest.raises(OutcomeUnknown):
        await log.append_batch(0, [wanted])
    settled = await log.settle(0, wanted)
    assert settled is not None
    assert settled.answer is Answer.APPENDED


async def test_a_partition_that_somebody_holds_is_unavailable_and_the_others_do_not_notice(
    log: PostgresLog, admin: StoreConnection
) -> None:
    """F21"""
    async with admin.transaction():
        await admin.execute(LOCK)
        held = asyncio.create_task(log.append_batch(0, [append("a/1", 0)]))
        await waiting_writer(admin)
        (outcome,) = await log.append_batch(1, [append("a/1", 0)])
        assert outcome.answer is Answer.APPENDED
        with pytest.raises(StoreUnavailable):
            await held
    (outcome,) = await log.append_batch(0, [append("a/1", 0)])
    assert outcome.answer is Answer.APPENDED


async def test_a_server_that_takes_no_more_connections_is_unavailable(
    log: PostgresLog, store_url: str, admin: StoreConnection
) -> None:
    """F23"""
    role = f"limited_{uuid4().hex[:8]}"
    await admin.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0 PASSWORD 'limited'")
    limited = store_url.replace(store_url.split("//")[1].split("@")[0], f"{role}:limited")
    try:
        async with PostgresLog({range(PARTITIONS): limited}) as refused:
            with pytest.raises(StoreUnavailable):
                await refused.append_batch(0, [append("a/1", 0)])
            with pytest.raises(StoreUnavailable):
                await refused.head(0)
    finally:
        await admin.execute(f"DROP ROLE {role}")


async def test_service_resumes_by_itself_after_a_crash_and_nothing_acknowledged_is_lost(
    postgres: RunningServer,
) -> None:
    """F12"""
    await asyncio.to_thread(migrate, postgres.url, "everfold", range(1))
    async with PostgresLog({range(1): postgres.url}) as log:
        acknowledged, unknown, stop = [], [], asyncio.Event()

        async def write() -> None:
            while not stop.is_set():
                wanted = append(f"a/{uuid4().hex}", 0)
                try:
                    await log.append_batch(0, [wanted])
                    acknowledged.append(wanted)
                except OutcomeUnknown:
                    unknown.append(wanted)
                except StoreUnavailable:
                    await asyncio.sleep(POLL_SECONDS)

        writers = [asyncio.create_task(write()) for _ in range(3)]
        await asyncio.sleep(0.3)
        await asyncio.to_thread(postgres.kill)
        before = len(acknowledged)
        with pytest.raises(StoreUnavailable):
            await log.append_batch(0, [append("a/down", 0)])
        with pytest.raises(StoreUnavailable):
            await log.heads()
        await asyncio.to_thread(postgres.start)
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while len(acknowledged) <= before:
                await asyncio.sleep(POLL_SECONDS)
        stop.set()
        await asyncio.gather(*writers)
        settled = [wanted for wanted in unknown if await log.settle(0, wanted) is not None]
        head = (await log.heads())[0].position
        stored = {event.id for event in await log.read_range(0, 1, head)}
        assert stored == {wanted.events[0].id for wanted in (*acknowledged, *settled)}
        assert len(stored) == head


async def test_cancelled_calls_never_leave_their_answer_to_the_next(log: PostgresLog) -> None:
    """F47, T14"""
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    for number in range(20):
        await log.append_batch(0, [append(f"canary/{number}", 0, data=b"%d" % number)])
    written: list[Append] = []

    async def call(number: int) -> None:
        if number % 2:
            event = NewEvent(f"a/{number}", str(uuid4()), "Tried", 1, b"{}")
            written.append(Append("acme", f"a/{number}", [Check(f"a/{number}", 0)], [event]))
            (outcome,) = await log.append_batch(0, written[-1:])
            assert outcome.stream == f"a/{number}", f"seed {seed}"
        else:
            (event_read,) = await log.read_range(0, number % 20 + 1, number % 20 + 1)
            assert event_read.data == b"%d" % (number % 20), f"seed {seed}"

    async def cancelled(number: int) -> None:
        task = asyncio.create_task(call(number))
        await asyncio.sleep(chance.random() * 0.004)
        task.cancel()
        results: Sequence[object] = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError | StoreUnavailable | None), f"seed {seed}"

    for first in range(0, 120, 6):
        await asyncio.gather(*(cancelled(number) for number in range(first, first + 6)))
        await call(first)
    for wanted in written:
        is_there = await log.settle(0, wanted) is not None
        tail, _ = await log.read_tails(0, [StreamTail(wanted.tenant, wanted.stream)])
        assert is_there == bool(tail), f"seed {seed}"
