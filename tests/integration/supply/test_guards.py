"""Every read table and view of supply is guarded, and shows the tenant that is named its own rows alone. # S18"""

from typing import Any

import pytest

from tests.guards import faults
from tests.integration.supply.told import OTHER_TENANT, TENANT, Told

pytestmark = pytest.mark.asyncio(loop_scope="package")

RELATIONS = """
    SELECT c.oid::regclass::text FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      JOIN everfold.generations AS g ON g.schema = n.nspname
     WHERE c.relkind IN ('r', 'v') AND g.state <> 'dropped'
"""


async def shown(connection: Any, relation: str, named: str) -> set[str]:
    """Return the tenants whose rows the role that answers queries sees."""
    async with connection.transaction():
        await connection.execute("SET LOCAL ROLE everfold_query")
        await connection.execute("SELECT set_config('everfold.tenants', $1, true)", named)
        return {row[0] for row in await connection.fetch(f"SELECT DISTINCT tenant FROM {relation}")}


async def test_every_table_and_view_shows_one_tenants_rows(told: Told) -> None:
    await told.get("/v1/dashboards/top-items")
    filled = set()
    async with told.side.pool.acquire() as connection:
        await connection.execute("SET ROLE NONE")
        try:
            relations = [row[0] for row in await connection.fetch(RELATIONS)]
            assert len(relations) >= 12
            for relation in relations:
                assert await shown(connection, relation, "") == set()
                for tenant in (TENANT, OTHER_TENANT):
                    seen = await shown(connection, relation, "{" + tenant + "}")
                    assert seen <= {tenant}
                    filled |= {relation} if seen else set()
                both = await shown(connection, relation, "{" + f"{TENANT},{OTHER_TENANT}" + "}")
                assert both <= {TENANT, OTHER_TENANT}
            assert filled == set(relations)
            assert await faults(connection) == []
        finally:
            await connection.execute("RESET ROLE")
