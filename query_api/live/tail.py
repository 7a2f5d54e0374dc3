"""
One partition of the log as this process's streams need it: which rows of which tenants events have touched.

Nothing is read before the tables have come as far, since nobody could be told of it; and only the events of tenants
that somebody follows are.
"""

import asyncio

from infra.telemetry import log
from query_api.applied import ReadSide
from query_api.live.changes import RANGE_EVENTS_MAX, Changes
from query_api.live.group import Group
from query_api.live.marks import Life
from query_api.live.subscription import Watched
from schemas.errors import ServiceError

AGAIN_SECONDS = 0.25


def life_of(side: ReadSide, watched: Watched) -> Life | None:
    """Return which life of a view's rows is the present one, as far as this process knows."""
    known = side.known_generations((watched.projection,))
    if known is None:
        return None
    revision = side.applied(watched.projection, watched.partition).revision
    return Life(side.era, known[0][1], revision, watched.partition)


class Tail:
    """Follows one partition, and has its groups go on."""

    def __init__(self, partition: int, side: ReadSide, changes: Changes) -> None:
        self._partition = partition
        self._side = side
        self._changes = changes
        self._groups: dict[bytes, Group] = {}
        self._claimed: int | None = None
        """Up to where touches are known, or are just being read."""
        self._position = 0
        """Up to where touches are known."""
        self._task = asyncio.create_task(self._run(), name=f"live partition {partition}")

    async def close(self) -> None:
        """Stop."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for group in self._groups.values():
            group.close()

    @property
    def is_idle(self) -> bool:
        """Whether nobody needs it."""
        return not self._groups

    def base(self, watched: Watched) -> int:
        """Return up to where a new group's listeners have to be told by themselves."""
        if self._claimed is None:
            self._claimed = self._position = self._applied(watched)
        return self._claimed

    def add(self, group: Group) -> None:
        """Keep a group going."""
        self._groups[group.watched.digest] = group

    def remove(self, group: Group) -> None:
        """Let go of a group."""
        group.close()
        del self._groups[group.watched.digest]

    def find(self, watched: Watched) -> Group | None:
        """Return the group of a view, if there is one."""
        return self._groups.get(watched.digest)

    def _applied(self, watched: Watched) -> int:
        return self._side.applied(watched.projection, self._partition).position

    async def _run(self) -> None:
        with self._side.following(self._partition) as moved:
            while True:
                await moved.wait()
                moved.clear()
                try:
                    self._look_for_new_lives()
                    await self._read_on()
                    self._advance()
                except ServiceError as error:
                    log.info("live changes not read", partition=self._partition, error=repr(error))
                    await asyncio.sleep(AGAIN_SECONDS)
                except Exception as error:
                    log.error("live changes not read", partition=self._partition, exc_info=error)
                    await asyncio.sleep(AGAIN_SECONDS)

    def _look_for_new_lives(self) -> None:
        """Have those begin anew whose rows are not those that they were told of."""
        for group in list(self._groups.values()):
            life = life_of(self._side, group.watched)
            if group.life is not None and life is not None and life != group.life:
                position = self._applied(group.watched)
                group.restart(position)
                self._position = min(self._position, position)
                self._claimed = self._position

    async def _read_on(self) -> None:
        """Read touches as far as any of the tables has come."""
        if self._claimed is None:
            return
        end = max((self._applied(group.watched) for group in self._groups.values()), default=0)
        while self._position < end:
            upto = min(self._position + RANGE_EVENTS_MAX, end)
            tenants = sorted({group.watched.tenant for group in self._groups.values()})
            before, self._claimed = self._position, upto
            try:
                touches, unreadable = await self._changes.of_range(self._partition, before + 1, upto, tenants)
            except BaseException:
                self._claimed = self._position
                raise
            by_view: dict[tuple[str, str], list[Group]] = {}
            for group in self._groups.values():
                if group.watched.tenant in unreadable:
                    group.restart(upto)
                by_view.setdefault((group.watched.tenant, group.watched.view), []).append(group)
            for touch in touches:
                for group in by_view.get((touch.tenant, touch.view), ()):
                    group.touch(touch.key, touch.position)
            self._position = upto

    def _advance(self) -> None:
        if self._claimed is None:
            return
        for group in self._groups.values():
            group.advance(min(self._position, self._applied(group.watched)))
