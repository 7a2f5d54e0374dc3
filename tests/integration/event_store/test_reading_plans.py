"""
What a read looks at is what it returns, and not the log: measured in pages of the database, on 120,000 events.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator

import pytest

from event_store.connections import StoreConnection, connect
from event_store.postgres import PostgresLog
from infra.sql import load_sql
from schemas.envelope import BEGINNING
from tests.contract.log.appends import TENANT, append
from tests.services import PARTITIONS, create_database, drop_database

EVENTS, COMMIT = 120_000, 400
RARE_EVERY = 5_000
SEED = 20_264
DATA = b"x" * 200
SCAN_PAGES = 2_000
"""Fewer than the events alone take up."""

Buffers = tuple[int, int]
"""Pages that a statement touched, and rows that it returned."""


async def fill(url: str) -> None:
    """Make a log of many events, a few of them rare, with all notes made."""
    chance = random.Random(SEED)
    async with PostgresLog({range(PARTITIONS): url}) as log:
        for first in range(0, EVENTS, COMMIT):
            appends = [append("long/1", first // 4, COMMIT // 4, type="Often", data=DATA)]
            appends += [
                append(f"a/{chance.randrange(1_000)}", -1, tenant=chance.choice(["beta", "ceta"]), data=DATA)
                for _ in range(COMMIT - COMMIT // 4 - 1)
            ]
            kind, tenant = ("Rare", "rare") if first % RARE_EVERY < COMMIT else ("Often", "beta")
            # One tag on one event of each commit, another on few of those, a third where neither is.
            tags = ["common", "seldom"] if kind == "Rare" else ["common"]
            marked = append("tagged/1", -1, tenant="beta", tags=tags)
            alone = append("tagged/2", -1, tenant="beta", tags=["apart"])
            await log.append_batch(0, [*appends, append("a/0", -1, type=kind, tenant=tenant), marked, alone])
        while await log.fill_occurrences(0):
            pass


@pytest.fixture(scope="module")
def filled_url(postgres_url: str, template: str) -> Iterator[str]:
    """A database with such a log."""
    url = create_database(postgres_url, template=template)
    asyncio.run(fill(url))
    yield url
    drop_database(postgres_url, url)


@pytest.fixture
async def admin(filled_url: str) -> AsyncIterator[StoreConnection]:
    """A connection to it."""
    connection = await connect(filled_url)
    yield connection
    connection.terminate()


async def measured(connection: StoreConnection, name: str, *arguments: object) -> Buffers:
    """Return what a statement touches and returns, by its own account."""
    own = {"events": "events_p0", "commits": "commits_p0"} if name.startswith("read_stream") else {}
    statement = load_sql("event_store", f"sql/queries/{name}.sql", namespace="everfold", **own)
    explained = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement}"
    await connection.fetchval(
        explained, *arguments
    )  # what is read of the catalogue the first time does not count
    (document,) = json.loads(await connection.fetchval(explained, *arguments))
    plan = document["Plan"]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], plan["Actual Rows"]


async def filtered(
    connection: StoreConnection,
    types: list[str] | None,
    tenant: str | None = None,
    *,
    tags: list[str] | None = None,
    events_max: int = 100,
) -> Buffers:
    return await measured(
        connection, "read_filtered", 0, *BEGINNING, types, tags, tenant, events_max, 8_000_000
    )


async def test_a_scan_would_touch_far_more_than_any_of_these_reads(admin: StoreConnection) -> None:
    pages = await admin.fetchval(
        "SELECT sum(pg_relation_size(c.oid)) / 8192 FROM pg_class AS c WHERE c.relname LIKE 'events_p0_r%'"
        " AND c.relkind = 'r'"
    )
    assert pages > SCAN_PAGES


async def test_rare_matches_are_found_without_a_scan(admin: StoreConnection) -> None:
    for types, tenant in ((["Rare"], None), (None, "rare"), (["Rare", "Often"], "rare"), (["Rare"], "rare")):
        touched, rows = await filtered(admin, types, tenant)
        assert rows == EVENTS // RARE_EVERY
        assert touched < SCAN_PAGES / 2, (types, tenant)


async def test_that_there_is_no_match_is_found_at_once(admin: StoreConnection) -> None:
    for types, tenant in ((["Unheard"], None), (None, "nobody"), (["Rare"], "nobody"), (["Unheard"], "beta")):
        touched, rows = await filtered(admin, types, tenant)
        assert rows == 1  # the end alone
        assert touched < 150, (types, tenant)


async def test_of_frequent_matches_a_page_is_read_and_no_more(admin: StoreConnection) -> None:
    for types, tenant in ((["Often"], None), (None, "beta"), (["Often", "Counted"], TENANT)):
        touched, rows = await filtered(admin, types, tenant)
        assert rows >= 99, "or the one commit"
        assert touched < 30 * rows, (types, tenant)


async def test_rare_tags_are_found_by_their_own_index(admin: StoreConnection) -> None:
    for tags, matches, most in (
        (["seldom"], EVENTS // RARE_EVERY, 600),
        (["common", "seldom"], EVENTS // RARE_EVERY, 3_000),
        (["unheard"], 1, 100),
        (["common", "unheard"], 1, 100),
    ):
        touched, rows = await filtered(admin, None, "beta", tags=tags)
        assert rows == matches, tags
        assert touched < most, tags


async def test_a_time_is_found_in_a_long_stream_by_few_look_ups(admin: StoreConnection) -> None:
    version = EVENTS // 4 - 10
    since = await admin.fetchval(
        "SELECT recorded_at FROM everfold.events WHERE stream = 'long/1' AND version = $1", version
    )
    for name, most in (("read_stream", 100), ("read_stream_backwards", 100)):
        touched, rows = await measured(
            admin, name, 0, TENANT, "long/1", 0, 2**63 - 1, most, 8_000_000, None, None, since
        )
        assert rows == 100
        assert touched < 600, name
        touched, rows = await measured(
            admin, name, 0, TENANT, "long/1", 0, 2**63 - 1, 10, 8_000_000, 1_000, None, None
        )
        assert rows == 10
        assert touched < 400, name
