"""
All streams that follow the same view of the same tenant with the same filters: read once, told together.

A round takes the rows that events have touched, reads what has become of them, and tells it in the order of the
positions of the rows' last events. A row that was read when it was ahead of what the round is about is told last, and
marked as such; so nothing is told twice, and who goes on from any message's mark misses nothing.
"""

import asyncio
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Protocol

from infra.telemetry import log
from projectors.projection import Key
from query_api.freshness import token_of
from query_api.live import messages
from query_api.live.marks import AHEAD_MAX, Life, Told
from query_api.live.messages import Encode, Outgoing
from query_api.live.reading import LiveReader, Rows
from query_api.live.subscription import Watched, key_text
from schemas.errors import ServiceError

MEMBERS_MAX = 20_000
"""Of so many rows it is remembered that they match; of more, who is told that a row is gone may never have had it."""
AGAIN_SECONDS = 0.1

Frames = MutableMapping[tuple[Encode | None, int, tuple[tuple[str, int], ...]], bytes]
"""One round's messages as streams have asked for them: by form, number, and what the stream was ahead by."""


class Listener(Protocol):
    """One stream's part in a group."""

    told: Told

    @property
    def is_full(self) -> bool:
        """Whether it can take no more for now."""
        ...

    def tell(self, number: int, message: Outgoing, frames: Frames) -> None:
        """Take a message on."""
        ...

    def fall_back(self) -> None:
        """It is told no more, and has to find out by itself what follows what it was told last."""
        ...

    def begin_anew(self) -> None:
        """What was told is of another life of the rows: tell everything again."""
        ...


class Group:
    """What has been told of one view, and what is still to be."""

    def __init__(self, watched: Watched, base: int, reader: LiveReader) -> None:
        self.watched = watched
        self.base = base
        """All that events up to here have changed has been told."""
        self.life: Life | None = None
        self.members: set[str] | None = None
        """The keys of the rows that match, where that is known and there are not too many."""
        self.users = 0
        """Streams that are in it, or about to be."""
        self._listeners: set[Listener] = set()
        self._touched: dict[Key, tuple[int, int]] = {}
        """The first and the last position that touches each row, of what is still to be told."""
        self._reader = reader
        self._wanted = 0
        self._restarts = 0
        self._task: asyncio.Task[None] | None = None

    def join(self, listener: Listener) -> None:
        """Tell a listener, which has been told at least as much as the others, from now on."""
        self._listeners.add(listener)

    @property
    def has_listeners(self) -> bool:
        """Whether anybody is told."""
        return bool(self._listeners)

    def leave(self, listener: Listener) -> None:
        """Tell a listener no more."""
        self._listeners.discard(listener)

    def touch(self, key: Key, position: int) -> None:
        """Take note that an event touches a row."""
        if position > self.base:
            first, _ = self._touched.get(key, (position, position))
            self._touched[key] = (first, position)

    def advance(self, limit: int) -> None:
        """Tell what is to be told up to a position, which the tables have reached and touches are known up to."""
        self._wanted = max(limit, self._wanted)
        if self._task is not None or limit <= self.base:
            return
        is_due = bool(self._due(limit))
        if not self._listeners or not is_due:
            if is_due:
                self.members = None
            self._settle(limit)
            return
        self._task = asyncio.create_task(self._round(limit), name="live round")
        self._task.add_done_callback(self._ended)

    def restart(self, position: int) -> None:
        """Have all listeners begin anew; what follows a position will be told to those who know all up to it."""
        self.base = position
        self.life = self.members = None
        self._touched.clear()
        self._wanted = 0
        self._restarts += 1
        listeners, self._listeners = self._listeners, set()
        for listener in listeners:
            listener.begin_anew()

    def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()

    def _due(self, limit: int) -> dict[Key, int]:
        return {key: min(last, limit) for key, (first, last) in self._touched.items() if first <= limit}

    def _settle(self, limit: int) -> None:
        """Take note that all is told up to a limit. A row that was ahead of it is touched by an event beyond it."""
        self._touched = {
            key: (max(first, limit + 1), last) for key, (first, last) in self._touched.items() if last > limit
        }
        self.base = limit
        for listener in self._listeners:
            listener.told.advance(limit)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        if task.cancelled():
            return
        if (error := task.exception()) is None:
            self.advance(self._wanted)
            return
        # The next news begins another round; what is to be told is kept.
        level = log.info if isinstance(error, ServiceError) else log.error
        level("live round failed", view=self.watched.view, error=repr(error))

    async def _round(self, limit: int) -> None:
        due, restarts = self._due(limit), self._restarts
        read = await self._reader.by_key(self.watched, list(due), limit)
        if restarts != self._restarts:
            return
        if read.position < limit:  # by a replica, while the primary is away
            await asyncio.sleep(AGAIN_SECONDS)
            return
        if self.life is not None and read.life != self.life:
            self.restart(min(read.position, limit))
            return
        self._tell(due, read, limit)
        self._settle(limit)

    def _tell(self, due: Mapping[Key, int], read: Rows, limit: int) -> None:
        settled, ahead = arrange(self.watched, due, read, limit, self.members)
        frames: Frames = {}
        for listener in list(self._listeners):
            if tell_settled(listener, settled, frames):
                listener.told.advance(limit)
                tell_ahead(listener, ahead, limit, frames)
            else:
                self._listeners.discard(listener)
                listener.fall_back()
        if self.members is not None:
            there = {row.key for row in read.rows}
            self.members |= there
            self.members -= {key_text(key) for key in due} - there
            if len(self.members) > MEMBERS_MAX:
                self.members = None


def arrange(
    watched: Watched, touched: Mapping[Key, int], read: Rows, limit: int, members: set[str] | None
) -> tuple[list[Outgoing], list[Outgoing]]:
    """Return the messages of some rows in their order: those about events up to a limit, and those ahead of it."""
    position = token_of(watched.tenant, watched.partition, read.position, read.hash_prefix).decode()
    found = {row.key: row for row in read.rows}
    settled: list[Outgoing] = []
    ahead: list[Outgoing] = []
    for key, last in touched.items():
        name = key_text(key)
        row = found.get(name)
        if row is not None:
            data = messages.put(watched.view, name, position, row.document)
            (settled if row.position <= limit else ahead).append(Outgoing(name, row.position, None, data))
        elif members is None or name in members:
            data = messages.delete(watched.view, name, position)
            settled.append(Outgoing(name, last, None, data))
    return _with_ties(settled), sorted(ahead, key=lambda message: message.position)


def _with_ties(settled: Sequence[Outgoing]) -> list[Outgoing]:
    """Return messages in order of position and key, marking those whose event's further rows follow."""
    ordered = sorted(settled, key=lambda message: (message.position, message.key))
    following: Iterable[Outgoing | None] = [*ordered[1:], None]
    return [
        message._replace(at_key=message.key)
        if after is not None and after.position == message.position
        else message
        for message, after in zip(ordered, following, strict=True)
    ]


def tell_settled(listener: Listener, settled: Iterable[Outgoing], frames: Frames) -> bool:
    """Tell a listener those messages that it lacks; return whether it could take them all."""
    told = listener.told
    for number, message in enumerate(settled):
        if told.lacks(message.key, message.position):
            if listener.is_full:
                return False
            listener.tell(number, message, frames)
            told.position, told.at_key = message.position, message.at_key
    return True


def tell_ahead(listener: Listener, ahead: Iterable[Outgoing], limit: int, frames: Frames) -> None:
    """Tell a listener, which knows all up to a limit, of rows that are ahead of it; not of too many at a time."""
    told = listener.told
    for number, message in enumerate(ahead):
        has_room = message.key in told.ahead or len(told.ahead) < AHEAD_MAX
        if has_room and not listener.is_full and told.lacks(message.key, message.position):
            told.ahead[message.key] = message.position
            listener.tell(-1 - number, message._replace(position=limit), frames)
