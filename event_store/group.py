"""
Gives one partition's pages to the members of a group, and keeps one member's trouble from the others.

Members that stand at the group's mark are given each page together. Whoever fails, is held, or takes longer than the
group's patience leaves it and goes on alone from the log, with its own pace and its own retries, and comes back
when it has reached the group's mark.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Protocol

from event_store.arrivals import has_moves
from event_store.checkpoints import Checkpoint, Checkpoints, Fenced
from event_store.consumer import Held, Member
from event_store.feed import Feed, LogFeed
from event_store.log import Page
from infra.telemetry import log
from schemas.envelope import BEGINNING
from schemas.errors import EpochChanged

PATIENCE_SECONDS_MIN = 1.0
PATIENCE_SECONDS_MAX = 10.0
"""How long a group waits, at the most, before it goes on without those who have not finished."""
TURN_SECONDS = 1.0
HELD_SECONDS = 3.0
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.1, 5.0
ERROR_CHARACTERS_MAX = 500

Name = tuple[str, int, str]
"""A consumer, its generation, and the life of the database that its checkpoint was read in."""


class Members(Protocol):
    """Says who the members of a group are; the answer may change while the group runs."""

    def generation(self) -> int:
        """Return a number that changes whenever the answer of `of` may have changed."""
        ...

    def of(self, partition: int) -> Sequence[Member]:
        """Return the members in one partition, new objects each time; checkpoints are read by the group."""
        ...

    async def pass_over(self, idle: Sequence[Member], page: Page) -> Collection[Checkpoint]:
        """Move the checkpoints of members that a page means nothing to; return those that did not move."""
        ...

    async def epoch_changed(self, member: Member) -> str:
        """Take note that what a member has built rests on a history that the log does not have; say what comes next."""
        ...


class PartitionGroup:
    """The members of a group in one partition."""

    def __init__(
        self,
        partition: int,
        members: Members,
        checkpoints: Checkpoints,
        feed: Feed,
        log_feed: Callable[[], LogFeed],
        applied: Callable[[Member, Page], None] = lambda _member, _page: None,
    ) -> None:
        self.partition = partition
        self.mark = BEGINNING
        self.together: dict[Name, Member] = {}
        self.alone: dict[Name, tuple[Member, asyncio.Task[None]]] = {}
        self._members = members
        self._checkpoints = checkpoints
        self._feed = feed
        self._log_feed = log_feed
        self._applied = applied
        self._generation = -1

    @property
    def members(self) -> Sequence[Member]:
        """All members, together or alone."""
        return [*self.together.values(), *(member for member, _ in self.alone.values())]

    async def run(self) -> None:
        """Give pages to the members until cancelled."""
        try:
            while True:
                await self._meet()
                if not self.together:
                    await self._wait_for_somebody()
                    continue
                await self._turn()
        finally:
            try:
                for _, task in self.alone.values():
                    task.cancel()
                await asyncio.gather(*(task for _, task in self.alone.values()), return_exceptions=True)
                for member in self.members:
                    await member.close()
            finally:
                await self._feed.close()

    # -- who takes part -----------------------------------------------------------------------------------

    async def _meet(self) -> None:
        """Take up new members, let go of former ones, and take back who has caught up."""
        generation = self._members.generation()
        if generation != self._generation:
            await self._change_members()
            self._generation = generation
        if not self.together:
            caught_up = [member.checkpoint.mark for member, task in self.alone.values() if task.done()]
            self.mark = max(caught_up, default=self.mark)
        for name, (member, task) in list(self.alone.items()):
            if task.done() and member.checkpoint.mark.position >= self.mark.position:
                del self.alone[name]
                await task
                self.together[name] = member
            elif task.done():
                self._send_alone(name, member)

    async def _change_members(self) -> None:
        wanted = {_name(member): member for member in self._members.of(self.partition)}
        for name in [name for name in (*self.together, *self.alone) if name not in wanted]:
            member = self.together.pop(name, None)
            if member is None:
                member, task = self.alone.pop(name)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await member.close()
        new = {
            name: member
            for name, member in wanted.items()
            if name not in self.together and name not in self.alone
        }
        await self._checkpoints.open([member.checkpoint for member in new.values()])
        for member in new.values():
            member.opened()
        if not self.together and not self.alone:
            self.mark = max((member.checkpoint.mark for member in new.values()), default=BEGINNING)
        for name, member in new.items():
            if member.checkpoint.mark == self.mark:
                self.together[name] = member
            else:
                self._send_alone(name, member)

    async def _wait_for_somebody(self) -> None:
        tasks = [task for _, task in self.alone.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=TURN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(TURN_SECONDS)

    # -- pages --------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        try:
            page = await self._feed.next(self.mark, wait_seconds=TURN_SECONDS)
        except EpochChanged:
            for name, member in list(self.together.items()):
                self._send_alone(name, member)
            return
        if not page.events:
            return
        idle = [] if has_moves(page) else [
            member for member in self.together.values()
            if member.checkpoint.mark == page.after and member.idle(page)
        ]  # fmt: skip
        work = {
            name: asyncio.create_task(self._step(member, page), name=f"apply {member.label}")
            for name, member in self.together.items()
            if member not in idle
        }
        try:
            if idle:
                await self._pass_over(idle, page)
            if work:
                await _most_of(work.values())
        except BaseException:
            for task in work.values():
                task.cancel()
            await asyncio.gather(*work.values(), return_exceptions=True)
            raise
        self._part(work)
        self.mark = page.end
        await self._feed.settled(page.end)

    async def _step(self, member: Member, page: Page) -> None:
        await member.step(page)
        self._applied(member, page)

    async def _pass_over(self, idle: Sequence[Member], page: Page) -> None:
        left = await self._members.pass_over(idle, page)
        for member in idle:
            if member.checkpoint in left:
                self._send_alone(_name(member), member, member.checkpoint.fenced())
            else:
                member.passed(page)
                self._applied(member, page)

    def _part(self, work: dict[Name, "asyncio.Task[None]"]) -> None:
        """Let those go alone who have not finished, or failed."""
        for name, task in work.items():
            if not task.done():
                self._send_alone(name, self.together[name], unfinished=task)
            elif (error := task.exception()) is not None:
                self._send_alone(name, self.together[name], error)

    # -- a member by itself -------------------------------------------------------------------------------

    def _send_alone(
        self,
        name: Name,
        member: Member,
        error: BaseException | None = None,
        unfinished: "asyncio.Task[None] | None" = None,
    ) -> None:
        self.together.pop(name, None)
        task = asyncio.create_task(self._alone(member, error, unfinished), name=f"alone {member.label}")
        self.alone[name] = member, task

    async def _alone(
        self, member: Member, error: BaseException | None, unfinished: "asyncio.Task[None] | None"
    ) -> None:
        """Catch up from the log, through whatever goes wrong, until the group's mark is reached."""
        pause_seconds = PAUSE_SECONDS_MIN
        feed = self._log_feed()
        try:
            while True:
                try:
                    if unfinished is not None:
                        await self._finish(unfinished)
                        unfinished = None
                    if error is not None:
                        raise error
                    if await self._catch_up(member, feed):
                        return
                    pause_seconds = PAUSE_SECONDS_MIN
                except asyncio.CancelledError:
                    raise
                except Exception as problem:
                    error = unfinished = None
                    await self._recover(member, problem, pause_seconds)
                    pause_seconds = min(2 * pause_seconds, PAUSE_SECONDS_MAX)
        finally:
            await feed.close()

    @staticmethod
    async def _finish(task: "asyncio.Task[None]") -> None:
        try:
            await task
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def _catch_up(self, member: Member, feed: LogFeed) -> bool:
        """Take the next page; say whether the group's mark is reached."""
        if self.together and member.checkpoint.mark.position >= self.mark.position:
            return True
        page = await feed.next(member.checkpoint.mark, wait_seconds=TURN_SECONDS if not self.together else 0)
        if not page.events:
            return True
        await self._step(member, page)
        return False

    async def _recover(self, member: Member, problem: Exception, pause_seconds: float) -> None:
        """Say what is wrong, forget what was remembered, wait, and read where the consumer really is."""
        reason: str | None
        match problem:
            case Held():
                reason, pause_seconds = problem.waiting_for, HELD_SECONDS
            case EpochChanged():
                pause_seconds = HELD_SECONDS
                following = await self._members.epoch_changed(member)
                reason = (
                    f"{member.label}: the log no longer has the commit at {problem.position}, "
                    f"lost by a failover or a restore: {following}"
                )
            case Fenced():
                reason = None
            case _:
                reason = f"{type(problem).__name__}: {problem}"[:ERROR_CHARACTERS_MAX]
        log.warning("consumer is on its own", member=member.label, reason=reason or str(problem))
        member.forget()
        with suppress(Exception):  # what keeps this from being written is likely the problem itself
            if reason is not None:
                await self._checkpoints.note_waiting(member.checkpoint, reason)
        await asyncio.sleep(pause_seconds)
        with suppress(Exception):  # tried again at the next failure
            await self._checkpoints.open([member.checkpoint])


async def _most_of(work: Collection["asyncio.Task[None]"]) -> None:
    """Wait for all; once half have finished, the others get twice that time again, and a moment at least."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    deadline = started + PATIENCE_SECONDS_MAX
    pending = set(work)
    is_half_done = False
    while pending and loop.time() < deadline:
        _, pending = await asyncio.wait(
            pending, timeout=deadline - loop.time(), return_when=asyncio.FIRST_COMPLETED
        )
        if not is_half_done and 2 * len(pending) <= len(work):
            is_half_done = True
            now = loop.time()
            deadline = min(deadline, now + max(PATIENCE_SECONDS_MIN, 2 * (now - started)))


def _name(member: Member) -> Name:
    return member.checkpoint.consumer, member.checkpoint.generation, member.life
