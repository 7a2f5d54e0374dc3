"""
Knows when the next timer is due, over all workflows and partitions that this process holds.

It asks the database, once a second at most when nothing is near, and is woken when a timer is set that is due before
it would look again. A member that cannot fire its timers now keeps nobody else's from being fired.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, Protocol

import asyncpg

from infra.sql import load_sql
from infra.telemetry import log

LOOK_SECONDS_MAX = 1.0
LOOK_SECONDS_MIN = 0.05
BACKLOG_SECONDS = 0.25
"""How long until a timer is looked at again whose workflow has not caught up."""


class HasTimers(Protocol):
    """A workflow in a partition that this process holds."""

    workflow_name: str
    partition: int

    async def fire_due(self, now: datetime) -> bool:
        """Fire what is due at a time; say whether it was all that was due."""
        ...

    async def take_released(self) -> bool:
        """Take up set-aside events that an operator lets go on; say that it is done."""
        ...


class Timekeeper:
    """Looks for what is due, for all workflows and partitions that this process holds."""

    def __init__(self, pool: "asyncpg.Pool[Any]", namespace: str) -> None:
        self._pool = pool
        self._sql = partial(load_sql, "command_api", namespace=namespace)
        self._members: dict[tuple[int, str], HasTimers] = {}
        self._wake = asyncio.Event()

    def join(self, member: HasTimers) -> None:
        """Look after a member's timers from now on."""
        self._members[member.partition, member.workflow_name] = member
        self._wake.set()

    def leave(self, member: HasTimers) -> None:
        """Look after a member's timers no longer, unless another has taken its place."""
        if self._members.get((member.partition, member.workflow_name)) is member:
            del self._members[member.partition, member.workflow_name]

    def set_for(self, seconds: float) -> None:
        """Take note that a timer was set that is due in so many seconds: look again, if that is soon."""
        if seconds < LOOK_SECONDS_MAX:
            self._wake.set()

    async def run(self) -> None:
        """Fire timers until cancelled, through whatever goes wrong."""
        while True:
            seconds = LOOK_SECONDS_MAX
            try:
                seconds = await self._turn()
            except Exception as error:
                log.warning("timers not looked at", error=repr(error))
            wait_seconds = max(LOOK_SECONDS_MIN, min(seconds, LOOK_SECONDS_MAX))
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await self._wake.wait()
            self._wake.clear()

    async def _turn(self) -> float:
        """Fire what is due now; return how many seconds there are until something is."""
        if not self._members:
            return LOOK_SECONDS_MAX
        partitions, workflows = zip(*self._members, strict=True)
        rows = await self._pool.fetch(self._sql("sql/next_due.sql"), partitions, workflows)
        due = {
            member: row["now"]
            for row in rows
            if row["seconds"] <= 0
            and (member := self._members.get((row["partition"], row["workflow"]))) is not None
        }
        complete = await _all(member.fire_due(now) for member, now in due.items())
        await self._take_released(partitions, workflows)
        if due:
            return LOOK_SECONDS_MIN if complete else BACKLOG_SECONDS
        return min((float(row["seconds"]) for row in rows), default=LOOK_SECONDS_MAX)

    async def _take_released(self, partitions: Sequence[int], workflows: Sequence[str]) -> None:
        rows = await self._pool.fetch(self._sql("sql/released_members.sql"), partitions, workflows)
        members = (self._members.get((row["partition"], row["workflow"])) for row in rows)
        await _all(member.take_released() for member in members if member is not None)


async def _all(works: Iterable[Awaitable[bool]]) -> bool:
    """Do what members have to do side by side; say whether all of it was done."""
    results = await asyncio.gather(*works, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            log.warning("a workflow could not see to its timers", error=repr(result))
    return all(result is True for result in results)
