"""Partitions that a tenant has left, and come to, are archived: its past answers as before. # F54 F55"""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from event_store.archive import Archived
from event_store.failures import TenantLivedThere
from event_store.integrity import verify_log
from event_store.log import CONDITION, Answer, Filter, StateTail, StreamTail, TagTail
from event_store.object_errors import ArchiveUnavailable
from event_store.object_store import DirectoryStore
from event_store.postgres import PostgresLog
from schemas.envelope import BEGINNING
from schemas.errors import TenantMoving
from schemas.moves import TenantArrived, TenantLeft, stream_of
from tests.archives import archive
from tests.contract.log.appends import TENANT, append, key, tagged, unless
from tests.services import NAMESPACE, PARTITIONS, SMALL_RANGE_EVENTS

OTHER = "globex"
SHAPE = b"s" * 16
STREAMS = ("a/0", "a/1", "a/2", stream_of(TENANT))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the archive is."""
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


@pytest.fixture
async def log(small_ranges_url: str, folder: Path) -> AsyncIterator[PostgresLog]:
    """A log with an archive and ranges of eight positions."""
    async with open_log(small_ranges_url, folder) as log:
        yield log


def open_log(url: str, folder: Path) -> PostgresLog:
    return PostgresLog({range(PARTITIONS): url}, NAMESPACE, archive=DirectoryStore(folder))


async def live(log: PostgresLog, partition: int, versions: dict[str, int]) -> None:
    """Have the tenant append some, and a neighbour so much that all of it, and a move after it, is in full ranges."""
    for number in range(9):
        stream = STREAMS[number % 3]
        await log.append_batch(
            partition,
            [append(stream, versions.get(stream, 0), tags=("red",), key=key(f"{partition}/{number}"))],
        )
        versions[stream] = versions.get(stream, 0) + 1
        await log.keep_house(partition, keys_kept=timedelta(days=1))


async def crowd(log: PostgresLog, partition: int) -> None:
    """Have a neighbour fill up the range that the partition's head is in, and one more."""
    for number in range(2 * SMALL_RANGE_EVENTS):
        await log.append_batch(partition, [append(f"n/{partition}/{number}", 0, tenant=OTHER)])
        await log.keep_house(partition, keys_kept=timedelta(days=1))


async def archive_all(log: PostgresLog, folder: Path, url: str, partition: int) -> list[Archived]:
    done = await archive(log, DirectoryStore(folder), url, partition)
    ends = await log._archive.events.end(partition)
    assert done
    assert ends == done[-1].last_position
    return done


async def followed(log: PostgresLog, partition: int) -> list[Any]:
    """Return a partition's pages as a follower reads them: their ends, arrivals and events."""
    pages: list[Any] = []
    after = BEGINNING
    while (page := await log.read_page(partition, after, events_max=5)).events:
        pages.append((page.end, page.arrival, page.events))
        after = page.end
    return pages


async def filtered(log: PostgresLog, partition: int) -> list[Any]:
    events: list[Any] = []
    after = BEGINNING
    while (
        found := await log.read_filtered(partition, after, Filter(tenant=TENANT), events_max=5)
    ).end != after:
        events, after = [*events, *found.events], found.end
    return events


async def answers(log: PostgresLog) -> dict[str, Any]:
    """Return what a log says of a tenant, wherever it has lived, in every way that it can be asked."""
    lived = await log.residences_of(TENANT)
    said: dict[str, Any] = {"residences": list(lived)}
    for stream in STREAMS:
        whole = [event async for event in log.read_stream(TENANT, stream)]
        said[stream] = whole
        said[f"{stream} backwards"] = [e async for e in log.read_stream(TENANT, stream, backwards=True)]
        for event in whole:
            at = f"{stream} {event.version}"
            said[f"{at} until place"] = [
                e
                async for e in log.read_stream(
                    TENANT, stream, until_position=event.position, until_partition=event.partition
                )
            ]
            said[f"{at} until time"] = [
                e async for e in log.read_stream(TENANT, stream, until_time=event.recorded_at)
            ]
            said[f"{at} since time"] = [
                e async for e in log.read_stream(TENANT, stream, since_time=event.recorded_at, backwards=True)
            ]
            said[f"{at} after"] = [
                e async for e in log.read_stream(TENANT, stream, after_version=event.version, events_max=2)
            ]
    present = lived.present.partition
    said["tails"] = (await log.read_tails(present, [StreamTail(TENANT, name) for name in STREAMS]))[0]
    said["tails after 2"] = (
        await log.read_tails(present, [StreamTail(TENANT, name, 2) for name in STREAMS])
    )[0]
    said["states"] = (
        await log.read_states(present, [StateTail(TENANT, name, shape=SHAPE) for name in STREAMS])
    ).events
    said["tagged"] = (await log.read_tagged(present, [TagTail(TENANT, "red")]))[0]
    for stay in lived:
        said[f"pages of {stay.partition}"] = await followed(log, stay.partition)
        said[f"filtered {stay.partition}"] = await filtered(log, stay.partition)
        said[f"moved {stay.partition}"] = await log.moved_tenants(stay.partition)
    return said


async def test_what_was_left_is_archived_and_everything_answers_as_before(
    log: PostgresLog, small_ranges_url: str, folder: Path
) -> None:
    home = await log.partition_of(TENANT)
    second, third = [partition for partition in log.partitions if partition != home][:2]
    versions: dict[str, int] = {}
    for partition in (second, third):  # so that arrivals stand amid what a page would take in
        await log.append_batch(partition, [append("x/1", 0, 3, tenant=OTHER)])
    await live(log, home, versions)
    await log.move_tenant(TENANT, second)
    await crowd(log, home)
    await live(log, second, versions)
    before = await answers(log)
    assert len(before["residences"]) == 2
    assert [event.version for event in before["a/1"]] == [1, 2, 3, 4, 5, 6]

    await archive_all(log, folder, small_ranges_url, home)
    assert (await log._archive.events.end(home)) >= before["residences"][0].last_position, (
        "the fence is in it"
    )
    async with open_log(small_ranges_url, folder) as fresh:
        for one in (log, fresh):
            assert await answers(one) == before
            assert (await verify_log(one, one.partitions)).ok
        with pytest.raises(TenantMoving):
            await fresh.append_batch(home, [append("a/1", 6)])
        repeated, reused, conflict = await fresh.append_batch(
            second,
            [
                append("a/1", 0, key=key(f"{home}/1")),
                append("a/1", 6, key=key(f"{home}/1", request=b"another")),
                tagged("a/9", "red", conditions=[unless("red")]),
            ],
        )
        assert (repeated.answer, repeated.partition) == (Answer.DUPLICATE, home)
        assert reused.answer is Answer.REUSED
        assert (conflict.answer, conflict.conflict) == (Answer.CONFLICT, CONDITION)

    await log.move_tenant(TENANT, third)
    await crowd(log, second)
    await live(log, third, versions)
    with pytest.raises(TenantLivedThere):
        await log.move_tenant(TENANT, home)
    moved = await answers(log)
    assert [event.version for event in moved["a/1"]] == list(range(1, 10))
    assert moved["a/1"][:6] == before["a/1"]
    assert [event.type for event in moved[stream_of(TENANT)]] == [TenantLeft.type, TenantArrived.type] * 2

    await crowd(log, third)
    moved = await answers(log)
    for partition in (second, third):
        await archive_all(log, folder, small_ranges_url, partition)
    async with open_log(small_ranges_url, folder) as fresh:
        for one in (log, fresh):
            assert await answers(one) == moved
            assert (await verify_log(one, one.partitions)).ok
        outcomes = await fresh.append_batch(
            third,
            [
                append("a/1", 9),
                append("a/2", 0, key=key(f"{home}/2")),
                append("a/2", 0, key=key(f"{second}/2")),
            ],
        )
        assert [(one.answer, one.partition) for one in outcomes] == [
            (Answer.APPENDED, None), (Answer.DUPLICATE, home), (Answer.DUPLICATE, second),
        ]  # fmt: skip


async def test_a_tenant_whose_streams_are_archived_moves_and_with_the_archive_away_its_new_streams_are_served(
    log: PostgresLog, small_ranges_url: str, folder: Path
) -> None:
    """Nothing of a move needs the archive: versions and keys are in the database."""
    home = await log.partition_of(TENANT)
    to = next(partition for partition in log.partitions if partition != home)
    versions: dict[str, int] = {}
    await live(log, home, versions)
    await crowd(log, home)
    await archive_all(log, folder, small_ranges_url, home)
    folder.rename(folder.with_name("away"))
    async with open_log(small_ranges_url, folder) as other:
        await other.move_tenant(TENANT, to)
        outcomes = await other.append_batch(
            to, [append("a/1", versions["a/1"]), append("new/1", 0), append("a/2", 0, key=key(f"{home}/2"))]
        )
        assert [(one.answer, one.partition) for one in outcomes] == [
            (Answer.APPENDED, None), (Answer.APPENDED, None), (Answer.DUPLICATE, home),
        ]  # fmt: skip
        assert [event.partition async for event in other.read_stream(TENANT, "new/1")] == [to]
        with pytest.raises(ArchiveUnavailable):
            _ = [event async for event in other.read_stream(TENANT, "a/1")]
    folder.with_name("away").rename(folder)
    async with open_log(small_ranges_url, folder) as back:
        found = [(event.partition, event.version) async for event in back.read_stream(TENANT, "a/1")]
        assert found == [(home, 1), (home, 2), (home, 3), (to, 4)]
        assert (await verify_log(back, back.partitions)).ok
