"""
One client's stream: what is there now, or what it has missed, and then every change, until it ends.

What all streams of a group are told is put in each one's queue, which has a bound. Where that is reached, and at the
beginning, the stream's own task reads and sends what the client lacks, at the client's pace, and joins the group again.
A client that takes nothing for long is dropped; it misses nothing when it comes back with its mark.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from infra.telemetry import Counter
from query_api.freshness import token_of
from query_api.live import messages
from query_api.live.changes import Changes, TooOld
from query_api.live.group import MEMBERS_MAX, Frames, Group, arrange, tell_ahead, tell_settled
from query_api.live.marks import AHEAD_MAX, BETWEEN, Marks, Told
from query_api.live.messages import Encode, Outgoing
from query_api.live.reading import LiveReader
from query_api.live.subscription import Watched

HEARTBEAT_SECONDS = 15.0
WAITING_BYTES_MAX = 1024 * 1024
SENT_TOGETHER_BYTES = 256 * 1024
WRITE_SECONDS_MAX = 20.0
AGAIN_SECONDS = 0.05
RESET_SECONDS = 0.25
EXPIRED, GONE = "the token has expired", "the client has gone"

DROPPED = Counter("everfold_live_dropped_total", "Live streams that were ended because they did not keep up")
MESSAGES = Counter("everfold_live_messages_total", "Messages put on live streams")

Write = Callable[[Sequence[bytes]], Awaitable[None]]
WriteNow = Callable[[bytes], bool]
"""Writes without waiting, or says that it cannot."""


class TooSlow(Exception):
    """The client does not take what it is sent."""


class Ended(Exception):
    """The stream has come to its end: the token has expired, or the process is about to stop."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Anew(Exception):
    """What the client knows is of another life of the rows, or too old."""


class Finds(Protocol):
    """What keeps groups: `query_api.live.hub.Hub`."""

    marks: Marks
    reader: LiveReader
    changes: Changes

    async def group_of(self, watched: Watched) -> Group:
        """Return the group of a view, which is kept as long as somebody uses it."""
        ...

    def release(self, group: Group) -> None:
        """Take note that a group has one user less."""
        ...

    async def is_present(self, watched: Watched, told: Told) -> bool:
        """Say whether what was told is of the present life of a view's rows."""
        ...


@dataclass(eq=False, slots=True)
class Part:
    """One view of a stream."""

    stream: "Stream"
    watched: Watched
    group: Group
    told: Told
    mark: str = ""
    keys: set[str] | None = None
    """Of a snapshot: the keys of the rows that match."""
    is_waiting: bool = True
    """What it knows is still to be told by the stream itself."""
    told_as: str = messages.CHANGE

    @property
    def is_full(self) -> bool:
        """Whether the queue can take no more for now."""
        return self.stream.is_full

    def fall_back(self) -> None:
        """It is told no more, until the queue is sent."""
        self.is_waiting = True

    def tell(self, number: int, message: Outgoing, frames: Frames) -> None:
        """Take a message on."""
        stream = self.stream
        ahead = tuple(self.told.ahead.items()) if self.told.ahead else ()
        if len(stream.parts) > 1 or self.told_as != messages.CHANGE:
            self.mark = self._mark(number, ahead, message, frames)
            stream.put(stream.encode(self.told_as, stream.mark_for(self.told_as), message.data))
            return
        self.mark = ""
        frame = frames.get((stream.encode, number, ahead))
        if frame is None:
            mark = self._mark(number, ahead, message, frames)
            frame = frames[stream.encode, number, ahead] = stream.encode(messages.CHANGE, mark, message.data)
        stream.put(frame)

    def _mark(
        self, number: int, ahead: tuple[tuple[str, int], ...], message: Outgoing, frames: Frames
    ) -> str:
        found = frames.get((None, number, ahead))
        if found is None:
            text = self.stream.hub.marks.text(self.watched, self.told, message.position, message.at_key)
            found = frames[None, number, ahead] = text.encode()
        return found.decode()

    def begin_anew(self) -> None:
        """What was told is of another life of the rows."""
        self.is_waiting = True
        self.stream.anew.add(self.watched.view)
        self.stream.wake.set()


@dataclass(eq=False, slots=True)
class Stream:
    """A client's stream; `run` sends until it ends."""

    hub: Finds
    all_watched: Sequence[Watched]
    encode: Encode
    write: Write
    expires: float
    """By the wall's clock, when the token does."""
    at_least: int = 0
    """The position that the first snapshots reflect at least."""
    write_now: WriteNow | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    parts: list[Part] = field(default_factory=list)
    anew: set[str] = field(default_factory=set)
    ending: str = ""
    _waiting: deque[bytes] = field(default_factory=deque)
    _bytes: int = 0
    _has_sent_all: bool = False
    """Its task waits for something to send."""

    @property
    def tenant(self) -> str:
        """Whose views they are."""
        return self.all_watched[0].tenant

    @property
    def partition(self) -> int:
        """Where the tenant lived when the stream was opened."""
        return self.all_watched[0].partition

    @property
    def is_full(self) -> bool:
        """Whether as much waits to be sent as may."""
        return self._bytes >= WAITING_BYTES_MAX

    def put(self, frame: bytes) -> None:
        """
        Have a message sent: at once where nothing is before it and the client keeps up, else soon.

        To wake a task costs far more than to write, and the last of a thousand streams waits for all of them.
        """
        MESSAGES.inc()
        if self._has_sent_all and not self._waiting and self.write_now is not None and self.write_now(frame):
            return
        self._bytes += len(frame)
        self._waiting.append(frame)
        self.wake.set()

    def end(self, reason: str) -> None:
        """Have the stream end soon."""
        self.ending = reason
        self.wake.set()

    def mark_for(self, event: str) -> str | None:
        """Return the mark that a message bears; what comes before a snapshot's end has none."""
        return self.mark() if event == messages.CHANGE else None

    def mark(self) -> str:
        """Return how far the client has been told."""
        for part in self.parts:
            if not part.mark:
                part.mark = self.hub.marks.text(part.watched, part.told, part.told.position, part.told.at_key)
        return BETWEEN.join([part.mark for part in self.parts])

    async def run(self, known: Mapping[str, Told] | None) -> None:
        """
        Send until the stream ends; `known` is what the client's mark says, by view.

        Raises:
            TooSlow: The client does not take what it is sent.
            Ended: It is over.
        """
        try:
            for watched in self.all_watched:
                group = await self.hub.group_of(watched)
                self.parts.append(
                    Part(self, watched, group, (known or {}).get(watched.view) or Told.nothing())
                )
            await self._begin(is_first=known is None)
            while True:
                await self._flush()
                if self.anew:
                    self._leave()
                    await self._tell_anew()
                if any(part.is_waiting for part in self.parts):
                    await self._join()
                else:
                    await self._wait()
        finally:
            self._leave()
            for part in self.parts:
                self.hub.release(part.group)

    async def _begin(self, *, is_first: bool) -> None:
        for part in self.parts:
            if is_first or not await self.hub.is_present(part.watched, part.told):
                self.anew.add(part.watched.view)
        if self.anew:
            await self._tell_anew(is_first=is_first)
        await self._join()

    async def _tell_anew(self, *, is_first: bool = False) -> None:
        """Tell all that is there now of the views that have to be told anew."""
        while True:
            parts = [part for part in self.parts if part.watched.view in self.anew]
            names = [part.watched.view for part in parts]
            if not is_first:
                await self._send(messages.RESET, None, messages.of_views(names))
            try:
                for part in parts:
                    await self._snapshot(part)
                for part in parts:
                    await self._catch_up(part)
            except _Anew:
                is_first = False
                await asyncio.sleep(RESET_SECONDS)
                continue
            await self._flush()
            for part in parts:
                part.told_as, part.mark = messages.CHANGE, ""
            self.anew -= set(names)
            await self._send(messages.SNAPSHOT_END, self.mark(), messages.of_views(names))
            return

    async def _snapshot(self, part: Part) -> None:
        """Send every row that matches; rows that were read when they were ahead of the first page are noted."""
        part.told_as, part.keys = messages.SNAPSHOT, set() if part.watched.given else None
        told: Told | None = None
        watched = part.watched
        async for page in self.hub.reader.pages(watched, self.at_least):
            if told is None:
                told = Told(page.life, page.position)
            elif page.life != told.life:
                raise _Anew
            position = token_of(watched.tenant, watched.partition, page.position, page.hash_prefix).decode()
            frames = []
            for row in page.rows:
                if part.keys is not None:
                    part.keys.add(row.key)
                if row.position > told.position:
                    if row.position <= told.ahead.get(row.key, 0):
                        continue
                    told.ahead[row.key] = row.position
                data = messages.put(watched.view, row.key, position, row.document)
                frames.append(self.encode(messages.SNAPSHOT, None, data))
            if part.keys is not None and len(part.keys) > MEMBERS_MAX:
                part.keys = None
            await self._write(frames)
            self._check()
        assert told is not None  # there is always a page
        part.told, part.mark = told, ""

    async def _join(self) -> None:
        """Have every part told by its group from here on, once it knows as much as the group's others."""
        while True:
            try:
                for part in self.parts:
                    if part.is_waiting:
                        await self._catch_up(part)
                        self._enter(part)
            except _Anew:
                self.anew |= {part.watched.view for part in self.parts if part.is_waiting}
                self._leave()
                await self._tell_anew()
            else:
                return

    @staticmethod
    def _is_level(part: Part) -> bool:
        told, group = part.told, part.group
        return told.at_key is None and told.position >= group.base and group.life in (None, told.life)

    def _enter(self, part: Part) -> None:
        group = part.group
        if group.life is None:
            group.life = part.told.life
        if part.keys is not None and not group.has_listeners:
            group.members = part.keys
        part.keys, part.is_waiting = None, False
        group.join(part)

    def _leave(self) -> None:
        for part in self.parts:
            part.group.leave(part)
            part.is_waiting = True

    async def _catch_up(self, part: Part) -> None:
        """Tell by ourselves what has happened up to where the group is."""
        watched, told = part.watched, part.told
        while True:
            if not await self.hub.is_present(watched, told):
                raise _Anew
            if self._is_level(part) and len(told.ahead) <= AHEAD_MAX:
                return
            limit = max(part.group.base, told.position)
            try:
                touched = await self.hub.changes.since(
                    watched.tenant, watched.partition, watched.view, told.first_untold(), limit
                )
                if touched and not await self._tell_touched(part, touched, limit):
                    await self._pause()
                    continue
            except TooOld as error:
                raise _Anew from error
            told.advance(limit)
            part.mark = ""
            if not self._is_level(part) or len(told.ahead) > AHEAD_MAX:
                await self._pause()

    async def _tell_touched(self, part: Part, touched: Mapping[tuple[str, ...], int], limit: int) -> bool:
        """Read and tell some rows; return whether the tables had come far enough for that."""
        read = await self.hub.reader.by_key(part.watched, list(touched), limit)
        if read.life != part.told.life:
            raise _Anew
        if read.position < limit:
            return False
        settled, ahead = arrange(part.watched, touched, read, limit, None)
        if part.keys is not None:
            there = {row.key for row in read.rows}
            gone = {message.key for message in settled} - there
            settled = [message for message in settled if message.key in there or message.key in part.keys]
            part.keys |= there
            part.keys -= gone
        while not tell_settled(part, settled, {}):
            await self._flush()
        part.told.advance(limit)
        tell_ahead(part, ahead, limit, {})
        await self._flush()
        return True

    async def _pause(self) -> None:
        await self._flush()
        await asyncio.sleep(AGAIN_SECONDS)
        self._check()

    def _check(self) -> None:
        if self.ending:
            raise Ended(self.ending)
        if time.time() >= self.expires:
            raise Ended(EXPIRED)

    async def _wait(self) -> None:
        """Wait for something to send; where there is nothing for long, send a sign of life."""
        if self._waiting:
            return
        self.wake.clear()
        seconds = max(min(HEARTBEAT_SECONDS, self.expires - time.time()), 0)
        if not await self._woken(seconds):
            self._check()
            for part in self.parts:
                part.mark = ""
            await self._send(messages.HEARTBEAT, self.mark(), b"{}")

    async def _woken(self, seconds: float) -> bool:
        self._has_sent_all = True
        try:
            async with asyncio.timeout(seconds):
                return await self.wake.wait()
        except TimeoutError:
            return False
        finally:
            self._has_sent_all = False

    async def _flush(self) -> None:
        """Send what waits."""
        while True:
            self._check()
            if not self._waiting:
                return
            frames = []
            size = 0
            while self._waiting and size < SENT_TOGETHER_BYTES:
                frames.append(self._waiting.popleft())
                size += len(frames[-1])
            self._bytes -= size
            await self._write(frames)

    async def _send(self, event: str, mark: str | None, data: bytes) -> None:
        await self._write([self.encode(event, mark, data)])

    async def _write(self, frames: Sequence[bytes]) -> None:
        try:
            async with asyncio.timeout(WRITE_SECONDS_MAX):
                await self.write(frames)
        except TimeoutError as error:
            DROPPED.inc()
            raise TooSlow from error
