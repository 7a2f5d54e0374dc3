"""
All live streams of this process: who may open one, and what streams have in common.
"""

import asyncio
from collections import Counter as Counts
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from infra.auth import Principal
from infra.telemetry import Gauge, log
from query_api.applied import ReadSide
from query_api.freshness import Home
from query_api.live.changes import Changes
from query_api.live.group import Group
from query_api.live.marks import Marks, Told
from query_api.live.reading import LiveReader
from query_api.live.stream import Stream
from query_api.live.subscription import Watched
from query_api.live.tail import Tail, life_of
from query_api.query import ListQuery
from schemas.errors import Overloaded, RateLimited, StoreUnavailable

MOVES_SECONDS = 1.0
MOVED = "the tenant has moved"
STREAMS = Gauge("everfold_live_streams", "Live streams that are open")


@dataclass(frozen=True)
class Caps:
    """How many streams one process keeps open."""

    of_subject: int
    of_tenant: int
    of_process: int


@dataclass(eq=False)
class TooManyStreams(RateLimited, slug=RateLimited.slug):
    """So many live streams are open already; close some, or wait."""

    streams_max: int
    of: str
    """Whose they are: the `subject`'s or the `tenant`'s."""


class Hub:
    """The streams, and the groups and tails that serve them."""

    def __init__(
        self,
        views: Mapping[str, type[ListQuery]],
        side: ReadSide,
        changes: Changes,
        reader: LiveReader,
        marks: Marks,
        caps: Caps,
        home_of: Callable[[str], Awaitable[Home]],
    ) -> None:
        self.views = views
        self._home_of = home_of
        self._watching: asyncio.Task[None] | None = None
        self.changes, self.reader, self.marks = changes, reader, marks
        self._side, self._caps = side, caps
        self._tails: dict[int, Tail] = {}
        self._streams: set[Stream] = set()
        self._open = 0
        self._of_tenant: Counts[str] = Counts()
        self._of_subject: Counts[tuple[str, str]] = Counts()
        self._closing: set[asyncio.Task[None]] = set()

    @contextmanager
    def place(self, principal: Principal, tenant: str) -> Iterator[None]:
        """
        Count a stream for a block.

        Raises:
            RateLimited: The subject or the tenant has too many.
            Overloaded: The process has.
        """
        subject = tenant, principal.subject
        if self._of_subject[subject] >= self._caps.of_subject:
            raise TooManyStreams(self._caps.of_subject, "subject")
        if self._of_tenant[tenant] >= self._caps.of_tenant:
            raise TooManyStreams(self._caps.of_tenant, "tenant")
        if self._open >= self._caps.of_process:
            raise Overloaded(waiting=self._open)
        self._count(subject, tenant, 1)
        try:
            yield
        finally:
            self._count(subject, tenant, -1)

    def _count(self, subject: tuple[str, str], tenant: str, more: int) -> None:
        self._open += more
        STREAMS.inc(more)
        self._of_subject[subject] += more
        self._of_tenant[tenant] += more
        if not self._of_subject[subject]:
            del self._of_subject[subject]
        if not self._of_tenant[tenant]:
            del self._of_tenant[tenant]

    async def run(self, stream: Stream, known: Mapping[str, Told] | None) -> None:
        """Run a stream until it ends; see `Stream.run`."""
        self._streams.add(stream)
        if self._watching is None:
            self._watching = asyncio.create_task(
                self._watch_moves(), name="live streams of tenants that move"
            )
        try:
            await stream.run(known)
        finally:
            self._streams.discard(stream)

    async def _watch_moves(self) -> None:
        """End the streams of tenants that have moved: each begins anew where its tenant lives now."""
        while True:
            await asyncio.sleep(MOVES_SECONDS)
            for tenant in {stream.tenant for stream in self._streams}:
                try:
                    home = await self._home_of(tenant)
                except StoreUnavailable as error:
                    log.info("moves not looked at", tenant=tenant, error=repr(error))
                    continue
                for stream in self._streams:
                    if stream.tenant == tenant and stream.partition != home.partition:
                        stream.end(MOVED)

    def end_all(self, reason: str) -> None:
        """Have every stream end soon."""
        for stream in self._streams:
            stream.end(reason)

    async def close(self) -> None:
        """Stop following the log."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        tails: Sequence[Tail] = list(self._tails.values())
        self._tails.clear()
        await asyncio.gather(*(tail.close() for tail in tails), *self._closing)

    async def group_of(self, watched: Watched) -> Group:
        """Return the group of a view, which is kept as long as somebody uses it."""
        await self._side.generations((watched.projection,), watched.partition)
        if watched.partition not in self._tails:
            await self._side.refresh()
        tail = self._tails.get(watched.partition)
        if tail is None:
            tail = self._tails[watched.partition] = Tail(watched.partition, self._side, self.changes)
        group = tail.find(watched)
        if group is None:
            group = Group(watched, tail.base(watched), self.reader)
            tail.add(group)
        group.users += 1
        return group

    def release(self, group: Group) -> None:
        """Take note that a group has one user less."""
        group.users -= 1
        tail = self._tails.get(group.watched.partition)
        if group.users or tail is None:
            return
        tail.remove(group)
        if tail.is_idle:
            del self._tails[group.watched.partition]
            closing = asyncio.create_task(tail.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def is_present(self, watched: Watched, told: Told) -> bool:
        """Say whether what was told is of the present life of a view's rows."""
        if life_of(self._side, watched) == told.life:
            return True
        await self._side.refresh()
        return life_of(self._side, watched) == told.life
