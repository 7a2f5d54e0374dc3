"""
Saved states over PostgreSQL: with them long streams load quickly, and nothing that happens to them makes a state wrong.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from command_api.app import rules_of
from command_api.decider import Rules
from command_api.pipeline import Pipeline
from command_api.saved_states import form_of
from event_store.connections import StoreConnection, connect
from event_store.log import Snapshot, StateTail, StreamStates
from event_store.postgres import PostgresLog
from infra.domains import load_registry
from infra.sql import load_sql
from schemas.errors import ConcurrentUpdate
from tests.contract.log.appends import append
from tests.integration.command_api.test_process import role, wait_for
from tests.integration.event_store.lost_tail import lose_tail
from tests.services import PARTITIONS
from tests.toy import DOMAIN, Account, Accounts
from tests.toy.world import deposit, open_account, withdraw

TENANT, STREAM = "acme", "accounts/A"
EVERY = 20
REGISTRY = load_registry([DOMAIN])
SECONDS_MAX = 20


class WatchedLog(PostgresLog):
    """A log that notes how many events each load brought, and from which versions on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loads: list[StreamStates] = []

    async def read_states(self, partition: int, tails: Sequence[StateTail]) -> StreamStates:
        """Read, and note it."""
        read = await super().read_states(partition, tails)
        self.loads.append(read)
        return read


@asynccontextmanager
async def process(
    store_url: str, rules: Rules | None = None, *, every: int = EVERY
) -> AsyncIterator[tuple[Pipeline, WatchedLog]]:
    """Keep a pipeline with caches of its own, as another process would have them."""
    async with WatchedLog({range(PARTITIONS): store_url}) as log:
        pipeline = Pipeline(log, rules or rules_of([DOMAIN]), REGISTRY, events_between_saves=every)
        try:
            yield pipeline, log
        finally:
            await pipeline.close(drain_seconds_max=1)


async def fill(pipeline: Pipeline, deposits: int = 3 * EVERY) -> None:
    """Open an account and pay in one cent after another."""
    await pipeline.submit_many([open_account("A"), *(deposit("A", 1) for _ in range(deposits))])


async def saved_version(log: PostgresLog) -> int:
    entries = [entry.version async for entry in log.snapshots.list(entries_max=10)]
    return max(entries, default=0)


async def until_saved(log: PostgresLog, version: int) -> None:
    """Wait until a state of at least a version is saved."""
    async with asyncio.timeout(SECONDS_MAX):
        while await saved_version(log) < version:
            await asyncio.sleep(0.02)


@pytest.fixture
async def admin(store_url: str) -> AsyncIterator[StoreConnection]:
    """A superuser's connection."""
    connection = await connect(store_url)
    yield connection
    connection.terminate()


async def balance(pipeline: Pipeline) -> int:
    """Return what is in the account: what is left to take out, found by asking for more than there can be."""
    answer = await pipeline.submit(withdraw("A", 10**9))
    error: Any = answer.error
    return int(error.balance_cents)


async def test_another_process_starts_from_the_saved_state_and_folds_what_came_after(store_url: str) -> None:
    async with process(store_url) as (pipeline, log):
        await fill(pipeline)
        await until_saved(log, 3 * EVERY)
        version = await saved_version(log)
        await pipeline.submit(deposit("A", 100))
        async with process(store_url) as (other, other_log):
            assert await balance(other) == 3 * EVERY + 100
    (load,) = other_log.loads
    assert [one.version for one in load.saved] == [version]
    assert [event.version for event in load.events] == list(range(version + 1, 3 * EVERY + 3))


async def test_a_long_stream_that_was_never_saved_is_when_it_is_first_folded(store_url: str) -> None:
    async with process(store_url, every=10_000) as (pipeline, log):
        await fill(pipeline)
        assert await saved_version(log) == 0
    async with process(store_url) as (reader, log):
        assert await balance(reader) == 3 * EVERY
        await until_saved(log, 3 * EVERY + 1)
    async with process(store_url) as (third, log):
        assert await balance(third) == 3 * EVERY
        assert [list(load.events) for load in log.loads] == [[]]


class CentsTwice(Accounts):
    """The next version of the rules, which counts every cent twice."""

    version = 2

    def evolve(self, state: Account, event: Any) -> Account:
        """Add one fact."""
        after = super().evolve(state, event)
        return Account(after.is_open, after.balance_cents + after.balance_cents - state.balance_cents)


async def test_a_changed_decider_never_reads_an_old_state_nor_the_old_one_a_new(store_url: str) -> None:
    async with process(store_url) as (pipeline, log):
        await fill(pipeline)
        await until_saved(log, 3 * EVERY)
        async with process(store_url, Rules([CentsTwice()])) as (new, new_log):
            assert await balance(new) == 2 * 3 * EVERY
            assert new_log.loads[0].saved == []
            async with asyncio.timeout(SECONDS_MAX):
                while [e.decider_version async for e in log.snapshots.list(entries_max=9)] != [1, 2]:
                    await asyncio.sleep(0.02)
        async with process(store_url) as (old, old_log):
            assert await balance(old) == 3 * EVERY
            assert len(old_log.loads[0].saved) == 1


async def test_states_may_be_dropped_at_any_time(store_url: str) -> None:
    """Dropped while two processes load, decide and save: no decision comes out wrong."""
    done = asyncio.Event()

    async def pay(pipeline: Pipeline) -> None:
        paid = 0
        while paid < 4 * EVERY:
            answer = await pipeline.submit(deposit("A", 1))
            # Who has to load loses to one who need not, sometimes for all of its attempts; nothing has happened then.
            assert isinstance(answer.error, ConcurrentUpdate | None)
            paid += answer.error is None

    async def drop(log: PostgresLog) -> int:
        dropped = 0
        while not done.is_set():
            dropped += await log.snapshots.drop()
            await asyncio.sleep(0.005)
        return dropped

    async with process(store_url, every=2) as (one, log), process(store_url, every=2) as (other, _):
        await one.submit(open_account("A"))
        dropping = asyncio.create_task(drop(log))
        await asyncio.gather(pay(one), pay(other))
        done.set()
        assert await dropping > 0
        async with process(store_url) as (third, _):
            assert await balance(third) == 8 * EVERY
        assert await balance(one) == await balance(other) == 8 * EVERY


async def test_two_processes_that_save_at_once_keep_the_newest(store_url: str) -> None:
    async with process(store_url, every=2) as (one, log), process(store_url, every=2) as (other, _):
        await one.submit(open_account("A"))
        for _ in range(10):
            batch = [deposit("A", 1)] * 9
            await asyncio.gather(one.submit_many(batch), other.submit_many(batch))
        await until_saved(log, 180)
        async with process(store_url) as (third, third_log):
            assert await balance(third) == 180
            assert third_log.loads[0].saved[0].version >= 180


async def test_a_state_of_a_lost_tail_is_never_used_and_makes_room(
    store_url: str, admin: StoreConnection
) -> None:
    async with process(store_url) as (pipeline, log):
        await pipeline.submit(open_account("A"))
        await pipeline.submit(deposit("A", 1))
        await pipeline.submit_many([deposit("A", 1) for _ in range(3 * EVERY)])
        await until_saved(log, 3 * EVERY)
        partition = await log.partition_of(TENANT)
    commits = await admin.fetch("SELECT last_position FROM everfold.commits ORDER BY last_position")
    await lose_tail(admin, partition, after=commits[1][0])
    async with process(store_url) as (pipeline, log):
        assert [entry.usable async for entry in log.snapshots.list(entries_max=9)] == [False]
        answer = await pipeline.submit(withdraw("A", 10**9))
        assert log.loads[0].saved == []
        assert [event.version for event in log.loads[0].events] == list(range(1, 3))
        assert answer.version == 2
        await pipeline.submit_many([deposit("A", 5) for _ in range(2 * EVERY)])
        await until_usable(log)
    async with process(store_url) as (again, log):
        assert await balance(again) == 1 + 5 * 2 * EVERY
        assert len(log.loads[0].saved) == 1


async def until_usable(log: PostgresLog) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not all([entry.usable async for entry in log.snapshots.list(entries_max=9)]):
            await asyncio.sleep(0.02)


async def test_a_state_that_cannot_be_read_is_folded_instead(store_url: str, admin: StoreConnection) -> None:
    async with process(store_url) as (pipeline, log):
        await fill(pipeline)
        await until_saved(log, 3 * EVERY)
    await admin.execute("UPDATE everfold.snapshots SET state = substr(state, 3)")
    async with process(store_url) as (other, _):
        assert await balance(other) == 3 * EVERY
        assert (await other.submit(deposit("A", 1))).version == 3 * EVERY + 2


async def test_a_command_does_not_wait_for_a_state_to_be_saved(
    store_url: str, admin: StoreConnection
) -> None:
    async with process(store_url, every=1) as (pipeline, log), admin.transaction():
        await admin.execute("LOCK TABLE everfold.snapshots IN EXCLUSIVE MODE")  # reading goes on
        async with asyncio.timeout(SECONDS_MAX / 4):
            await fill(pipeline)
            assert await balance(pipeline) == 3 * EVERY
        assert await saved_version(log) == 0


async def test_a_stream_that_was_forgotten_while_its_state_was_cached_is_not_saved_again(
    store_url: str,
) -> None:
    async with process(store_url) as (pipeline, log):
        await fill(pipeline)
        await until_saved(log, 3 * EVERY)
        assert await log.forget_states(TENANT, [STREAM]) == 1
        await pipeline.submit_many([deposit("A", 1) for _ in range(2 * EVERY)])
        await pipeline.submit_many([open_account("B"), *(deposit("B", 1) for _ in range(EVERY))])
        async with asyncio.timeout(SECONDS_MAX):  # B was offered after A, so A's turn is over when B is there
            while not [e async for e in log.snapshots.list(prefix="accounts/B", entries_max=9)]:
                await asyncio.sleep(0.02)
        assert [e.stream async for e in log.snapshots.list(entries_max=9)] == ["accounts/B"]


@pytest.mark.parametrize("point", ["saver.before_save", "saver.after_save"])
def test_a_process_that_is_killed_while_it_saves_leaves_states_that_are_right(
    point: str, store_url: str, tmp_path: Path
) -> None:
    deposits = [
        {"command": "accounts.deposit", "id": {"account_id": "A"}, "data": {"cents": 1}} for _ in range(250)
    ]
    with (
        role(store_url, tmp_path, EVERFOLD_FAILPOINTS=f"{point}=kill@1") as running,
        running.client() as http,
    ):
        assert http.post("/v1/accounts/A/open", json={"owner": "Ann"}).status_code == 200
        for _ in range(4):
            try:
                http.post("/v1/commands", json={"commands": deposits})
            except httpx2.TransportError:
                break
        wait_for(lambda: running.process.poll() is not None)
    with psycopg.connect(store_url) as connection:
        (events,) = connection.execute("SELECT count(*) FROM everfold.events").fetchone() or (0,)
        (states,) = connection.execute("SELECT count(*) FROM everfold.snapshots").fetchone() or (0,)
    assert states == (1 if point == "saver.after_save" else 0)
    with role(store_url, tmp_path) as running, running.client() as http:
        refused = http.post("/v1/accounts/A/withdraw", json={"cents": 10**9}).json()
        assert (refused["rule"], refused["balance_cents"]) == ("insufficient-funds", events - 1)


async def pages_touched(connection: StoreConnection, streams: Sequence[str], shape: bytes) -> tuple[int, int]:
    """Return how many pages a load touches, and how many rows come of it."""
    statement = load_sql("event_store", "sql/queries/read_states.sql", namespace="everfold")
    count = len(streams)
    (document,) = json.loads(
        await connection.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement}",
            0, [TENANT] * count, list(streams), [0] * count, [shape] * count,
        )
    )  # fmt: skip
    return document["Plan"]["Shared Hit Blocks"] + document["Plan"]["Shared Read Blocks"], document["Plan"][
        "Actual Rows"
    ]


async def test_a_load_looks_up_one_saved_state_for_a_stream(store_url: str, admin: StoreConnection) -> None:
    """The plan is made on empty tables; then there are many states, and none but those asked for is looked at."""
    form, streams = form_of(Accounts()), [f"accounts/{number}" for number in range(2_000)]
    await pages_touched(admin, streams[:10], form.shape)
    async with PostgresLog({range(PARTITIONS): store_url}) as log:
        for first in range(0, len(streams), 500):
            part = streams[first : first + 500]
            outcomes = await log.append_batch(0, [append(stream, 0) for stream in part])
            state = form.codec.encode(Account())
            states = [
                Snapshot(TENANT, stream, form.shape, 1, 1, outcome.commit, state)
                for stream, outcome in zip(part, outcomes, strict=True)
            ]
            assert await log.save_states(0, states) == len(part)
    touched, rows = await pages_touched(admin, streams[:10], form.shape)
    assert rows == 10
    assert touched < 10 * 20
