"""Programs of two versions side by side: both generations are folded everywhere, and readers never notice a swap."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from projectors.binaries import group_of, is_folded_by
from projectors.projection import Projection
from projectors.read_side import ReadSide
from projectors.upkeep import Upkeep
from tests.integration.projectors.accounts import append, balances, eventually, read_side
from tests.integration.projectors.test_builds import _build, _some_accounts
from tests.toy import AccountBalances, Deposited

TENANTS = [f"t{number}" for number in range(12)]
"""In most of the partitions."""
SECONDS_MAX = 60.0
NAME = "account-balances"
Kind = type[Projection[Any]]


@asynccontextmanager
async def projector(
    store_url: str, version: int, log_file: Path, failpoints: str = ""
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program that folds this version of the projection."""
    environment = {
        **os.environ, "EVERFOLD_STORE_URL": store_url, "EVERFOLD_READ_URL": store_url, "EVERFOLD_DOMAINS": "toy",
        "EVERFOLD_BROKER_URL": "log", "EVERFOLD_TOY_BALANCES_VERSION": str(version),
        "EVERFOLD_FAILPOINTS": failpoints,
    }  # fmt: skip
    with log_file.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "infra.cli", "projector", env=environment, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 20)


async def live(side: ReadSide) -> tuple[int, int]:
    """Return the live generation and its version."""
    found = (await side.generations.live()).get(NAME)
    return (found.generation, found.version) if found else (0, 0)


class Readers:
    """Writers of all tenants, and a reader of each whose balance must never go down."""

    def __init__(self, side: ReadSide) -> None:
        self._side = side
        self.written = 0

    async def write(self, rounds: int = 1) -> None:
        """Pay in to every tenant's account."""
        for _ in range(rounds):
            await asyncio.gather(
                *(append(self._side.log, "a", Deposited(cents=1), tenant=tenant) for tenant in TENANTS)
            )
            self.written += 1

    async def read_for_ever(self) -> None:
        """Read the live generation, again and again."""
        seen = dict.fromkeys(TENANTS, 0)
        while True:
            for tenant in TENANTS:
                generation, _ = await live(self._side)
                if not generation:
                    continue
                found = (await balances(self._side, generation, tenant)).get("a", 0)
                if (await live(self._side))[0] == generation:
                    assert found >= seen[tenant], f"{tenant} went back from {seen[tenant]} to {found}"
                    seen[tenant] = found
            await asyncio.sleep(0.01)

    async def all_there(self) -> bool:
        """Say whether the live generation reflects all that was written, of every tenant."""
        generation, _ = await live(self._side)
        for tenant in TENANTS:
            if (await balances(self._side, generation, tenant)).get("a", 0) != self.written:
                return False
        return True


@pytest.mark.timeout(240)
async def test_two_versions_run_side_by_side_while_one_takes_over(  # F41 F53
    store_url: str, tmp_path: Path
) -> None:
    async with read_side(store_url) as side, projector(store_url, 1, tmp_path / "old"):
        readers = Readers(side)

        async def is_live(wanted: tuple[int, int]) -> bool:
            return await live(side) == wanted

        await eventually(lambda: is_live((1, 1)), SECONDS_MAX)
        await readers.write(20)
        await eventually(readers.all_there, SECONDS_MAX)
        reading = asyncio.create_task(readers.read_for_ever())
        try:
            for step in ("build.page=kill@2", "build.before_swap=kill", "generations.before_swap=kill"):
                async with projector(store_url, 2, tmp_path / "new", step) as killed:
                    async with asyncio.timeout(SECONDS_MAX):
                        while killed.returncode is None and await live(side) == (1, 1):
                            await readers.write()
                            await asyncio.sleep(0.05)
                assert killed.returncode == -signal.SIGKILL
                assert await live(side) == (1, 1)
                await eventually(readers.all_there, SECONDS_MAX)
            async with projector(store_url, 2, tmp_path / "new") as new:
                await eventually(lambda: is_live((2, 2)), SECONDS_MAX)
                await readers.write(10)
                await eventually(readers.all_there, SECONDS_MAX)
                new.send_signal(signal.SIGKILL)
                await new.wait()
            await readers.write(3)
            async with (
                projector(store_url, 2, tmp_path / "new"),
                projector(store_url, 2, tmp_path / "newer"),
            ):
                await eventually(readers.all_there, SECONDS_MAX)
                assert not reading.done(), reading.exception()
                status = await tool(store_url, 1, "projections", "swap-back", NAME, "--reason", "test")
                assert status == 0, "whoever cannot bring it back leaves it to those who can"
                assert await live(side) == (1, 1)
                await readers.write(5)
                await eventually(readers.all_there, SECONDS_MAX)
                await asyncio.sleep(7)  # the newer program looks what there is to build meanwhile
                assert await live(side) == (1, 1), "what was gone back from is not built again"
            assert not reading.done(), reading.exception()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def tool(store_url: str, version: int, *arguments: str) -> int:
    """Run a command of a version's program."""
    environment = {
        **os.environ, "EVERFOLD_STORE_URL": store_url, "EVERFOLD_READ_URL": store_url, "EVERFOLD_DOMAINS": "toy",
        "EVERFOLD_BROKER_URL": "log", "EVERFOLD_TOY_BALANCES_VERSION": str(version),
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.cli", *arguments, env=environment
    )
    return await asyncio.wait_for(process.wait(), SECONDS_MAX)


async def test_the_generation_before_is_dropped_once_it_was_kept_long_enough(store_url: str) -> None:
    async with read_side(store_url) as side:
        await side.generations.open_first(side.kinds[NAME])
        await _some_accounts(side)
        await _build(side).run()

        async def states() -> dict[int, str]:
            return {row["generation"]: row["state"] for row in await side.generations.all()}

        arguments = side.kinds, side.registry, side.log, side.generations, side.checkpoints
        await Upkeep(*arguments)._look()
        assert await states() == {1: "kept", 2: "live"}
        await Upkeep(*arguments, kept=timedelta(0))._look()
        assert await states() == {2: "live"}


def test_what_two_programs_fold_alike_belongs_to_one_of_them() -> None:
    balances_kind: Kind = AccountBalances

    class Newer(AccountBalances):
        name, version = NAME, AccountBalances.version + 1

    class Other(AccountBalances):
        name = "other"

    newer: Kind = Newer
    other: Kind = Other
    old = group_of({NAME: balances_kind, "other": other})
    new = group_of({NAME: newer, "other": other})
    alive = [old, new]
    assert is_folded_by(old, NAME, AccountBalances.version, alive)
    assert is_folded_by(new, NAME, Newer.version, alive)
    assert not is_folded_by(new, NAME, AccountBalances.version, alive)
    assert [is_folded_by(group, "other", other.version, alive) for group in alive].count(True) == 1
    assert is_folded_by(new, "other", other.version, [new]), "alone, it folds all that it can"
