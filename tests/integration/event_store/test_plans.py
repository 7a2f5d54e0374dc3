"""
What the log's statements look at does not grow with the log.

Their plans are made once, on whatever the tables held then, and kept; here they are made on empty, never analyzed
tables, and then the tables fill. A plan that reads a whole partition for each stream shows in what its indexes
hand out.
"""

import random

from event_store.codec import Batch
from event_store.connections import StoreConnection
from event_store.log import Append
from infra.sql import load_sql
from schemas.envelope import BEGINNING
from tests.contract.log.appends import TENANT, append, key

STREAMS, BATCH = 3_000, 500
TOUCHED_MAX = 200
HANDED_OUT = (
    "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = 'everfold')"
    " + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE schemaname = 'everfold')"
)


async def handed_out(connection: StoreConnection) -> int:
    """Return how many entries indexes and scans have handed out so far."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    return int(await connection.fetchval(HANDED_OUT))


async def send(connection: StoreConnection, *appends: Append) -> None:
    call = load_sql("event_store", "sql/queries/append_batch.sql", namespace="everfold")
    await connection.execute(call, 0, random.getrandbits(62), *BEGINNING, *Batch(appends).arguments())


async def fill(connection: StoreConnection) -> None:
    """Make every plan on empty tables, then fill them."""
    await send(connection, append("first/1", 0, key=key("first")))
    await send(connection, append("first/1", 7, key=key("second")))  # the other way through the function
    await tails(connection, "first/1")
    for first in range(0, STREAMS, BATCH):
        await send(connection, *(append(f"a/{n}", 0, key=key(f"k{n}")) for n in range(first, first + BATCH)))


async def tails(connection: StoreConnection, *streams: str) -> int:
    read = load_sql("event_store", "sql/queries/read_tails.sql", namespace="everfold")
    rows = await connection.fetch(read, 0, [TENANT] * len(streams), list(streams), [0] * len(streams))
    return len(rows)


async def test_an_append_looks_up_what_it_is_about_and_no_more(admin: StoreConnection) -> None:
    await fill(admin)
    before = await handed_out(admin)
    await send(
        admin, *(append(f"a/{n}", 1, key=key(f"new{n}"), reads=[(f"a/{n + 50}", 1)]) for n in range(10))
    )
    after_all_is_well = await handed_out(admin)
    await send(admin, *(append(f"a/{n}", 1, key=key(f"k{n}")) for n in range(10)), append("a/99", 7))
    after_something_is_not = await handed_out(admin)
    assert 0 < after_all_is_well - before < TOUCHED_MAX
    assert 0 < after_something_is_not - after_all_is_well < TOUCHED_MAX


async def test_tails_are_looked_up_by_stream(admin: StoreConnection) -> None:
    await fill(admin)
    before = await handed_out(admin)
    assert await tails(admin, *(f"a/{n}" for n in range(20))) == 20
    assert 0 < await handed_out(admin) - before < TOUCHED_MAX
