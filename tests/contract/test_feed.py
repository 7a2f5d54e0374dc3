"""Every feed keeps the same promise: what follows a mark, whole commits, once and in order, whatever carries it."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import NamedTuple

import pytest

from event_store.broker import BrokerFeeds
from event_store.feed import Feed, LogFeed
from schemas.envelope import BEGINNING, CommitMark
from schemas.errors import EpochChanged
from tests.integration.feed.feeding import GROUP, NOWHERE, Feeding, feeding

WAIT_SECONDS = 8.0


class Under(NamedTuple):
    """A feed under test, and its log."""

    feed: Feed
    system: Feeding


@pytest.fixture(params=["log", "broker", "broker that is away"])
async def under(request: pytest.FixtureRequest, database: str, broker_url: str) -> AsyncIterator[Under]:
    url = NOWHERE if request.param == "broker that is away" else broker_url
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(feeding(database, broker_url))
        feed: Feed
        if request.param == "log":
            feed = LogFeed(system.log, system.partition, system.watch)
        else:
            if request.param == "broker":
                await stack.enter_async_context(system.relaying())
            feeds = await stack.enter_async_context(
                BrokerFeeds(url, system.namespace, GROUP, system.log, system.watch)
            )
            feed = await feeds.feed_of(system.partition)
        stack.push_async_callback(feed.close)
        yield Under(feed, system)


async def positions_after(under: Under, mark: CommitMark, last: int) -> list[int]:
    """Return all positions that the feed gives up to a last one."""
    found: list[int] = []
    while mark.position < last:
        page = await under.feed.next(mark, wait_seconds=WAIT_SECONDS)
        assert page.events, "there is more"
        assert page.after == mark
        assert page.commits[-1].mark == page.end
        found += [event.position for event in page.events]
        mark = page.end
        await under.feed.settled(mark)
    return found


async def test_all_of_the_log_comes_once_and_in_order(under: Under) -> None:
    for count in (3, 1, 7, 2):
        last = await under.system.append(count)
    assert await positions_after(under, BEGINNING, last) == list(range(1, 14))


async def test_it_goes_on_from_any_commit_also_from_an_earlier_one_again(under: Under) -> None:
    first = await under.system.append(3)
    last = await under.system.append(4)
    commit = await under.system.log.commit_of(under.system.partition, first)
    assert commit is not None
    assert await positions_after(under, commit.mark, last) == [4, 5, 6, 7]
    assert await positions_after(under, BEGINNING, last) == list(range(1, 8))


async def test_an_append_wakes_it(under: Under) -> None:
    last = await under.system.append(1)
    page = await under.feed.next(BEGINNING, wait_seconds=WAIT_SECONDS)
    assert page.end.position == last
    await under.system.append(1)
    started = time.monotonic()
    assert (await under.feed.next(page.end, wait_seconds=WAIT_SECONDS)).events
    assert time.monotonic() - started < WAIT_SECONDS / 2


async def test_with_nothing_new_it_answers_an_empty_page_when_the_wait_is_over(under: Under) -> None:
    page = await under.feed.next(BEGINNING, wait_seconds=0.3)
    assert (page.after, page.end, list(page.events)) == (BEGINNING, BEGINNING, [])


async def test_a_mark_of_another_history_is_refused(under: Under) -> None:
    last = await under.system.append(2)
    unknown = CommitMark(last, b"another history".ljust(32))
    with pytest.raises(EpochChanged):
        await under.feed.next(unknown, wait_seconds=WAIT_SECONDS)


async def test_two_events_appended_far_apart_in_time_come_one_by_one(under: Under) -> None:
    mark = BEGINNING
    for expected in (1, 2, 3):
        assert await under.system.append(1) == expected
        assert await positions_after(under, mark, expected) == [expected]
        commit = await under.system.log.commit_of(under.system.partition, expected)
        assert commit is not None
        mark = commit.mark
