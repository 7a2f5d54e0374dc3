"""
Builds a projection as it was at an earlier time, into a schema of its own, beside all generations.
"""

from collections.abc import Callable, Mapping
from functools import partial

from infra.sql import load_sql
from projectors.build import Build, Workshop
from projectors.generations import make_tables
from projectors.projection import Projection, Row
from schemas.errors import MalformedRequest


async def replay_into(
    shop: Workshop,
    kind: type[Projection[Row]],
    schema: str,
    goals: Mapping[int, int],
    *,
    make: Callable[[Workshop, type[Projection[Row]]], Build] = Build,
) -> int:
    """
    Fold up to some positions into a schema, and return how many events that took.

    A build that was killed goes on where it was.

    Raises:
        MalformedRequest: The schema is there already and is no such build's, or its name is kept for generations.
    """
    if schema.startswith(f"{shop.checkpoints.namespace}_"):
        raise MalformedRequest(f"schema {schema} would stand among those of generations")
    sql = partial(load_sql, "projectors", namespace=shop.checkpoints.namespace)
    consumer = f"{schema}/{kind.name}"
    pool = shop.checkpoints.pool
    is_there = await pool.fetchval("SELECT to_regnamespace(quote_ident($1)) IS NOT NULL", schema)
    is_ours = await pool.fetchval(
        f"SELECT EXISTS (SELECT FROM {shop.checkpoints.namespace}.checkpoints WHERE kind = 'side' AND consumer = $1)",
        consumer,
    )
    if is_there and not is_ours:
        raise MalformedRequest(f"schema {schema} is there already")
    if not is_there:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(sql("sql/forget_side.sql"), consumer, kind.name)
            await make_tables(connection, kind, schema, shop.checkpoints.namespace)
    events = await make(shop, kind).build_into(schema, goals)
    await pool.execute(sql("sql/forget_side.sql"), consumer, kind.name)
    return events
