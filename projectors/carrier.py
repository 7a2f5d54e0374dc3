"""
Carries out what operators ask for: in the projector's process, or in the command line's where no projector lives.

Long work and short work have a lane each, so that a pause does not wait for a replay. While it works a carrier renews
its row; when that row is not its own any more it stops, and what it did meanwhile was fenced by the checkpoints.
"""

import asyncio
from collections.abc import Collection
from contextlib import suppress

import asyncpg

from event_store.failures import LOST, NO_REPLY
from event_store.leases import process_identity
from event_store.operations import ATTEMPTS_MAX, LONG_KINDS, SHORT_KINDS, Asked, Operation, Operations
from event_store.wake import Listener
from infra.failpoints import failpoint
from infra.telemetry import log as logger
from projectors.acts import Progress, perform
from projectors.build import BeingBuilt
from projectors.generations import FoldedByAnother
from projectors.read_side import ReadSide
from schemas.errors import ServiceError, Unavailable

RENEW_SECONDS = 0.5
LOOK_SECONDS = 2.0
PAUSE_SECONDS = 1.0
ERROR_CHARACTERS_MAX = 2_000
FOR_OTHERS = (BeingBuilt, FoldedByAnother)
"""What another process does, or must do: no fault of the operation's."""
NOT_NOW = (
    Unavailable,
    BeingBuilt,
    *LOST,
    asyncpg.PostgresConnectionError,
    asyncpg.LockNotAvailableError,
)
ANSWERLESS = (*NO_REPLY, Unavailable)


class Carrier:
    """One process's part in carrying out operations."""

    def __init__(self, side: ReadSide) -> None:
        self.operations = Operations(side.pool.fetch, side.settings.namespace)
        self._side = side
        self._holder = process_identity()
        self._news = {LONG_KINDS: asyncio.Event(), SHORT_KINDS: asyncio.Event()}

    async def run(self, stop: asyncio.Event) -> None:
        """Carry out what is asked for, until `stop`; what is under way then is handed to others."""
        async with Listener([self._side.settings.read_url_or_store], self.operations.channel, self._heard):
            lanes = [asyncio.create_task(self._lane(kinds), name=f"operations {min(kinds)}…")
                     for kinds in self._news]  # fmt: skip
            try:
                await stop.wait()
            finally:
                for lane in lanes:
                    lane.cancel()
                await asyncio.gather(*lanes, return_exceptions=True)

    def _heard(self, _payload: str) -> None:
        for news in self._news.values():
            news.set()

    async def _lane(self, kinds: Collection[str]) -> None:
        news = self._news[frozenset(kinds)]
        while True:
            try:
                operation = await self.operations.claim(self._holder, kinds)
                if operation is not None:
                    await self.carry(operation)
                    continue
            except ANSWERLESS as error:
                logger.warning("operations not read", error=repr(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await news.wait()
            news.clear()

    async def take(self, asked: Asked, actor: str) -> Operation:
        """Write down what is asked for, to be carried out by this process with `carry`."""
        return await self.operations.take(asked, actor, self._holder)

    async def carry_one(self, number: str, kind: str) -> None:
        """Carry out one operation in this process, unless somebody else does."""
        while not (await self.operations.find(number)).has_ended:
            operation = await self.operations.claim(self._holder, [kind], number=number)
            if operation is not None:
                await self.carry(operation)
            else:
                await asyncio.sleep(RENEW_SECONDS)

    async def carry(self, operation: Operation) -> None:
        """Carry out an operation that this process has claimed, and say what became of it."""
        if operation.attempts > ATTEMPTS_MAX:
            error = operation.error or f"{ATTEMPTS_MAX} processes have ended while they carried it out"
            await self.operations.end(operation.id, self._holder, "failed", error=error)
            return
        logger.info("operation begun", id=operation.id, kind=operation.asked.kind, actor=operation.actor)
        failpoint("operation.begun")
        progress = Progress(operation.progress)
        work = asyncio.create_task(perform(self._side, operation, progress), name=f"operation {operation.id}")
        try:
            ending = await self._keep(operation, progress, work)
        except asyncio.CancelledError:
            await _end(work)
            with suppress(*ANSWERLESS):
                await self.operations.hand_back(operation.id, self._holder, None, counts=False)
            raise
        if ending is not None:
            await _end(work)
        if ending == "cancelled":
            await self.operations.end(operation.id, self._holder, "cancelled")
        elif ending is None:
            failpoint("operation.before_end")
            await self._tell(operation, work)

    async def _keep(
        self, operation: Operation, progress: Progress, work: "asyncio.Task[object]"
    ) -> str | None:
        """Renew until the work has ended; return why it is to be ended before, if it is."""
        while not work.done():
            await asyncio.wait([work], timeout=RENEW_SECONDS)
            try:
                is_cancelled = await self.operations.renew(operation.id, self._holder, progress.said)
            except ANSWERLESS as error:
                logger.warning("operation not renewed", id=operation.id, error=repr(error))
                continue
            if is_cancelled is None:
                return "lost"
            if is_cancelled and not work.done():
                return "cancelled"
        return None

    async def _tell(self, operation: Operation, work: "asyncio.Task[object]") -> None:
        error = work.exception()
        number, holder = operation.id, self._holder
        if error is None:
            result = work.result()
            await self._side.generations.record(
                operation.asked.kind, [number], operation.reason, actor=operation.actor
            )
            await self.operations.end(number, holder, "done", result=result)
        elif isinstance(error, NOT_NOW) and (
            operation.attempts < ATTEMPTS_MAX or isinstance(error, BeingBuilt)
        ):
            logger.info("operation waits", id=number, error=repr(error))
            if isinstance(error, FOR_OTHERS):
                await self.operations.hand_back(number, holder, _words(error), counts=False)
                await asyncio.sleep(PAUSE_SECONDS)  # meanwhile others have taken it up
            else:
                await asyncio.sleep(PAUSE_SECONDS)
                await self.operations.hand_back(number, holder, _words(error), counts=True)
        else:
            if not isinstance(error, ServiceError):
                logger.error("operation failed", id=number, error=repr(error), exc_info=error)
            await self.operations.end(number, holder, "failed", error=_words(error))
        logger.info("operation ended", id=number, kind=operation.asked.kind, error=repr(error))


async def _end(work: "asyncio.Task[object]") -> None:
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


def _words(error: BaseException) -> str:
    name = error.slug if isinstance(error, ServiceError) else type(error).__name__
    return f"{name}: {error}"[:ERROR_CHARACTERS_MAX]
