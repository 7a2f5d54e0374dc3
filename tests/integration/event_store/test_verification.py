"""The chain, checked by several processes at once: the same answers, whatever is wrong and whoever is killed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from event_store import verification
from event_store.connections import StoreConnection
from event_store.integrity import verify_log
from event_store.postgres import PostgresLog
from event_store.verification import CheckInterrupted, cut, verify_whole_log
from schemas.envelope import CommitMark
from schemas.errors import StoreUnavailable
from tests.integration.event_store.tampering import fill, tamper
from tests.services import PARTITIONS

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "SLICE_EVENTS", 10)


@pytest.fixture
async def filled(log: PostgresLog) -> PostgresLog:
    """Two partitions with events, in commits of 1 to 40."""
    await fill(log, 1, 5, 40, 3, 3, 3, 12, 1, 1, 30)
    await fill(log, *[4] * 20, partition=3)
    return log


def children() -> set[int]:
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {int(pid) for pid in found if b"verification_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()}


async def some_children() -> set[int]:
    while not (found := children()):
        await asyncio.sleep(0.01)
    return found


@asynccontextmanager
async def checking(log: PostgresLog, url: str) -> AsyncIterator["asyncio.Task[object]"]:
    task: asyncio.Task[object] = asyncio.create_task(
        verify_whole_log(log, {range(PARTITIONS): url}, "everfold", processes=2)
    )
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, CheckInterrupted):
            await task


async def test_slices_cover_every_partition_and_meet_in_one_commit(filled: PostgresLog) -> None:
    slices = await cut(filled, await filled.heads(), 10)
    assert len(slices) > PARTITIONS
    for one, following in pairwise(slices):
        if one.partition == following.partition:
            assert one.until == following.after
        else:
            assert (one.until, following.after.position) == (None, 0)
    assert sorted({one.partition for one in slices}) == list(filled.partitions)


async def test_processes_find_what_one_finds_and_tell_how_far_they_are(
    filled: PostgresLog, store_url: str
) -> None:
    told: list[tuple[int, int]] = []
    report = await verify_whole_log(
        filled, {range(PARTITIONS): store_url}, "everfold", processes=2,
        checked=lambda partition, events: told.append((partition, events)),
    )  # fmt: skip
    assert report == await verify_log(filled, filled.partitions)
    assert report.ok
    assert report.marks == await filled.heads()
    assert sum(events for _, events in told) == report.events == 179


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE everfold.events SET data = set_byte(data, 2, 7) WHERE partition = 0 AND position IN (99, 12, 60)",
        "UPDATE everfold.events SET data = set_byte(data, 2, 7) WHERE position = 20",
        "DELETE FROM everfold.events WHERE partition = 3 AND position > 40",
        "DELETE FROM everfold.commits WHERE partition = 3 AND last_position BETWEEN 13 AND 50",
        "UPDATE everfold.commits SET hash = sha256(hash) WHERE partition = 3 AND last_position = 12",
        "UPDATE everfold.commits SET previous_hash = sha256(hash) WHERE partition = 3 AND last_position = 16",
        "UPDATE everfold.commits SET first_position = 1 WHERE partition = 3 AND last_position = 76",
        "DELETE FROM everfold.commits WHERE partition = 0 AND last_position = 99",
        "INSERT INTO everfold.events SELECT 81, 1, now(), gen_random_uuid(), 3, 1, 'x', 'y/1', 'Z', '', ''",
    ],
)
async def test_the_first_bad_position_is_the_same_however_many_check(
    filled: PostgresLog, store_url: str, admin: StoreConnection, statement: str
) -> None:
    await tamper(admin, statement)
    alone = await verify_log(filled, filled.partitions)
    report = await verify_whole_log(filled, {range(PARTITIONS): store_url}, "everfold", processes=3)
    assert not alone.ok
    assert (report.first_bad, report.events) == (alone.first_bad, alone.events)


def test_a_server_on_this_machine_is_left_its_share_of_the_processors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for processors, here, elsewhere in ((1, 1, 1), (2, 1, 2), (8, 4, 8), (64, 16, 16)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid, count=processors: set(range(count)))
        assert verification.processes_for({range(8): "postgresql://u@127.0.0.1:5/x"}) == here
        assert verification.processes_for({range(8): "postgresql://u@db-1.example/x"}) == elsewhere


async def test_what_was_checked_before_is_not_checked_again(
    filled: PostgresLog, store_url: str, admin: StoreConnection
) -> None:
    commit = await filled.commit_of(3, 40)
    assert commit is not None
    since: dict[int, CommitMark] = {3: commit.mark}
    await tamper(
        admin, "UPDATE everfold.events SET type = 'Other' WHERE partition = 3 AND position IN (39, 42)"
    )
    for processes in (1, 2):
        report = await verify_whole_log(
            filled, {range(PARTITIONS): store_url}, "everfold", processes=processes, since=since
        )
        assert report.first_bad is not None
        assert (report.first_bad.partition, report.first_bad.position) == (3, 42)


async def test_a_process_that_is_killed_is_an_error_and_no_answer(
    filled: PostgresLog, store_url: str
) -> None:
    async with checking(filled, store_url) as task:
        for pid in await some_children():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(CheckInterrupted) as interrupted:
            await task
    assert interrupted.value.exit_status == -signal.SIGKILL
    assert not children()


async def test_a_check_that_is_given_up_leaves_no_process(filled: PostgresLog, store_url: str) -> None:
    async with checking(filled, store_url):
        await some_children()
    assert not children()


async def test_a_server_that_is_away_is_no_fault_of_the_log(filled: PostgresLog) -> None:
    with pytest.raises(StoreUnavailable):
        await verify_whole_log(filled, {range(PARTITIONS): NOWHERE}, "everfold", processes=2)
