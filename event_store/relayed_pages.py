"""
One partition's pages as messages, read and encoded once for all groups that they go to.

Groups that keep up ask for the same page at the same time; one that is held up by its queue reads by itself.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from event_store.feed_messages import encode_message, messages_of
from event_store.integrity import StoredTag
from event_store.log import EventLog, Page
from schemas.envelope import CommitMark


class RelayedLog(EventLog, Protocol):
    """What a relay needs of the log: events as they are stored, and their tags, which hashes cover."""

    async def read_tags(self, partition: int, first: int, last: int) -> Sequence[StoredTag]:
        """Return the tags of a range's events, in order of position and tag."""
        ...


class RelayedPages:
    """The pages of one partition; the last one is remembered, with its messages."""

    def __init__(self, event_log: RelayedLog) -> None:
        self._log = event_log
        self._page: Page | None = None
        self._messages: tuple[Page, Sequence[bytes]] | None = None
        self._reading, self._encoding = asyncio.Lock(), asyncio.Lock()

    async def read_page(self, partition: int, after: CommitMark, *, events_max: int, bytes_max: int) -> Page:
        """
        Return what follows a place in the partition's history, as far as it was when it was first asked for.

        Raises:
            EpochChanged: The log does not have the commit `after`.
        """
        async with self._reading:
            if self._page is not None and self._page.after == after:
                return self._page
            page = await self._log.read_page(partition, after, events_max=events_max, bytes_max=bytes_max)
            if page.events:
                self._page = page
            return page

    async def messages(self, page: Page) -> Sequence[bytes]:
        """Return the messages that a page is published as, in order."""
        async with self._encoding:
            if self._messages is None or self._messages[0] is not page:
                self._messages = page, await self._encode(page)
            return self._messages[1]

    async def _encode(self, page: Page) -> Sequence[bytes]:
        first, last = page.after.position + 1, page.end.position
        tags = defaultdict[int, list[str]](list)
        for stored in await self._log.read_tags(page.partition, first, last):
            tags[stored.position].append(stored.tag)
        return [encode_message(part, tags) for part in messages_of(page)]
