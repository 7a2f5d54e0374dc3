"""
Folds one row again from the log, and puts it right in the live table.

The checkpoint is locked while the row is written and its revision raised, so the live projector, which may remember
the row as it was, reads it again.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from event_store.checkpoints import Connection
from event_store.residences import Residences
from infra.documents import DocumentWriter
from infra.redis import CacheAway, RedisCache
from infra.sql import load_sql
from projectors.folding import Folding, Place
from projectors.generations import FoldedByAnother, Live
from projectors.moved import residences_for
from projectors.projection import Projection, Row
from projectors.read_side import ReadSide
from projectors.row_fold import RowFold
from projectors.tables import Table, read_tables
from projectors.writing import Writer, changes_of, encode_key
from schemas.envelope import CommitMark
from schemas.errors import NotFound, StoreUnavailable


class Mender:
    """Folds and mends rows of one live generation."""

    def __init__(
        self, side: ReadSide, kind: type[Projection[Row]], live: Live, tables: Mapping[str, Table]
    ) -> None:
        self._side = side
        self._kind = kind
        self._generation, self._era = live.generation, live.era
        self._tables = tables
        self._writer = Writer(kind.name, live.generation, tables, side.checkpoints)
        self._sql = partial(load_sql, "projectors", namespace=side.settings.namespace)

    async def residences(self, tenant: str) -> Residences:
        """Return where a tenant lives and has lived, as far at least as the generation has followed it."""
        side = self._side
        return await residences_for(
            side.log, side.pool, side.settings.namespace, self._kind.name, self._generation, tenant
        )

    async def fold(
        self, residences: Residences, place: Place, positions: Mapping[int, int], fold: RowFold | None = None
    ) -> RowFold:
        """Fold a row up to some positions, by partition, or on from where an earlier fold ended."""
        skipped = {
            stay.partition: (await self._writer.read_standing(stay.partition))[1] for stay in residences
        }
        if fold is None:
            fold = RowFold(place, Folding(self._kind(), complete=True, only=(place,)))
        await fold.on(self._side.opened, self._side.registry, residences, positions, skipped)
        return fold

    async def mend(self, place: Place, fold: RowFold | None = None) -> str:
        """
        Write a row as its fold says, and release what is parked at it; return in words what was done.

        With a fold that has been made before, only what has happened since is folded.
        """
        residences = await self.residences(place.tenant)
        partitions = [stay.partition for stay in residences]
        heads = await self._side.log.heads()
        reached = {
            part: min(heads[part].position, position) for part, position in (await self.positions()).items()
        }
        fold = await self.fold(residences, place, reached, fold)
        async with self._side.pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                self._sql("sql/lock_checkpoint.sql"), self._kind.name, self._generation, partitions
            )
            marks = {row["partition"]: CommitMark(row["position"], row["commit_hash"]) for row in rows}
            if partitions[0] not in marks:
                raise NotFound(f"checkpoint of {self._kind.name} in partition {partitions[0]}")
            if len(await self.residences(place.tenant)) != len(partitions):
                raise StoreUnavailable
            fold = await self.fold(
                residences, place, {part: mark.position for part, mark in marks.items()}, fold
            )
            if fold.error is not None:
                return f"still cannot be folded: {fold.error}"
            await self._write(connection, fold)
            await self._release(connection, place, partitions)
        for partition, mark in marks.items():
            await self._tell_cache(place, partition, mark)
        return f"folded from {fold.positions} events and written"

    async def positions(self) -> Mapping[int, int]:
        """Return how far the generation is, by partition."""
        found = await self._side.pool.fetch(self._sql("sql/marks.sql"), self._kind.name, self._generation)
        return {row["partition"]: row["position"] for row in found}

    async def _write(self, connection: Connection, fold: RowFold) -> None:
        changes = changes_of(fold.folding, self._tables)
        table = self._tables[fold.place.table]
        if fold.row is None:
            await connection.execute(table.delete(), *table.key_arguments([fold.place]))
            return
        await self._writer.write_rows(connection, changes)

    async def _release(self, connection: Connection, place: Place, partitions: Sequence[int]) -> None:
        await connection.execute(
            self._sql("sql/release.sql"),
            self._kind.name,
            self._generation,
            partitions,
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
                    era=self._era,
                )
            except CacheAway:
                return


async def mender_of(side: ReadSide, kind: type[Projection[Row]]) -> Mender:
    """
    Return what mends a projection's live rows.

    Raises:
        NotFound: The projection has no live generation.
        FoldedByAnother: It is of a version that this program does not fold.
    """
    live = (await side.generations.live()).get(kind.name)
    if live is None:
        raise NotFound(f"live generation of {kind.name}")
    if live.version != kind.version:
        raise FoldedByAnother(kind.name, live.version, kind.version)
    tables = await read_tables(side.pool, kind, side.generations.schema_of(kind.name, live.generation))
    return Mender(side, kind, live, tables)


async def mend_row(side: ReadSide, kind: type[Projection[Row]], tenant: str, key: tuple[str, ...]) -> str:
    """Fold one row of a projection's first table anew, and write it."""
    mender = await mender_of(side, kind)
    return await mender.mend(Place(next(iter(kind.tables)), tenant, key))
