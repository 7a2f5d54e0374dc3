"""The log loses its end, and other events come to stand there: everybody notices, and nothing is mixed. # F18 F57"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from event_store.migrate import migrate
from infra.embedded.folders import ephemeral_folder, server_folder
from infra.embedded.server import RunningServer
from projectors.read_side import open_read_side
from projectors.verify import verify_projections
from query_api.vetting import VET_SECONDS
from tests.integration.lost_tail.losing import NAMESPACE, Losable, system_over, until
from tests.services import PARTITIONS

NOTICED_SECONDS_MAX = VET_SECONDS + 4.0
"""The lost end is served no longer than that once the log is back: what is promised, and a loaded machine's delay."""
HOWS = ["restore", "failover"]


@pytest.fixture
def losable(postgres: RunningServer) -> Iterator[Losable]:
    """A migrated log on a server that can lose its end."""
    migrate(postgres.url, NAMESPACE, range(PARTITIONS))
    with ephemeral_folder() as folder:
        yield Losable(postgres, server_folder(folder, "other"))


@pytest.mark.parametrize("how", HOWS)
async def test_what_ran_ahead_of_the_log_halts_and_is_built_anew(
    losable: Losable, store_url: str, redis_url: str, tmp_path: Path, how: str
) -> None:
    system = system_over(losable.server.url, store_url, redis_url, tmp_path)
    async with system.commands() as api, system.commands() as other:
        async with system.projector(), system.workflows(), system.queries() as reader:
            await api.open("A", cents=100)
            await system.followed()
            await asyncio.to_thread(losable.prepare, how)
            lost = await api.post("accounts/A/deposit", {"cents": 7})
            await api.open("L1", "L2", cents=5)
            assert (await api.post("accounts/T/open", {"owner": "late"})).status_code == 200
            await system.followed()
            assert await reader.balance() == 107
            token = lost.headers["everfold-position"]

            await asyncio.to_thread(losable.lose, how)
            back_at = time.monotonic()
            # Other events, at the same positions and, of the account, with the same version.
            assert (await other.post("accounts/A/deposit", {"cents": 1})).status_code == 200
            await other.open("N1", "N2", "N3", cents=2)

            # The first API still holds the account as of the lost version 3; the log has another version 3.
            refused = await api.post("accounts/A/withdraw", {"cents": 105})
            assert refused.json() | {"trace_id": 0} == refused.json() | {
                "trace_id": 0, "status": 409, "rule": "insufficient-funds", "balance_cents": 101,
            }  # fmt: skip
            assert (await api.post("accounts/L1/deposit", {"cents": 1})).status_code == 404

            assert await reader.balance("A", token) == "/problems/position-lost"
            seen = []

            async def right() -> bool:
                asked_at = time.monotonic()
                seen.append(await reader.balance())
                assert seen[-1] != 107 or asked_at - back_at < NOTICED_SECONDS_MAX
                return seen[-1] == 101

            said = await system.told("workflows")
            await until(right)
            assert 107 not in seen[seen.count(107) :], "once it is noticed, it is never served again"
            assert "concierge" in said
            assert "no longer has the commit at" in said
            assert "everfold recover" in said

            async def all_of_them() -> bool:
                listed = await reader.listed()
                assert "L1" not in listed
                return listed == {"A": 101, "N1": 2, "N2": 2, "N3": 2}

            await until(all_of_them)
            assert await reader.balance("L1") is None
        async with open_read_side(system.settings, name="test") as side:
            assert (await side.generations.live())["account-balances"].generation == 2
            assert [report.equal for report in await verify_projections(side)] == [True]
            workflows = await side.pool.fetch(
                "SELECT position, waiting_for FROM everfold.checkpoints WHERE kind = 'workflow' AND waiting_for <> ''"
            )
            assert workflows, "it stands where it stood"


@pytest.mark.parametrize("how", HOWS)
async def test_documents_of_the_lost_tail_are_never_served_by_who_starts_afterwards(
    losable: Losable, redis_url: str, tmp_path: Path, how: str
) -> None:
    """Tables and log were lost and restored together, and agree; the cache alone knows of the lost tail."""
    url = losable.server.url
    system = system_over(url, url, redis_url, tmp_path)
    async with system.commands() as api, system.projector(), system.queries() as reader:
        await api.open("A", cents=100)
        await system.followed()
        assert await reader.balance() == 100
    await asyncio.to_thread(losable.prepare, how)
    async with system.commands() as api, system.projector(), system.queries() as reader:
        await api.post("accounts/A/deposit", {"cents": 7})
        await api.open("L1", "L2", "L3", cents=5)
        await system.followed()
        assert await reader.balance() == 107
        assert await reader.balance("L1") == 5
        assert await reader.listed() == {"A": 107, "L1": 5, "L2": 5, "L3": 5}
        for _ in range(3):
            assert await reader.balance() == 107, "from the cache"

    await asyncio.to_thread(losable.lose, how)
    async with system.queries() as reader:
        for _ in range(5):
            assert (await reader.balance(), await reader.balance("L1")) == (100, None)
            assert await reader.listed() == {"A": 100}
        async with system.commands() as api, system.projector():
            for cents in (1, 1, 1, 1):  # at the positions that were lost, one page after the other
                await api.post("accounts/A/deposit", {"cents": cents})
                await system.followed()
                assert await reader.balance("L1") is None
                balance = await reader.balance()
                assert isinstance(balance, int)
                assert balance <= 104

            async def right() -> bool:
                return await reader.balance() == 104

            await until(right)
            await api.open("N1", "N2", "N3", "N4", cents=2)
            await system.followed()
            assert await reader.balance("L1") is None
            for _ in range(3):
                assert await reader.balance() == 104
    async with system.queries() as reader:
        assert (await reader.balance(), await reader.balance("L1")) == (104, None)
