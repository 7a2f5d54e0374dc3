"""A follower reads the log when there is something to read, and now and then without being told."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle

from event_store.feed import POLL_SECONDS_MIN, LogFeed
from event_store.log import Commit, Page
from event_store.wake import HeadWatch
from schemas.envelope import BEGINNING, CommitMark, RecordedEvent

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass
class Pages:
    """A log, of commits of one event each unless said otherwise, which counts how often it is read."""

    end: int = 0
    commit_events: tuple[int, ...] = (1,)
    """How many events commits have, in turn."""
    reads: int = 0
    watch: HeadWatch = field(default_factory=lambda: HeadWatch([], "test"))

    def append(self) -> None:
        self.end += 1
        self.watch.grown(0, self.end)

    async def read_page(self, partition: int, after: CommitMark, *, events_max: int, bytes_max: int) -> Page:
        self.reads += 1
        await asyncio.sleep(0)
        events: list[RecordedEvent] = []
        commits: list[Commit] = []
        mark = after
        last = 0
        for size in cycle(self.commit_events):
            first, last = last + 1, min(last + size, self.end)
            if first > last or (commits and last - after.position > events_max):
                break
            if last <= after.position:
                continue
            events += [
                RecordedEvent(0, position, "t", "s", position, "id", "Done", 1, b"{}", b"{}", NOW)
                for position in range(first, last + 1)
            ]
            commits.append(Commit(0, first, last, NOW, last.to_bytes(32), mark.hash))
            mark = commits[-1].mark
        return Page(partition, after, events, mark, commits)


async def test_each_page_is_one_read() -> None:
    pages = Pages()
    feed, mark = LogFeed(pages, 0, pages.watch, page_seconds=0), BEGINNING
    assert not (await feed.next(mark, wait_seconds=0)).events
    for number in range(2, 6):
        asyncio.get_running_loop().call_later(0.01, pages.append)
        page = await feed.next(mark, wait_seconds=1)
        assert len(page.events) == 1
        assert pages.reads == number
        mark = page.end


async def test_pages_begin_small_and_grow_and_none_is_waited_for() -> None:
    pages = Pages(end=5_000)
    feed, mark, sizes = LogFeed(pages, 0, pages.watch), BEGINNING, []
    async with asyncio.timeout(0.2):
        while mark.position < pages.end:
            page = await feed.next(mark, wait_seconds=5)
            mark = page.end
            sizes.append(len(page.events))
    assert sizes == [500, 1_000, 2_000, 1_500]


async def test_a_page_that_a_large_commit_has_cut_short_is_followed_at_once_though_nobody_has_told_of_more() -> (
    None
):
    pages = Pages(end=505, commit_events=(10, 495))
    feed = LogFeed(pages, 0, pages.watch)
    page = await feed.next(BEGINNING, wait_seconds=5)
    assert page.end.position == 10
    async with asyncio.timeout(POLL_SECONDS_MIN / 2):
        assert (await feed.next(page.end, wait_seconds=5)).end.position == 505


async def test_what_was_appended_meanwhile_is_read_at_once() -> None:
    pages = Pages()
    feed = LogFeed(pages, 0, pages.watch, page_seconds=0)
    pages.append()
    page = await feed.next(BEGINNING, wait_seconds=1)
    pages.append()
    async with asyncio.timeout(0.1):
        assert (await feed.next(page.end, wait_seconds=5)).end.position == 2


async def test_what_nobody_told_of_is_found_by_looking() -> None:
    pages = Pages()
    feed = LogFeed(pages, 0, pages.watch, page_seconds=0)
    pages.append()
    page = await feed.next(BEGINNING, wait_seconds=1)
    pages.end += 1
    assert (await feed.next(page.end, wait_seconds=2)).end.position == 2


async def test_who_does_not_wait_always_looks() -> None:
    pages = Pages()
    feed = LogFeed(pages, 0, pages.watch, page_seconds=0)
    pages.append()
    page = await feed.next(BEGINNING, wait_seconds=0)
    pages.end += 1
    assert (await feed.next(page.end, wait_seconds=0)).end.position == 2


async def test_news_of_a_history_that_was_lost_are_believed_once() -> None:
    pages = Pages()
    feed = LogFeed(pages, 0, pages.watch, page_seconds=0)
    pages.append()
    page = await feed.next(BEGINNING, wait_seconds=1)
    pages.watch.grown(0, 80)
    before = pages.reads
    assert not (await feed.next(page.end, wait_seconds=0.6)).events
    assert pages.reads - before <= 4, "it does not spin"
    pages.append()
    async with asyncio.timeout(0.1):
        assert (await feed.next(page.end, wait_seconds=5)).events
