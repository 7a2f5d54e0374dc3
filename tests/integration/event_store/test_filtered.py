"""
Reads by type and tenant on PostgreSQL: right wherever the notes of occurrences end, and by those notes alone below.
"""

import asyncio
import random
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from event_store.connections import StoreConnection
from event_store.failures import EventMissing
from event_store.log import Filter
from event_store.postgres import PostgresLog
from event_store.reading import read_partition
from schemas.envelope import BEGINNING, RecordedEvent
from tests.contract.log.appends import append
from tests.integration.event_store.lost_tail import lose_tail
from tests.services import PARTITIONS

BLOCK = 1_024
BLOCKS = 9
SEED = 20_263
TENANTS = ("acme", "beta", "ceta")
ANY_VERSION = -1

chance = random.Random(SEED)


def drawn_type() -> str:
    """Return a type: some are in every block, some in few."""
    return chance.choices(["Often", "Sometimes", "Seldom"], [9_500, 490, 10])[0]


async def grow(log: PostgresLog, events: int) -> None:
    """Append events in commits of all sizes, of a tenant and a type each."""
    while events > 0:
        appends = [
            append("a/1", ANY_VERSION, chance.randint(1, 9), type=drawn_type(), tenant=chance.choice(TENANTS))
            for _ in range(chance.choice([1, 3, 60]))
        ]
        await log.append_batch(0, appends)
        events -= sum(len(one.events) for one in appends)


@pytest.fixture
async def grown(log: PostgresLog) -> tuple[PostgresLog, list[RecordedEvent]]:
    """A log of some blocks, and what is in it."""
    await grow(log, BLOCKS * BLOCK)
    head = (await log.heads())[0].position
    return log, list(await log.read_range(0, 1, head))


async def fill(log: PostgresLog) -> int:
    """Note all occurrences that can be noted; return of how many events."""
    filled = 0
    while more := await log.fill_occurrences(0):
        filled += more
    return filled


async def set_filled(admin: StoreConnection, blocks: int) -> None:
    """Have occurrences noted for so many blocks and no more."""
    await admin.execute("DELETE FROM everfold.occurrences WHERE block >= $1", blocks)
    await admin.execute(
        "UPDATE everfold.occurrences_filled AS f"
        "   SET position = $1, commit_position = c.last_position, commit_hash = c.hash"
        "  FROM (SELECT last_position, hash FROM everfold.commits WHERE partition = 0 AND last_position >= $1"
        "         ORDER BY last_position LIMIT 1) AS c WHERE f.partition = 0",
        max(0, blocks * BLOCK - 1),
    )


@given(
    blocks=st.integers(0, BLOCKS),
    types=st.frozensets(st.sampled_from(["Often", "Sometimes", "Seldom", "Unheard"])),
    tenant=st.sampled_from([None, *TENANTS, "nobody"]),
    place=st.integers(0, 1_000_000),
    events_max=st.sampled_from([1, 7, 300, 5_000]),
    bytes_max=st.sampled_from([200, 1_000_000]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_wherever_the_notes_end_a_filtered_read_is_a_plain_filter(
    grown: tuple[PostgresLog, list[RecordedEvent]],
    admin: StoreConnection,
    blocks: int,
    types: frozenset[str],
    tenant: str | None,
    place: int,
    events_max: int,
    bytes_max: int,
) -> None:
    log, events = grown
    await fill(log)
    await set_filled(admin, blocks)
    wanted = Filter(types=types, tenant=tenant)
    start = await log.commit_of(0, place % len(events))
    after = start.mark if start else BEGINNING
    expected = [event for event in events[after.position :] if wanted.takes(event)]
    found: list[RecordedEvent] = []
    for _ in range(20):
        matches = await log.read_filtered(0, after, wanted, events_max=events_max, bytes_max=bytes_max)
        octets = sum(len(event.data) + len(event.metadata) for event in matches.events)
        within = len(matches.events) <= events_max and octets <= bytes_max
        assert within or len({event.recorded_at for event in matches.events}) == 1
        found += matches.events
        upto = [event for event in expected if event.position <= matches.end.position]
        assert found == upto, f"seed {SEED}"
        if matches.end == after:
            assert after.position == len(events)
            break
        after = matches.end


async def test_notes_are_of_whole_blocks_and_made_once_by_several_at_a_time(
    store_url: str, log: PostgresLog
) -> None:
    await grow(log, 3 * BLOCK)
    head = (await log.heads())[0].position
    others = [PostgresLog({range(PARTITIONS): store_url}) for _ in range(3)]
    try:
        done = await asyncio.gather(*(fill(one) for one in (log, *others)))
    finally:
        for other in others:
            await other.close()
    assert sum(done) + await fill(log) == (head + 1) // BLOCK * BLOCK - 1
    assert await fill(log) == 0


async def test_housekeeping_makes_the_notes(log: PostgresLog, admin: StoreConnection) -> None:
    await grow(log, 2 * BLOCK)
    await log.keep_house(0, keys_kept=timedelta(days=1))
    assert await admin.fetchval("SELECT position FROM everfold.occurrences_filled") == 2 * BLOCK - 1
    counted = await admin.fetchval(
        "SELECT sum(cardinality(places)) FROM everfold.occurrences WHERE kind = 'tenant'"
    )
    assert counted == 2 * BLOCK - 1


async def test_a_reader_and_writers_and_the_notes_run_beside_each_other(
    store_url: str, log: PostgresLog
) -> None:
    """A follower that goes on from each end sees every match once, in order, while notes overtake it."""
    done = asyncio.Event()
    wanted = Filter(types=frozenset({"Sometimes", "Seldom"}), tenant="beta")

    async def follow() -> list[RecordedEvent]:
        seen: list[RecordedEvent] = []
        after = BEGINNING
        async with PostgresLog({range(PARTITIONS): store_url}) as own:
            while True:
                was_done = done.is_set()
                matches = await own.read_filtered(0, after, wanted, events_max=5)
                seen += matches.events
                if was_done and matches.end == after:
                    return seen
                after = matches.end

    async def note() -> None:
        while not done.is_set():
            await log.fill_occurrences(0)
            await asyncio.sleep(0.01)

    follower, noter = asyncio.create_task(follow()), asyncio.create_task(note())
    await grow(log, 4 * BLOCK)
    done.set()
    seen = await follower
    await noter
    head = (await log.heads())[0].position
    assert seen == [event for event in await log.read_range(0, 1, head) if wanted.takes(event)], (
        f"seed {SEED}"
    )


async def test_notes_of_a_lost_tail_count_for_nothing_and_are_made_anew(
    log: PostgresLog, admin: StoreConnection
) -> None:
    await grow(log, 3 * BLOCK)
    await fill(log)
    await lose_tail(admin, 0, after=BLOCK + 500)
    await grow(log, 3 * BLOCK)
    head = (await log.heads())[0].position
    wanted = Filter(types=frozenset({"Sometimes", "Seldom"}))
    expected = [event for event in await log.read_range(0, 1, head) if wanted.takes(event)]
    assert [event async for event in read_partition(log, 0, wanted)] == expected
    assert await fill(log) == (head + 1) // BLOCK * BLOCK - 1
    assert [event async for event in read_partition(log, 0, wanted)] == expected


async def test_an_event_that_is_noted_and_not_there_is_named(
    log: PostgresLog, admin: StoreConnection
) -> None:
    await grow(log, 2 * BLOCK)
    await fill(log)
    first = next(event for event in await log.read_range(0, 1, 2 * BLOCK) if event.type == "Sometimes")
    await admin.execute("SET session_replication_role = replica")
    await admin.execute("DELETE FROM everfold.events WHERE partition = 0 AND position = $1", first.position)
    with pytest.raises(EventMissing) as error:
        await log.read_filtered(0, BEGINNING, Filter(types=frozenset({"Sometimes"})), events_max=10)
    assert (error.value.partition, error.value.position) == (0, first.position)
