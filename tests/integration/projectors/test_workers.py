"""One projection's work in a partition is split by key over workers, whose number changes while it goes on."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from event_store import feed
from projectors import live
from projectors.dead_letters import read_parked
from projectors.fold_workers import FoldWorkers
from projectors.folding import Place
from projectors.shares import share_of
from projectors.verify import verify_projections
from schemas import Event
from schemas.messages import INTEGER_MAX
from tests.integration.projectors.accounts import (
    TENANT,
    append,
    append_all,
    balances,
    caught_up,
    read_side,
    running_projector,
)
from tests.toy import AccountClosed, AccountOpened, Deposited, Withdrawn

SECONDS_MAX = 150.0


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[FoldWorkers]:
    """Workers that fold also small pages."""
    monkeypatch.setattr(live, "SPLIT_EVENTS_MIN", 10)
    some = FoldWorkers(("toy",), 1)
    yield some
    some.close()


def course(chance: random.Random, count: int, expected: Counter[str]) -> list[tuple[str, Event]]:
    """Return events of many accounts whose order matters, and add up what they come to."""
    events: list[tuple[str, Event]] = []
    for _ in range(count):
        account = f"a{chance.randrange(120)}"
        kind = chance.random()
        if kind < 0.1:
            events.append((account, AccountClosed()))
            expected.pop(account, None)
        elif kind < 0.3:
            events.append((account, Withdrawn(cents=2)))
            expected[account] -= 2
        else:
            events.append((account, Deposited(cents=5)))
            expected[account] += 5
    return events


@pytest.mark.timeout(300)
async def test_one_then_eight_then_three_workers_keep_order_and_apply_each_event_once(
    store_url: str, workers: FoldWorkers
) -> None:
    chance, expected = random.Random(183), Counter[str]()
    async with read_side(store_url) as side, running_projector(side, workers=workers):
        for number in (1, 8, 3, 1, 2):
            workers.resize(number)
            for _ in range(4):
                for _ in range(3):
                    position = await append_all(side.log, course(chance, 400, expected))
                await asyncio.sleep(0.05)  # several pages, and the number changes while there is more to do
            if number == 3:
                await caught_up(side, position, seconds=SECONDS_MAX)
                assert await balances(side) == dict(expected)
                for process in workers.processes()[:1]:
                    os.kill(process, signal.SIGKILL)
        await caught_up(side, position, seconds=SECONDS_MAX)
        assert await balances(side) == dict(expected)
        assert [report.equal for report in await verify_projections(side)] == [True]


@pytest.mark.timeout(300)
async def test_a_row_that_is_refused_parks_alone_with_workers_too(  # F38
    store_url: str, workers: FoldWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "PAGE_EVENTS_FIRST", feed.PAGE_EVENTS_MAX)  # one page holds all that follows
    workers.resize(2)
    async with read_side(store_url) as side:
        huge: list[tuple[str, Event]] = [("huge", Deposited(cents=INTEGER_MAX))] * 515
        for _ in range(2):
            await append_all(side.log, [("good", AccountOpened(owner="Go")), *huge])
        async with running_projector(side, workers=workers):
            position = await append(side.log, "good", Deposited(cents=3))
            await caught_up(side, position, seconds=SECONDS_MAX)
            assert await balances(side) == {"good": 3}
            parked = await read_parked(side, TENANT)
            assert len(parked) == 1_030
            assert bool(parked[0]["error"])


def test_a_key_has_one_worker_and_keys_spread() -> None:
    places = [Place("rows", "demo", (f"a{number}",)) for number in range(1_000)]
    for count in (1, 2, 3, 8):
        spread = Counter(share_of(place, count) for place in places)
        assert sorted(spread) == list(range(count))
        assert min(spread.values()) > 1_000 / count / 2
