"""
How far a stream has been told of a view, and the opaque text that says so to whoever takes the stream up again.

Messages go out in the order of the positions of the last events in them, so "all rows whose last event is at or before
this" is one number. Two things are finer than that: one event may be the last of several rows, which are told one by
one, and a row may have been read when it was ahead of the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from query_api.cursor import Cursors
from query_api.live.subscription import Watched
from query_api.statements import Head
from schemas.errors import MalformedRequest

AHEAD_MAX = 8
"""So many rows may be ahead in a mark; further ones wait until the others have come as far."""
BETWEEN = "."


@dataclass(frozen=True, slots=True)
class Life:
    """What a mark's position is a position in: another life of the rows may hold other rows there."""

    era: str
    generation: int
    revision: int
    partition: int
    """Where the tenant lives: a position says nothing of another partition's events."""

    @classmethod
    def of(cls, era: str, head: Head, partition: int) -> "Life":
        """Return the life that a read was of."""
        return cls(era, head.generation, head.revision, partition)


@dataclass(slots=True)
class Told:
    """How far somebody has been told."""

    life: Life
    position: int
    """All rows are told whose last event is at or before this."""
    at_key: str | None = None
    """Of the rows whose last event is at `position`, only those up to this key are told; None: all."""
    ahead: dict[str, int] = field(default_factory=dict)
    """Rows that are told further than that: the positions of their last events, by key."""

    @classmethod
    def nothing(cls) -> Self:
        """Return the beginning."""
        return cls(Life("", 0, 0, -1), 0)

    def lacks(self, key: str, position: int) -> bool:
        """Say whether a row whose last event is at a position is still to be told."""
        if position <= self.ahead.get(key, 0):
            return False
        if position == self.position:
            return self.at_key is not None and key > self.at_key
        return position > self.position

    def advance(self, position: int) -> None:
        """Take note that all is told up to a position."""
        if position < self.position:
            return
        self.position, self.at_key = position, None
        if self.ahead:
            self.ahead = {key: at for key, at in self.ahead.items() if at > position}

    def first_untold(self) -> int:
        """Return the first position of which events may not have been told."""
        return self.position + (self.at_key is None)


class Marks:
    """Makes and reads marks with one key; every process needs the same."""

    def __init__(self, cursors: Cursors) -> None:
        self._cursors = cursors

    def text(self, watched: Watched, told: Told, position: int, at_key: str | None) -> str:
        """Return the mark of a view that has been told up to a position, or up to a key at it."""
        ahead = [part for key, at in told.ahead.items() if at > position for part in (key, at)]
        life = told.life
        values = [life.era, life.generation, life.revision, position, at_key or "", *ahead, life.partition]
        return self._cursors.make(watched.digest, values)

    def read(self, all_watched: Sequence[Watched], mark: str) -> Mapping[str, Told]:
        """
        Return how far the views of a stream have been told, by view.

        Raises:
            MalformedRequest: It is not a mark of this stream: of this tenant, these views and these filters.
        """
        parts = mark.split(BETWEEN)
        if len(parts) != len(all_watched):
            raise MalformedRequest("the mark is not one of this stream")
        return {
            watched.view: self._told(watched, part) for watched, part in zip(all_watched, parts, strict=True)
        }

    def _told(self, watched: Watched, part: str) -> Told:
        era, generation, revision, position, at_key, *ahead = self._cursors.read(watched.digest, part)
        # Marks that were made before tenants could move do not say where; then it has lived there from the beginning.
        partition = ahead.pop() if len(ahead) % 2 else -1 if watched.arrived else watched.partition
        return Told(
            Life(era, generation, revision, partition),
            position,
            at_key or None,
            dict(zip(ahead[::2], ahead[1::2], strict=True)),
        )
