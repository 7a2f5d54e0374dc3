"""
Events that a workflow set aside, and what an operator does about them: take them up again, or leave them out.

Only the workflow's own process reacts to events, so here it is only said what may go on: the first event of a
key that has no error any more is taken up by whoever holds the partition, and those that wait behind it follow.
"""

from collections.abc import Sequence
from functools import partial
from getpass import getuser
from typing import Any

import asyncpg

from infra.sql import load_sql

WORKFLOW = "workflow"


async def let_go_on(pool: "asyncpg.Pool[Any]", namespace: str, parked_ids: Sequence[int]) -> None:
    """Have the keys of some parked events taken up again, each from its first event on."""
    sql = partial(load_sql, "event_store", namespace=namespace)
    await pool.execute(sql("sql/queries/let_go_on.sql"), list(parked_ids))


async def leave_out(
    pool: "asyncpg.Pool[Any]", namespace: str, parked_id: int, reason: str, actor: str | None = None
) -> None:
    """Have one parked event never taken up; those that wait behind it follow."""
    sql = partial(load_sql, "event_store", namespace=namespace)
    await pool.execute(sql("sql/queries/leave_out.sql"), parked_id, actor or getuser(), reason)
