"""
Commits what a page means to several projections in one statement.

Each projection has a checkpoint of its own, and could commit by itself. But a small page costs mostly what a
transaction costs, so the projections that take the same page meet here, and once all have folded it, everything is
written at once. Nobody depends on it: who does not come within moments is not waited for, and where the common
statement fails, whatever the reason, each writes by itself, so what is wrong is told of the one that it concerns.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import asyncpg

from event_store.checkpoints import Checkpoint, Checkpoints
from infra.telemetry import log
from projectors.page_statement import PageStatements, Share
from projectors.tables import UnwritableValue
from projectors.writing import ROWS_PER_STATEMENT_MAX
from schemas.envelope import CommitMark

MEETING_SECONDS_MAX = 0.02
"""How long those that have folded wait for the others."""
WRITE_SECONDS_MAX = 1.0
"""How long the common statement may take before each tries by itself: one of them may be waiting for a lock."""


@dataclass
class _Meeting:
    """Those that take one page, up to a mark."""

    to: CommitMark
    recorded_at: datetime | None
    expected: int = 0
    arrived: int = 0
    shares: list[Share] = field(default_factory=list)
    answers: list[asyncio.Future[bool]] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None
    is_over: bool = False

    @property
    def is_for_one(self) -> bool:
        """Whether nobody else has come or is expected."""
        return self.expected == 1 and not self.shares


class Seat:
    """One projection's place at a meeting."""

    def __init__(self, writes: "JointWrites", meeting: _Meeting) -> None:
        self._writes, self._meeting = writes, meeting

    async def write(self, share: Share) -> bool:
        """Commit a share with the others'; False: it is not known to be written, and is to be written by itself."""
        if self._meeting.is_over or self._meeting.is_for_one:
            return False
        self._meeting.arrived += 1
        return await self._writes.join(self._meeting, share)


class JointWrites:
    """Where the projections of one process meet in one partition."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._meetings: dict[CommitMark, _Meeting] = {}
        self._statements = PageStatements(checkpoints.namespace)
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def seat(self, to: CommitMark, recorded_at: datetime | None) -> Iterator[Seat]:
        """Have others who take the page up to `to` wait for this one, while it is inside."""
        meeting = self._meeting_at(to, recorded_at)
        meeting.expected += 1
        try:
            yield Seat(self, meeting)
        finally:
            meeting.expected -= 1
            self._see_to(meeting)

    async def pass_over(
        self, checkpoints: Sequence[Checkpoint], to: CommitMark, recorded_at: datetime | None
    ) -> Sequence[Checkpoint]:
        """Move the checkpoints of projections that a page means nothing to; return those that did not move."""
        await asyncio.sleep(0)  # those that it means something to take their seats meanwhile
        meeting = self._meetings.get(to)
        if meeting is not None and await self.join(meeting, Share(checkpoints, {}, {}, {})):
            for checkpoint in checkpoints:
                checkpoint.mark = to
            return ()
        return await self._checkpoints.advance_idle(checkpoints, to, recorded_at)

    async def join(self, meeting: _Meeting, share: Share) -> bool:
        """Bring a share to a meeting, and say whether all that was brought there is committed."""
        answer = asyncio.get_running_loop().create_future()
        meeting.shares.append(share)
        meeting.answers.append(answer)
        self._see_to(meeting)
        is_written: bool = await answer
        return is_written

    def _meeting_at(self, to: CommitMark, recorded_at: datetime | None) -> _Meeting:
        meeting = self._meetings.get(to)
        if meeting is None:
            meeting = self._meetings[to] = _Meeting(to, recorded_at)
        return meeting

    def _see_to(self, meeting: _Meeting) -> None:
        """End a meeting that nobody is missing from any more; else see that it ends soon."""
        if meeting.is_over:
            return
        if meeting.arrived >= meeting.expected:
            self._end(meeting)
        elif meeting.timer is None and meeting.arrived:
            meeting.timer = asyncio.get_running_loop().call_later(MEETING_SECONDS_MAX, self._end, meeting)

    def _end(self, meeting: _Meeting) -> None:
        if meeting.is_over:
            return
        meeting.is_over = True
        if meeting.timer is not None:
            meeting.timer.cancel()
        del self._meetings[meeting.to]
        if not meeting.shares:
            return
        task = asyncio.create_task(self._write(meeting), name="joint write")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, meeting: _Meeting) -> None:
        is_written = False
        try:
            is_written = await self._is_written(meeting)
        except (
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            OSError,
            TimeoutError,
            UnwritableValue,
        ) as error:
            log.info("not written together, each goes on by itself", error=repr(error))
        finally:
            for answer in meeting.answers:
                if not answer.done():
                    answer.set_result(is_written)

    async def _is_written(self, meeting: _Meeting) -> bool:
        shares = meeting.shares
        has_rows = any(share.tables for share in shares)
        if len(shares) < 2 or not has_rows or sum(share.rows for share in shares) > ROWS_PER_STATEMENT_MAX:
            return False
        statement, arguments = self._statements.of(shares, meeting.to, meeting.recorded_at)
        async with asyncio.timeout(WRITE_SECONDS_MAX):
            await self._checkpoints.pool.execute(statement, *arguments)
        return True
