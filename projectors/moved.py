"""
Where a tenant lives as far as a generation has followed it, for whoever folds rows again.

The tables say in which partition a generation has last folded an event of a tenant, its arrival at least; what is known
of the log's moves may be some seconds older than that, and is asked for again then. So a fold never ends where a tenant
left while its rows have gone on elsewhere.
"""

import asyncio
from collections.abc import Collection, Iterable
from functools import partial

from event_store.checkpoints import Connection
from event_store.log import EventLog
from event_store.residences import Residences
from infra.sql import load_sql
from schemas.errors import StoreUnavailable

TRIES_MAX = 12
TRY_SECONDS = 0.25


async def residences_for(
    log: EventLog, connection: Connection, namespace: str, projection: str, generation: int, tenant: str
) -> Residences:
    """
    Return where a tenant lives and has lived, as far at least as a generation has followed it.

    Raises:
        StoreUnavailable: The log does not say, or not yet, how the tenant came to where the generation has followed it.
    """
    sql = partial(load_sql, "projectors", namespace=namespace)
    followed_to = await connection.fetchval(sql("sql/followed_to.sql"), projection, generation, tenant)
    for _ in range(TRIES_MAX):
        found = await log.residences_of(tenant)
        if followed_to is None or found.of(followed_to) is not None:
            return found
        await asyncio.sleep(TRY_SECONDS)
    raise StoreUnavailable


async def moved_tenants(log: EventLog, partitions: Iterable[int]) -> Collection[str]:
    """Return the tenants with events in several partitions, of which some of these are one."""
    found: set[str] = set()
    for one in partitions:
        found.update(await log.moved_tenants(one))
    return found
