"""A build's partitions are folded by worker processes, and what those leave undone by the build itself."""

import os
import random
import signal
from collections.abc import Callable

import pytest

from event_store.consumer import Held
from event_store.log import Append, Check, Expect, NewEvent
from event_store.postgres import PostgresLog
from projectors import build
from projectors.build import Build, Stretch, Workshop
from projectors.build_workers import BuildWorkers
from projectors.read_side import ReadSide
from projectors.verify import verify_projections
from tests.integration.projectors.accounts import METADATA, append_all, event_id, read_side
from tests.toy import Deposited, Withdrawn

TENANTS, EVENTS = 4, 300


class Watched(BuildWorkers):
    """Workers that note what they folded, and may be hit while they do."""

    def __init__(self, side: ReadSide, before: Callable[[], None] = lambda: None) -> None:
        super().__init__(side.settings, 2, side.role)
        self.folded: dict[int, int] = {}
        self._before = before

    async def fold(self, stretch: Stretch, reached: Callable[[int], None]) -> int:
        """Fold, and note it."""
        self._before()
        events = await super().fold(stretch, reached)
        self.folded[stretch.partition] = events
        return events

    def kill(self) -> None:
        """Kill every worker there is."""
        for process in self._executor._processes or ():
            os.kill(process, signal.SIGKILL)


@pytest.fixture(autouse=True)
def _short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "BULK_EVENTS_MIN", 100)


def _build(side: ReadSide, workers: BuildWorkers) -> Build:
    shop = Workshop(side.log, side.registry, side.generations, side.checkpoints)
    return Build(shop, side.kinds["account-balances"], workers=workers)


async def _accounts_of_tenants(side: ReadSide) -> None:
    chance = random.Random(3)
    async with PostgresLog(side.settings.store_urls, side.settings.namespace) as log:  # as who administers
        for number in range(TENANTS):
            await log.place_tenant(f"w{number}", number)
    for number in range(TENANTS):
        tenant = f"w{number}"
        kinds = (Deposited(cents=5), Withdrawn(cents=2))
        events = [(f"a{chance.randrange(40)}", chance.choice(kinds)) for _ in range(EVENTS)]
        await append_all(side.log, events, tenant=tenant)


async def test_workers_fold_the_partitions_and_the_rows_are_what_the_log_says(store_url: str) -> None:
    async with read_side(store_url) as side:
        await _accounts_of_tenants(side)
        workers = Watched(side)
        try:
            built = await _build(side, workers).run()
        finally:
            workers.close()
        assert built.swapped
        assert workers.folded == dict.fromkeys(range(TENANTS), EVENTS)
        assert built.events == TENANTS * EVENTS
        assert [report.equal for report in await verify_projections(side)] == [True]


async def test_a_build_goes_on_by_itself_when_its_workers_are_killed(store_url: str) -> None:  # F41
    async with read_side(store_url) as side:
        await _accounts_of_tenants(side)
        workers = Watched(side)
        workers._before = lambda: workers.kill() if workers.folded else None
        try:
            built = await _build(side, workers).run()
        finally:
            workers.close()
        assert built.swapped
        assert set(workers.folded) < set(range(TENANTS))
        assert built.events == TENANTS * EVENTS
        assert [report.equal for report in await verify_projections(side)] == [True]


async def test_what_a_worker_cannot_read_is_told_by_the_build(store_url: str) -> None:  # F39
    async with read_side(store_url) as side:
        await _accounts_of_tenants(side)
        stream = "accounts/a1"
        strange = NewEvent(stream, event_id(), "NotYetInvented", 1, b"{}")
        await side.log.append_batch(
            0, [Append("w0", stream, [Check(stream, Expect.ANY)], [strange], METADATA)]
        )
        workers = Watched(side)
        try:
            with pytest.raises(Held, match="NotYetInvented"):
                await _build(side, workers).run()
        finally:
            workers.close()
