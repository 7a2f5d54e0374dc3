"""Events and commits cannot be changed, also not by a superuser who doesn't insist. # S46"""

import asyncpg
import pytest

from event_store.codec import Batch
from event_store.connections import StoreConnection
from event_store.postgres import PostgresLog
from infra.sql import load_sql
from tests.contract.log.appends import append

TABLES = ("events", "events_p0", "events_p0_r0", "commits", "commits_p0")


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE everfold.{} SET recorded_at = now()",
        "UPDATE everfold.{} SET recorded_at = now() WHERE false",
        "DELETE FROM everfold.{}",
        "TRUNCATE everfold.{}",
    ],
)
async def test_events_and_commits_cannot_be_changed(
    log: PostgresLog, admin: StoreConnection, table: str, statement: str
) -> None:
    await log.append_batch(0, [append("a/1", 0)])
    with pytest.raises(asyncpg.PostgresError) as refused:
        await admin.execute(statement.format(table))
    assert refused.value.sqlstate == "ES005"
    assert len(await log.read_range(0, 1, 1)) == 1


async def test_an_append_that_is_not_read_committed_is_refused(
    log: PostgresLog, admin: StoreConnection
) -> None:
    call = load_sql("event_store", "sql/queries/append_batch.sql", namespace="everfold")
    arguments = Batch([append("a/1", 0)]).arguments()
    with pytest.raises(asyncpg.PostgresError) as refused:
        async with admin.transaction(isolation="repeatable_read"):
            await admin.execute(call, 0, 1, 0, bytes(32), *arguments)
    assert refused.value.sqlstate == "ES003"
    assert await log.head(0) is None
