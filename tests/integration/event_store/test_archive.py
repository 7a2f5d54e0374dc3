"""Old events move to the archive: killed anywhere, under traffic, with the archive away or damaged. # F54"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest

from event_store.archive import BeingArchived, Policy
from event_store.connections import StoreConnection, connect
from event_store.integrity import verify_log
from event_store.log import Filter, StreamTail
from event_store.migrate import LogNotEmpty, migrate
from event_store.object_errors import ArchiveDamaged, ArchiveUnavailable
from event_store.object_store import DirectoryStore
from event_store.postgres import PostgresLog
from schemas.envelope import BEGINNING, RecordedEvent
from tests.archives import EVERYTHING, archive, archiver_of
from tests.contract.log.appends import TENANT, append
from tests.services import NAMESPACE, PARTITIONS

EVENTS = 20
"""Two full ranges of eight positions (the first begins with 1), and a part of the third."""
STEPS = ("copying", "copied", "checked", "published", "detached", "dropped")


class CountedStore(DirectoryStore):
    """A folder that remembers what it was asked for."""

    asked: ClassVar[list[str]] = []

    async def get(self, name: str, start: int = 0, octets: int | None = None) -> bytes:
        """Return what is kept, and remember that it was asked for."""
        self.asked.append(name)
        return await super().get(name, start, octets)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the archive is."""
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


@pytest.fixture
async def log(small_ranges_url: str, folder: Path) -> AsyncIterator[PostgresLog]:
    """A log of 20 events in commits of one, two and three, on four streams."""
    async with PostgresLog(
        {range(PARTITIONS): small_ranges_url}, NAMESPACE, archive=DirectoryStore(folder)
    ) as log:
        await fill(log)
        yield log


@pytest.fixture
async def admin(small_ranges_url: str) -> AsyncIterator[StoreConnection]:
    """A superuser's connection to the log's database."""
    connection = await connect(small_ranges_url)
    yield connection
    connection.terminate()


async def fill(log: PostgresLog) -> None:
    versions = dict.fromkeys(range(4), 0)
    written = 0
    while written < EVENTS:
        size = min(written % 3 + 1, EVENTS - written)
        stream = written % 4
        await log.append_batch(
            0, [append(f"a/{stream}", versions[stream], size, data=b'{"n": %d}' % written)]
        )
        versions[stream] += size
        written += size
        await log.keep_house(0, keys_kept=timedelta(days=1))


async def everything(log: PostgresLog) -> list[RecordedEvent]:
    """Return all events of partition 0, read as a follower reads them."""
    events: list[RecordedEvent] = []
    after = BEGINNING
    while (page := await log.read_page(0, after, events_max=4)).events:
        events += page.events
        after = page.end
    return events


async def tables_of(admin: StoreConnection) -> list[str]:
    rows = await admin.fetch(
        "SELECT relname FROM pg_class WHERE relname ~ '^events_p0_r[0-9]+$' ORDER BY length(relname), relname"
    )
    return [row[0] for row in rows]


async def run_killed_at(url: str, folder: Path, step: str, hit: int = 1) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.archives", url, str(folder),
        env={**os.environ, "EVERFOLD_FAILPOINTS": f"archive.{step}=kill@{hit}"},
    )  # fmt: skip
    return await process.wait()


def objects_of(folder: Path, kind: str = "0*") -> Sequence[Path]:
    return sorted(folder.rglob(kind))


async def test_full_ranges_are_read_from_the_archive_and_their_tables_are_gone(
    log: PostgresLog, small_ranges_url: str, folder: Path, admin: StoreConnection
) -> None:
    before = await everything(log)
    done = await archive(log, DirectoryStore(folder), small_ranges_url)
    assert [(one.first_position, one.last_position) for one in done] == [(1, 7), (8, 15)]
    assert await tables_of(admin) == ["events_p0_r2", "events_p0_r3"]
    assert await everything(log) == before
    assert (await verify_log(log, log.partitions)).document() == {"ok": True, "first_bad": None}
    assert await archive(log, DirectoryStore(folder), small_ranges_url) == []


@pytest.mark.parametrize("hit", [1, 2], ids=["first-range", "second-range"])
@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_any_step_every_event_is_readable_and_the_next_run_finishes(
    log: PostgresLog, small_ranges_url: str, folder: Path, admin: StoreConnection, step: str, hit: int
) -> None:
    before = await everything(log)
    assert await run_killed_at(small_ranges_url, folder, step, hit) == -signal.SIGKILL
    async with PostgresLog(
        {range(PARTITIONS): small_ranges_url}, NAMESPACE, archive=DirectoryStore(folder)
    ) as other:
        assert await everything(other) == await everything(log) == before
    await archive(log, DirectoryStore(folder), small_ranges_url)
    assert await tables_of(admin) == ["events_p0_r2", "events_p0_r3"]
    assert await everything(log) == before
    assert (await verify_log(log, log.partitions)).ok


async def test_writers_and_followers_go_on_while_ranges_are_archived(
    log: PostgresLog, small_ranges_url: str, folder: Path
) -> None:
    """No append and no page waits for the archiver, and a follower sees every event once, in order."""
    written = asyncio.Event()

    async def write() -> None:
        for version in range(60):
            await log.append_batch(0, [append("b/1", version)])
            await log.keep_house(0, keys_kept=timedelta(days=1))
        written.set()

    async def follow() -> list[RecordedEvent]:
        seen: list[RecordedEvent] = []
        after = BEGINNING
        while True:
            is_last = written.is_set()
            page = await log.read_page(0, after, events_max=3)
            seen, after = [*seen, *page.events], page.end
            if is_last and not page.events:
                return seen

    async def move() -> int:
        moved = 0
        while not written.is_set():
            moved += len(await archive(log, DirectoryStore(folder), small_ranges_url))
        return moved

    seen, _, moved = await asyncio.gather(follow(), write(), move())
    assert [event.position for event in seen] == list(range(1, EVENTS + 61))
    assert moved > 2
    assert [event.version async for event in log.read_stream(TENANT, "b/1")] == list(range(1, 61))


async def test_a_table_stays_until_no_statement_runs_that_may_not_know_of_the_archive(
    log: PostgresLog, small_ranges_url: str, folder: Path, admin: StoreConnection
) -> None:
    before = await everything(log)
    async with admin.transaction(isolation="repeatable_read"):
        assert await admin.fetchval("SELECT count(*) FROM everfold.streams") == 4  # its snapshot is taken
        moving = asyncio.create_task(archive(log, DirectoryStore(folder), small_ranges_url))
        while not await log._archive.ranges_of(0):
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        assert not moving.done()
        assert await admin.fetchval("SELECT count(*) FROM everfold.events WHERE position < 8") == 7
        assert await everything(log) == before
    assert len(await moving) == 2


async def test_only_what_is_old_enough_and_beyond_what_is_kept_is_taken(
    log: PostgresLog, small_ranges_url: str, folder: Path, admin: StoreConnection
) -> None:
    archiver = archiver_of(log, DirectoryStore(folder), small_ranges_url)

    async def taken(policy: Policy) -> list[int]:
        return [one.range for one in await archiver.candidates(0, policy)]

    assert await taken(EVERYTHING) == [0, 1]
    assert await taken(Policy(keep=6, age_min=timedelta())) == [0]
    assert await taken(Policy(keep=EVENTS, age_min=timedelta())) == []
    assert await taken(Policy(keep=0)) == [], "an append's outcome may still be asked for"
    assert await taken(Policy(older_than=timedelta(days=1), age_min=timedelta())) == []
    assert await taken(Policy(older_than=timedelta(), age_min=timedelta())) == [0, 1]
    assert await taken(Policy(age_min=timedelta())) == [], "nothing was said to be old"
    assert await tables_of(admin) == [f"events_p0_r{number}" for number in range(4)]


async def test_one_archiver_at_a_time_works_on_a_partition(
    log: PostgresLog, small_ranges_url: str, folder: Path, admin: StoreConnection
) -> None:
    await admin.execute("SELECT pg_advisory_lock(hashtextextended($1, $2))", f"{NAMESPACE}/archive", 0)
    with pytest.raises(BeingArchived):
        await archive(log, DirectoryStore(folder), small_ranges_url)


async def test_a_copy_that_is_not_what_was_put_there_costs_no_table(
    log: PostgresLog, small_ranges_url: str, folder: Path, admin: StoreConnection
) -> None:
    class LossyStore(DirectoryStore):
        async def put(self, name: str, content: bytes) -> None:
            spoilt = content[:40] + bytes([content[40] ^ 1]) + content[41:]
            await super().put(name, content if name.endswith("manifest") else spoilt)

    with pytest.raises(ArchiveDamaged, match=f"{NAMESPACE}/p0/r0-.*/000000"):
        await archive(log, LossyStore(folder), small_ranges_url)
    assert len(await tables_of(admin)) == 4
    assert await log._archive.ranges_of(0) == []


async def test_a_table_whose_copy_was_lost_since_it_was_published_stays(
    log: PostgresLog, small_ranges_url: str, folder: Path, admin: StoreConnection
) -> None:
    assert await run_killed_at(small_ranges_url, folder, "published") == -signal.SIGKILL
    (lost,) = objects_of(folder)
    lost.unlink()
    with pytest.raises(ArchiveDamaged, match="missing"):
        await archive(log, DirectoryStore(folder), small_ranges_url)
    assert len(await tables_of(admin)) == 4


async def test_a_changed_object_is_found_and_named(
    log: PostgresLog, small_ranges_url: str, folder: Path
) -> None:
    await archive(log, DirectoryStore(folder), small_ranges_url)
    second = objects_of(folder)[1 if "r1-" in str(objects_of(folder)[1]) else 0]
    content = bytearray(second.read_bytes())
    content[20] ^= 1
    second.write_bytes(content)
    name = second.relative_to(folder).as_posix()
    with pytest.raises(ArchiveDamaged, match=name):
        await everything(log)
    report = await verify_log(log, [0])
    assert report.first_bad is not None
    assert name in report.first_bad.reason


async def test_a_changed_manifest_is_not_believed(
    log: PostgresLog, small_ranges_url: str, folder: Path
) -> None:
    await archive(log, DirectoryStore(folder), small_ranges_url)
    first, second = objects_of(folder, "manifest")
    first.write_bytes(second.read_bytes())
    with pytest.raises(ArchiveDamaged, match="sha256"):
        await everything(log)


async def test_with_the_archive_away_what_is_not_in_it_is_served(
    log: PostgresLog, small_ranges_url: str, folder: Path
) -> None:
    await archive(log, DirectoryStore(folder), small_ranges_url)
    await log.append_batch(0, [append("new/1", 0)])
    folder.rename(folder.with_name("away"))
    async with PostgresLog(
        {range(PARTITIONS): small_ranges_url}, NAMESPACE, archive=DirectoryStore(folder)
    ) as other:
        with pytest.raises(ArchiveUnavailable, match="p0/r0-"):
            await everything(other)
        with pytest.raises(ArchiveUnavailable):
            _ = [event async for event in other.read_stream(TENANT, "a/1")]
        assert len(await other.read_range(0, 16, EVENTS)) == EVENTS - 15
        events, _ = await other.read_tails(0, [StreamTail(TENANT, "new/1"), StreamTail(TENANT, "never/1")])
        assert [event.stream for event in events] == ["new/1"]
        await other.append_batch(0, [append("new/1", 1)])
    async with PostgresLog({range(PARTITIONS): small_ranges_url}, NAMESPACE) as unconfigured:
        with pytest.raises(ArchiveUnavailable, match="EVERFOLD_ARCHIVE_URL is not set"):
            await unconfigured.read_range(0, 1, 3)


async def test_hot_streams_never_ask_the_archive(
    log: PostgresLog, small_ranges_url: str, folder: Path
) -> None:
    whole = {
        f"a/{number}": [event async for event in log.read_stream(TENANT, f"a/{number}")]
        for number in range(4)
    }
    await archive(log, DirectoryStore(folder), small_ranges_url)
    await log.append_batch(0, [append("new/1", 0, 3)])
    store = CountedStore(folder)
    store.asked.clear()
    async with PostgresLog({range(PARTITIONS): small_ranges_url}, NAMESPACE, archive=store) as other:
        hot = [StreamTail(TENANT, "new/1"), StreamTail(TENANT, "new/1", 3), StreamTail(TENANT, "absent/1")]
        recent = [
            StreamTail(TENANT, name, min(e.version for e in events if e.position > 15) - 1)
            for name, events in whole.items()
            if events[-1].position > 15
        ]
        assert recent
        await other.read_tails(0, [*hot, *recent])
        assert [event.version async for event in other.read_stream(TENANT, "new/1")] == [1, 2, 3]
        assert await other.read_range(0, 16, EVENTS)
        assert store.asked == []
        events, _ = await other.read_tails(0, [StreamTail(TENANT, name) for name in whole])
        assert events == sorted(event for stream in whole.values() for event in stream)
        assert store.asked


async def test_a_stream_is_read_within_its_bounds_across_the_border(
    log: PostgresLog, small_ranges_url: str, folder: Path
) -> None:
    streams = [f"a/{number}" for number in range(4)]
    whole = {name: [event async for event in log.read_stream(TENANT, name)] for name in streams}
    await archive(log, DirectoryStore(folder), small_ranges_url)
    for name, events in whole.items():
        for event in events:
            after = [e async for e in log.read_stream(TENANT, name, after_version=event.version)]
            assert after == events[event.version :]
            until = [e async for e in log.read_stream(TENANT, name, until_position=event.position)]
            assert until == events[: event.version]
            time, version = event.recorded_at, event.version
            past = [e async for e in log.read_stream(TENANT, name, until_time=time)]
            assert past == [e for e in events if e.recorded_at <= time]
            since = [
                e async for e in log.read_stream(TENANT, name, since_time=time, until_version=version + 2)
            ]
            assert since == [e for e in events if e.recorded_at >= time and e.version <= version + 2]
            back = [e async for e in log.read_stream(TENANT, name, until_time=time, backwards=True)]
            assert back == past[::-1]
            last = [
                e async for e in log.read_stream(TENANT, name, since_time=time, backwards=True, events_max=3)
            ]
            assert last == [e for e in events if e.recorded_at >= time][::-1][:3]


async def test_a_filter_finds_archived_events_too(
    log: PostgresLog, small_ranges_url: str, folder: Path
) -> None:
    await log.append_batch(0, [append("b/1", 0, 2, tenant="other"), append("b/2", 0, tenant="other")])
    await log.append_batch(0, [append("a/4", 0, 8)])
    await log.keep_house(0, keys_kept=timedelta(days=1))
    expected = [event for event in await everything(log) if event.tenant == "other"]
    for _ in range(2):
        found: list[RecordedEvent] = []
        after = BEGINNING
        while True:
            matches = await log.read_filtered(0, after, Filter(tenant="other"), events_max=2)
            if matches.end == after:
                break
            found, after = [*found, *matches.events], matches.end
        assert found == expected
        await archive(log, DirectoryStore(folder), small_ranges_url)
    assert expected[0].position <= await log._archive.events.end(0)


async def test_the_layout_goes_back_only_while_nothing_is_archived(
    log: PostgresLog, small_ranges_url: str, folder: Path, admin: StoreConnection
) -> None:
    await archive(log, DirectoryStore(folder), small_ranges_url)
    rows = await admin.fetch(
        "SELECT range, actor, reason, dropped_at IS NOT NULL FROM everfold.archived_ranges"
    )
    assert [tuple(row) for row in rows] == [(0, "test", "tests", True), (1, "test", "tests", True)]
    with pytest.raises(LogNotEmpty):
        migrate(small_ranges_url, NAMESPACE, range(PARTITIONS), to="r0004_operator_acts")
