"""
Folds one row again from the log, and puts it right in the live table.

The checkpoint is locked while the row is written and its revision raised, so the live projector, which may remember
the row as it was, reads it again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from event_store.checkpoints import Connection
from event_store.consumer import Held
from event_store.feed import LogFeed, until
from event_store.log import Page
from infra.documents import DocumentWriter
from infra.redis import CacheAway, RedisCache
from infra.sql import load_sql
from projectors.app import ReadSide
from projectors.decoding import Decoder
from projectors.folding import Folding, Place
from projectors.projection import Projection, Row
from projectors.tables import Table, read_tables
from projectors.writing import Writer, changes_of, encode_key
from schemas.envelope import BEGINNING, CommitMark
from schemas.errors import NotFound

PAGE_EVENTS_MAX = 10_000


@dataclass
class RowFold:
    """One row, folded from the log up to a mark."""

    place: Place
    folding: Folding
    mark: CommitMark = BEGINNING
    positions: int = 0
    """How many events were folded into it."""

    @property
    def row(self) -> Any:
        """Return the row; None where there is none."""
        return self.folding.rows.get(self.place)

    @property
    def error(self) -> str | None:
        """Return why it could not be folded to the end; None when it could."""
        return next((parked.error for parked in self.folding.parking if parked.error), None)


class Mender:
    """Folds and mends rows of one live generation."""

    def __init__(
        self, side: ReadSide, kind: type[Projection[Row]], generation: int, tables: Mapping[str, Table]
    ) -> None:
        self._side = side
        self._kind = kind
        self._generation = generation
        self._tables = tables
        self._writer = Writer(kind.name, generation, tables, side.checkpoints)
        self._sql = partial(load_sql, "projectors", namespace=side.settings.namespace)

    async def fold(self, place: Place, position: int, fold: RowFold | None = None) -> RowFold:
        """Fold a row up to a position, or on from where an earlier fold ended."""
        partition = await self._side.log.partition_of(place.tenant)
        projection = self._kind()
        if fold is None:
            _, skipped = await self._writer.read_standing(partition)
            fold = RowFold(place, Folding(projection, complete=True, only=place, skipped=skipped))
        decoder = Decoder(self._side.registry, [projection])
        feed = LogFeed(self._side.log, partition, events_max=PAGE_EVENTS_MAX)
        try:
            while fold.mark.position < position:
                page = until(await feed.next(fold.mark, wait_seconds=0), position)
                own = [event for event in page.events if event.tenant == place.tenant]
                decoded = decoder.decode(Page(partition, page.after, own, page.end, page.commits))
                if decoded.held is not None:
                    raise Held(self._kind.name, partition, *decoded.held)
                steps = fold.folding.plan(decoded.events)
                fold.positions += len(steps)
                fold.folding.fold(steps)
                fold.mark = page.end
        finally:
            await feed.close()
        return fold

    async def mend(self, place: Place) -> str:
        """Write a row as its fold says, and release what is parked at it; return in words what was done."""
        partition = await self._side.log.partition_of(place.tenant)
        heads = await self._side.log.heads()
        fold = await self.fold(place, min(heads[partition].position, await self._position(partition)))
        async with self._side.pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(
                self._sql("sql/lock_checkpoint.sql"), self._kind.name, self._generation, partition
            )
            if row is None:
                raise NotFound(f"checkpoint of {self._kind.name} in partition {partition}")
            mark = CommitMark(row["position"], row["commit_hash"])
            fold = await self.fold(place, mark.position, fold)
            if fold.error is not None:
                return f"still cannot be folded: {fold.error}"
            await self._write(connection, fold)
            await self._release(connection, place, partition)
        await self._tell_cache(place, partition, mark)
        return f"folded from {fold.positions} events and written"

    async def _position(self, partition: int) -> int:
        found = await self._side.pool.fetch(self._sql("sql/marks.sql"), self._kind.name, self._generation)
        return next((row["position"] for row in found if row["partition"] == partition), 0)

    async def _write(self, connection: Connection, fold: RowFold) -> None:
        changes = changes_of(fold.folding, self._tables)
        table = self._tables[fold.place.table]
        if fold.row is None:
            await connection.execute(table.delete(), *table.key_arguments([fold.place]))
            return
        await self._writer.write_rows(connection, changes)

    async def _release(self, connection: Connection, place: Place, partition: int) -> None:
        await connection.execute(
            self._sql("sql/release.sql"),
            self._kind.name,
            self._generation,
            partition,
            place.tenant,
            place.table,
            encode_key(place.key),
        )

    async def _tell_cache(self, place: Place, partition: int, mark: CommitMark) -> None:
        """Have readers ask the tables: the live projector may have written to the cache since, so a value is late."""
        url = self._side.settings.redis_url
        if url is None or place.table != self._kind.document:
            return
        async with RedisCache(url.get_secret_value()) as redis:
            try:
                await DocumentWriter(redis, self._side.settings.namespace).doubt(
                    self._kind.name,
                    self._generation,
                    partition,
                    checkpoint=mark,
                    rows=[(place.tenant, place.key)],
                )
            except CacheAway:
                return


async def mender_of(side: ReadSide, kind: type[Projection[Row]]) -> Mender:
    """
    Return what mends a projection's live rows.

    Raises:
        NotFound: The projection has no live generation.
    """
    live = (await side.generations.live()).get(kind.name)
    if live is None:
        raise NotFound(f"live generation of {kind.name}")
    tables = await read_tables(side.pool, kind, side.generations.schema_of(kind.name, live.generation))
    return Mender(side, kind, live.generation, tables)


async def mend_row(side: ReadSide, kind: type[Projection[Row]], tenant: str, key: tuple[str, ...]) -> str:
    """Fold one row of a projection's first table anew, and write it."""
    mender = await mender_of(side, kind)
    return await mender.mend(Place(next(iter(kind.tables)), tenant, key))
