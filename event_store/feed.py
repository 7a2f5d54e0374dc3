"""
A consumer's view of one partition: ordered, gap-free, each event once, whatever the broker does.

A feed answers one question: what follows this mark? Each `Page` is a run of whole commits that begins exactly
there, so it cannot leave out or repeat anything. `LogFeed` asks the log itself; broker.py's feed takes what the
broker delivers, checks it against the log, and falls back on this one.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from event_store.log import Commit, Page
from event_store.pace import PAGE_SECONDS, Pace
from event_store.wake import HeadWatch
from schemas.envelope import CommitMark
from schemas.errors import EpochChanged
from schemas.moves import TenantArrived

PAGE_EVENTS_MAX = 2_000
PAGE_EVENTS_FIRST = 500
"""Pages begin with so many and double: who is killed every few seconds, or by what is in a page, still gets on."""
PAGE_BYTES_MAX = 8 * 1024 * 1024
POLL_SECONDS_MIN, POLL_SECONDS_MAX = 0.25, 1.0


class Feed(Protocol):
    """What follows a mark in one partition."""

    async def next(self, after: CommitMark, *, wait_seconds: float) -> Page:
        """
        Return what follows a mark, as soon as there is something; an empty page when the wait is over.

        Raises:
            EpochChanged: The log does not have the commit `after`.
        """
        ...

    async def settled(self, mark: CommitMark) -> None:
        """Take note that everything up to a mark has been committed, and need never come again."""
        ...

    async def close(self) -> None:
        """Let go of connections and tasks."""
        ...


class Pages(Protocol):
    """What gives the log page by page."""

    async def read_page(self, partition: int, after: CommitMark, *, events_max: int, bytes_max: int) -> Page:
        """Return what follows a place in a partition's history, whole commits only; see `EventLog.read_page`."""
        ...


def beyond(page: Page, mark: CommitMark) -> Page:
    """
    Return what of a page lies beyond a mark that is in it or before it.

    Raises:
        EpochChanged: The mark's position lies in the page, but its commit does not.
    """
    if mark.position <= page.after.position:
        if mark != page.after:
            raise EpochChanged(page.partition, mark.position)
        return page
    if mark.position >= page.end.position:
        return Page(page.partition, mark, (), mark)
    index = next((number for number, commit in enumerate(page.commits) if commit.mark == mark), None)
    if index is None:
        raise EpochChanged(page.partition, mark.position)
    first = mark.position - page.after.position
    return Page(page.partition, mark, page.events[first:], page.end, page.commits[index + 1 :])


def until(page: Page, position: int) -> Page:
    """Return the whole commits of a page that end at or before a position."""
    commits: Sequence[Commit] = [commit for commit in page.commits if commit.last_position <= position]
    if not commits:
        return Page(page.partition, page.after, (), page.after)
    end = commits[-1].mark
    return Page(page.partition, page.after, page.events[: end.position - page.after.position], end, commits)


def before_arrival(page: Page) -> Page:
    """Return a page up to the first arrival of a tenant that is not its first event."""
    arrived = TenantArrived.type
    first = next((event.position for event in page.events[1:] if event.type == arrived), None)
    return page if first is None else until(page, first - 1)


class LogFeed:
    """Follows the log itself: woken by the appenders' notifications, and by a look at the head now and then."""

    def __init__(
        self,
        log: Pages,
        partition: int,
        watch: HeadWatch | None = None,
        *,
        events_max: int = PAGE_EVENTS_MAX,
        page_seconds: float = PAGE_SECONDS,
    ) -> None:
        self._log = log
        self._partition = partition
        self._watch = watch
        self._events_max = events_max
        self._events = min(PAGE_EVENTS_FIRST, events_max)
        """How many the next page may hold."""
        self._ahead: tuple[CommitMark, asyncio.Task[Page]] | None = None
        self._end: CommitMark | None = None
        """Where the log ended when it was last read."""
        self._has_reached_end = False
        """Until then a small page may be one that a large commit has cut short, and nobody has told of the rest."""
        self._poll_seconds = POLL_SECONDS_MIN
        self._pace = Pace(page_seconds)

    async def next(self, after: CommitMark, *, wait_seconds: float) -> Page:
        """Return what follows a mark; reads on in the background while a full page is worked on."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_seconds
        if self._ahead is None and (patience := min(self._pace.wait_seconds(clock()), wait_seconds)) > 0:
            await asyncio.sleep(patience)
        if self._watch is not None and self._end == after and (left := deadline - clock()) > 0:
            await self._wait(after.position, min(left, self._poll_seconds))
        page = await self._read(after)
        while not page.events:
            left = deadline - clock()
            if left <= 0:
                return page
            await self._wait(after.position, min(left, self._poll_seconds))
            self._poll_seconds = min(2 * self._poll_seconds, POLL_SECONDS_MAX)
            page = await self._read(after)
        self._poll_seconds = POLL_SECONDS_MIN
        self._pace.took(len(page.events), clock())
        if len(page.events) >= self._events // 2:
            self._events = min(2 * self._events, self._events_max)
            self._ahead = page.end, asyncio.create_task(self._read_log(page.end))
        return page

    async def settled(self, mark: CommitMark) -> None:
        """Nothing to do: the log remembers, and the checkpoint says where."""

    async def close(self) -> None:
        """End reading ahead."""
        await self._drop_ahead()

    async def _read(self, after: CommitMark) -> Page:
        if self._ahead is not None and self._ahead[0] == after:
            (_, task), self._ahead = self._ahead, None
            page = await task
            if page.events:
                return page
        await self._drop_ahead()
        return await self._read_log(after)

    async def _read_log(self, after: CommitMark) -> Page:
        heard = self._watch.heard(self._partition) if self._watch is not None else 0
        limit = self._events
        page = await self._log.read_page(self._partition, after, events_max=limit, bytes_max=PAGE_BYTES_MAX)
        if self._watch is not None and heard > page.end.position and not page.events:
            self._watch.disbelieve(self._partition, heard)
        self._has_reached_end |= not page.events
        self._end = page.end if self._has_reached_end and _is_all(page, limit) else None
        return page

    async def _wait(self, position: int, seconds: float) -> None:
        if self._watch is None:
            await asyncio.sleep(seconds)
        else:
            await self._watch.wait_beyond(self._partition, position, seconds)

    async def _drop_ahead(self) -> None:
        if self._ahead is not None:
            (_, task), self._ahead = self._ahead, None
            task.cancel()
            await asyncio.gather(
                task, return_exceptions=True
            )  # and a cancellation of the caller is the caller's


def _is_all(page: Page, events_max: int) -> bool:
    """Say whether a page was likely all that the log had: neither bound has cut it short."""
    octets = sum(len(event.data) + len(event.metadata) for event in page.events)
    return len(page.events) <= events_max // 2 and octets <= PAGE_BYTES_MAX // 2
