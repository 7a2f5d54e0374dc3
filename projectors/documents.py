"""
Takes what has been committed on to the cache, in order and without ever keeping a projector waiting.

What waits for a projection's partition is merged: of a row only its last state is written. Where Redis is away, what
waits is dropped: infra/documents.py explains why nothing has to be repaired then.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from event_store.leases import EXPECTED_ERRORS
from infra.documents import UNKNOWN_PREFIX, DocumentWriter, Mark, Written
from infra.failpoints import failpoint
from infra.redis import CacheAway
from infra.telemetry import Counter, log
from projectors.folding import Place
from projectors.live import Applied
from schemas.envelope import CommitMark

WAITING_ROWS_MAX = 20_000
"""Of one projection in one partition; beyond it what waits is dropped, as if Redis were away."""
WRITTEN = Counter("everfold_documents_written_total", "Documents written to the cache")

Target = tuple[str, int, str, int]
"""A projection, its generation, the era that it is read in, and a partition."""


class History(Protocol):
    """What judges whether the cache and the log are of one history."""

    async def hash_prefix(self, partition: int, position: int) -> str | None:
        """Return the first digits of the hash of a position's commit; None when the log does not have it."""
        ...

    async def open_epoch(self, reason: str, era: str) -> None:
        """Have an era of the read tables end, if it is still the present one; the next one's cache is empty."""
        ...


@dataclass
class _Waiting:
    before: CommitMark
    after: CommitMark
    rows: dict[tuple[str, tuple[str, ...]], Written] = field(default_factory=dict)
    tenants: dict[str, int] = field(default_factory=dict)
    parked_tenants: set[str] = field(default_factory=set)


class DocumentQueue:
    """What is on its way to the cache in this process."""

    def __init__(self, writer: DocumentWriter, history: History | None = None) -> None:
        self._writer = writer
        self._history = history
        self._waiting: dict[Target, _Waiting] = {}
        self._begun: set[Target] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "DocumentQueue":
        self._task = asyncio.create_task(self._run(), name="documents to the cache")
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def put(self, applied: Applied) -> None:
        """Take on what a page has changed."""
        target = applied.projection.name, applied.generation, applied.era, applied.partition
        waiting = self._extend(target, applied.before, applied.after)
        table = applied.projection.document
        if table is not None:
            changes = applied.changes[table]
            for place, _, document, _ in changes.written:
                waiting.rows[place.tenant, place.key] = Written(place.tenant, place.key, document)
            for place in changes.deleted:
                waiting.rows[place.tenant, place.key] = Written(place.tenant, place.key, None)
        waiting.tenants |= applied.tenants
        for place in applied.parked:
            self._note_parked(waiting, place, table)
        if len(waiting.rows) > WAITING_ROWS_MAX:
            del self._waiting[target]
        self._wake.set()

    def _extend(self, target: Target, before: CommitMark, after: CommitMark) -> _Waiting:
        waiting = self._waiting.get(target)
        if waiting is None or waiting.after != before:
            waiting = self._waiting[target] = _Waiting(before, after)
        waiting.after = after
        return waiting

    @staticmethod
    def _note_parked(waiting: _Waiting, place: Place, table: str | None) -> None:
        waiting.parked_tenants.add(place.tenant)
        if place.table == table:
            waiting.rows[place.tenant, place.key] = Written(place.tenant, place.key, None, parked=True)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._waiting = self._waiting, {}
            await asyncio.gather(*(self._write(target, waiting) for target, waiting in batch.items()))

    async def _write(self, target: Target, waiting: _Waiting) -> None:
        failpoint("projector.before_cache")
        projection, generation, era, partition = target
        standing: Mark | None = None
        try:
            if target not in self._begun:
                standing = await self._writer.begin(
                    projection, generation, partition, checkpoint=waiting.before, era=era
                )
                self._begun.add(target)
            standing = standing or await self._writer.write(
                projection,
                generation,
                partition,
                era=era,
                before=waiting.before,
                after=waiting.after,
                rows=list(waiting.rows.values()),
                tenants=waiting.tenants,
                parked_tenants=list(waiting.parked_tenants),
            )
        except CacheAway:
            self._begun.discard(target)
        else:
            if standing is None:
                WRITTEN.inc(len(waiting.rows))
            elif self._history is not None:
                await self._judge(target, standing, self._history)

    async def _judge(self, target: Target, mark: Mark, history: History) -> None:
        """Where the cache speaks of a history that the log does not have, see that nobody believes it any more."""
        try:
            prefix = await history.hash_prefix(target[-1], mark.end)
            if prefix != mark.hash_prefix and mark.hash_prefix != UNKNOWN_PREFIX:
                log.warning("the cache holds a lost history", target=target, position=mark.end)
                reason = f"the cache holds a history of {target[0]} that the log does not have"
                await history.open_epoch(reason, target[2])
        except EXPECTED_ERRORS as error:
            log.warning("cache not judged", target=target, error=repr(error))
            self._begun.discard(target)
