"""What couriers and operators ask is found by index, however many messages wait."""

import pytest

from infra.sql import load_sql
from tests.integration.workflows.world import World, open_world

FILL = """
    INSERT INTO everfold.outgoing_messages (id, partition, workflow, tenant, channel, type, summary, body, stream,
           position, causation_id, correlation_id, created_at, try_at, state, ended_at)
    SELECT n::text, 0, 'w', 'tenant-' || n % 50, 'channel-' || n % 5, 't', 's', '{}', 'a/' || n, n, 'c', 'c',
           now() - n * interval '1 s', now() + n * interval '1 s', state,
           CASE state WHEN 'waiting' THEN NULL ELSE now() END
      FROM generate_series(1, 60000) AS n
     CROSS JOIN LATERAL (SELECT CASE WHEN n % 3 = 0 THEN 'waiting' ELSE 'delivered' END) AS s (state)
"""


@pytest.mark.parametrize(
    ("name", "types", "arguments", "index"),
    [
        (
            "claim_messages",
            "text[], text[], integer[], interval[]",
            "'{channel-1,channel-2}', '{null,tenant-7}', '{8,8}', '{10 s,10 s}'",
            "outgoing_messages_due",
        ),
        (
            "list_messages",
            "text, text[], text, integer",
            "'tenant-7', '{waiting,dead}', null, 100",
            "outgoing_messages_open",
        ),
        (
            "workflow_messages",
            "text, text, text, integer",
            "'w', 'tenant-7', null, 100",
            "outgoing_messages_open",
        ),
        (
            "workflow_messages",
            "text, text, text, integer",
            "'w', 'tenant-7', 'a/7', 100",
            "outgoing_messages_stream",
        ),
        (
            "forget_messages",
            "text, interval, integer",
            "'delivered', '7 days', 100",
            "outgoing_messages_ended_at",
        ),
    ],
)
async def test_it_is_found_by_index(
    store_url: str, name: str, types: str, arguments: str, index: str
) -> None:
    async with open_world(store_url, domains="toy") as world:
        await world.pool.execute(FILL)
        await world.pool.execute("ANALYZE everfold.outgoing_messages")
        said = await plan_of(world, name, types, arguments)
    assert index in said, said
    assert "Seq Scan on outgoing_messages" not in said, said


async def plan_of(world: World, name: str, types: str, arguments: str) -> str:
    statement = load_sql("command_api", f"sql/{name}.sql", namespace="everfold")
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"PREPARE asked ({types}) AS {statement}")
        plan = await connection.fetch(f"EXPLAIN EXECUTE asked ({arguments})")
        await connection.execute("DEALLOCATE asked")
    return "\n".join(row[0] for row in plan)
