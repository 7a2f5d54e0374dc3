"""PostgreSQL goes away under a workflow: it waits, and every effect happens once. Fault rows F12, F43"""

import pytest

from event_store.migrate import migrate
from infra.embedded.server import RunningServer
from tests.integration.workflows.world import World, open_world
from tests.services import NAMESPACE, PARTITIONS
from tests.toy import Deposited, OpenAccount, Withdrawn

ACCOUNTS = 400


@pytest.mark.timeout(180)
async def test_a_store_that_crashes_in_the_middle_doubles_and_loses_nothing(postgres: RunningServer) -> None:
    migrate(postgres.url, NAMESPACE, range(PARTITIONS))
    async with open_world(postgres.url, domains="toy") as world:
        accounts = [OpenAccount(account_id=f"A{number}", owner="gift") for number in range(ACCOUNTS)]
        await world.send(*accounts)
        async with world.workflows():
            await world.until(lambda: _has_begun(world))
            postgres.kill()
            postgres.start()
            await world.pool.expire_connections()
            await world.until_caught_up("concierge")
        counts = [await world.count(kind) for kind in (Deposited, Withdrawn)]
    assert counts == [ACCOUNTS, ACCOUNTS]


async def _has_begun(world: World) -> bool:
    return await world.count(Deposited) > 0
