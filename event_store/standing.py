"""
Whether the log is the one that the newest signed heads speak of, or an older copy of it that was restored.

A copy may have lost no event and still an erasure: the file of erasures tells that, where it is kept outside too.

A restored log cannot know by itself that it is one. Heads that are kept outside (`EVERFOLD_HEADS`, a folder) do: a
log that does not have what they name is `restored-unverified`. Every role looks at its start, before it serves or
does anything, and every few seconds from then on, as a server may be put back under a running process. Until `everfold
recover` has added heads of a new epoch to the folder, nothing is written and nothing is served.

Heads that cannot be read keep a process from starting to serve; one that serves goes on as it was found last.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from event_store.erasures import FILE_NAME, is_lost, last_erasure
from event_store.heads import (
    Finding,
    HeadFault,
    HeadsUnreadable,
    SignedHeads,
    compare_heads,
    has_heads,
    newest_in,
    read_heads,
)
from event_store.log import Append, Outcome
from event_store.object_store import object_store_of
from event_store.postgres import PostgresLog
from event_store.postgres_reading import PostgresReading
from event_store.servers import OF_ACCOUNT, LogRoles
from infra.settings import Settings
from infra.signing import checking_keys
from infra.telemetry import log as logger
from infra.waiting import first_of
from schemas.envelope import CommitMark
from schemas.errors import BadDefinition, ServiceError, StoreUnavailable

LOOK_SECONDS = 3.0
STATE = "restored-unverified"
NOT_LOOKED = "the log has not been compared with the newest signed heads yet"


@dataclass(eq=False)
class RestoredUnverified(StoreUnavailable):
    """The log may be an older copy that was restored; nothing has happened. An operator must run `everfold recover`."""

    finding: str = ""


class Standing:
    """What one process knows of its log."""

    def __init__(self, settings: Settings, log: PostgresReading) -> None:
        self._settings, self._log = settings, log
        self._folder = settings.heads
        self._said: str | None = None if settings.heads is None else NOT_LOOKED
        self._finding = "" if settings.heads is None else "not-looked-at"
        self._read: tuple[Path, SignedHeads] | None = None
        self._verified = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        if settings.heads is None:
            self._verified.set()

    async def __aenter__(self) -> "Standing":
        if self._folder is not None:
            await self.look()
            self._looking = asyncio.create_task(self._keep_looking(), name="standing of the log")
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def require(self) -> None:
        """
        Go on only if the log is known to be the one that heads speak of.

        Raises:
            RestoredUnverified: It is not.
        """
        if self._said is not None:
            raise RestoredUnverified(self._finding)

    def missing(self) -> Mapping[str, str]:
        """Return what `/readyz` says of it; nothing when all is well."""
        if self._said is None:
            return {}
        return {"log": f"{STATE}: {self._said}; run `everfold recover --against {self._folder}`"}

    def ready_with(
        self, ready: Callable[[], Awaitable[Mapping[str, str]]]
    ) -> Callable[[], Awaitable[Mapping[str, str]]]:
        """Return a readiness that asks this first."""

        async def both() -> Mapping[str, str]:
            return self.missing() or await ready()

        return both

    async def wait_until_verified(self, stop: asyncio.Event) -> bool:
        """Wait until the log is known to be the right one; False when the process is to stop before."""
        await first_of(self._verified.wait(), stop.wait())
        return self._verified.is_set()

    async def look(self) -> None:
        """Compare the log with the newest heads; what cannot be asked now leaves things as they are."""
        try:
            faults = await self._faults()
        except HeadsUnreadable as error:
            logger.warning("signed heads cannot be read", error=str(error))
            if not self._verified.is_set():
                self._judge("unreadable", str(error))
            return
        except (ServiceError, OSError, TimeoutError) as error:
            if isinstance(error, BadDefinition):
                raise
            logger.warning("log not compared with signed heads", error=repr(error))
            return
        if faults:
            where = "" if faults[0].partition is None else f"partition {faults[0].partition}: "
            self._judge(faults[0].finding, f"{faults[0].finding}: {where}{faults[0].said}")
        else:
            self._said, self._finding = None, ""
            self._verified.set()

    async def _faults(self) -> Sequence[HeadFault]:
        signed = await asyncio.to_thread(self._newest)
        if signed is None:
            return ()
        if fault := signed.fault(checking_keys(self._settings)):
            return [fault]
        log_id, epoch = await self._log.identity()
        faults = await compare_heads(self._log, self._settings.namespace, log_id, signed.heads, epoch=epoch)
        return faults or await self._lost_erasure()

    async def _lost_erasure(self) -> Sequence[HeadFault]:
        """Look for an erasure that was written down and that the database has forgotten, though it lost no event."""
        assert self._folder is not None
        for folder in {self._folder, self._settings.erasures_dir or self._folder}:
            erasure = await asyncio.to_thread(last_erasure, folder / FILE_NAME)
            if erasure is not None and await is_lost(self._log.servers, erasure):
                said = f"{folder / FILE_NAME} names an erasure of {erasure.erased_at:%F %T} UTC that was forgotten"
                return [HeadFault(Finding.LOST_ERASURE, said)]
        return ()

    def _newest(self) -> SignedHeads | None:
        """Return the newest heads of the folder; None where there are none yet."""
        assert self._folder is not None
        if not has_heads(self._folder):
            self._read = None
            return None
        file = newest_in(self._folder)
        if self._read is None or self._read[0] != file:
            self._read = file, read_heads(file)
        return self._read[1]

    def _judge(self, finding: str, said: str) -> None:
        if said != self._said:
            logger.error("the log is not what signed heads say", state=STATE, finding=finding, said=said)
        self._finding, self._said = finding, said
        self._verified.clear()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with suppress(BadDefinition):  # it was said at the start, which did not go on from there
                await self.look()


class GuardedLog(PostgresLog):
    """The log of a process that writes: nothing is written to what may be a restored copy."""

    def __init__(self, settings: Settings, *, roles: LogRoles = OF_ACCOUNT) -> None:
        super().__init__(
            settings.store_urls, settings.namespace, archive=object_store_of(settings), roles=roles
        )
        self.standing = Standing(settings, self)

    async def __aenter__(self) -> "GuardedLog":
        await self.standing.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.standing.__aexit__(*error)
        await super().__aexit__(*error)

    async def append_batch(
        self, partition: int, appends: Sequence[Append], *, known: CommitMark | None = None
    ) -> Sequence[Outcome]:
        """Carry out appends, unless the log may be a restored copy; see `EventLog.append_batch`."""
        self.standing.require()
        return await super().append_batch(partition, appends, known=known)
