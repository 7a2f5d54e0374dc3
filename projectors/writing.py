"""
Brings a folding's changes into its tables, with the checkpoint, in one transaction.

As a rule that is one statement for one round trip: all its parts are one transaction, and a checkpoint that is not
where it was believed to be undoes them all. Large or unusual writes take a transaction of several statements.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import asyncpg
import orjson

from event_store.checkpoints import FENCED_SQLSTATE, Checkpoint, Checkpoints, Connection
from infra.sql import load_sql
from projectors.folding import Folding, Parked, Place, describe
from projectors.generations import as_builder
from projectors.page_statement import PageStatements, Share, TableChanges
from projectors.tables import Table, UnwritableValue, Written
from schemas.envelope import CommitMark
from schemas.errors import ServiceError

ROWS_PER_STATEMENT_MAX = 10_000


@dataclass(eq=False)
class RowsRefused(ServiceError):
    """Rows could not be written: they have no JSON form, or the database does not take their values."""

    rows: Mapping[Place, str]


def changes_of(folding: Folding, tables: Mapping[str, Table]) -> dict[str, TableChanges]:
    """
    Return a folding's changes by table, rows encoded.

    Raises:
        RowsRefused: Some rows cannot be encoded.
    """
    refused: dict[Place, str] = {}
    written: dict[str, list[Written]] = {name: [] for name in tables}
    deleted: dict[str, list[Place]] = {name: [] for name in tables}
    rows = folding.rows
    for place, change in folding.changes.items():
        row = rows.get(place)
        if row is None:
            deleted[place.table].append(place)
        else:
            try:
                written[place.table].append((place, row, row.encode(), change))
            except Exception as error:
                refused[place] = describe(error)
    if refused:
        raise RowsRefused(refused)
    return {name: TableChanges(written[name], deleted[name]) for name in tables}


class Writer:
    """Writes one projection's generation."""

    def __init__(
        self, projection: str, generation: int, tables: Mapping[str, Table], checkpoints: Checkpoints
    ) -> None:
        self.tables = tables
        self._projection = projection
        self._generation = generation
        self._checkpoints = checkpoints
        self._sql = partial(load_sql, "projectors", namespace=checkpoints.namespace)
        self._statements = PageStatements(checkpoints.namespace)

    async def write(
        self,
        folding: Folding,
        changes: Mapping[str, TableChanges],
        checkpoint: Checkpoint,
        to: CommitMark,
        recorded_at: datetime | None,
    ) -> None:
        """
        Commit a folding's changes together with the checkpoint's move, and take note of it.

        Raises:
            Fenced: The checkpoint was not where it was believed to be; nothing was written.
        """
        rows = sum(len(change.written) + len(change.deleted) for change in changes.values())
        try:
            if rows <= ROWS_PER_STATEMENT_MAX and not folding.parking:
                share = Share([checkpoint], self.tables, changes, folding.tenants)
                statement, arguments = self._statements.of([share], to, recorded_at)
                await self._checkpoints.pool.execute(statement, *arguments)
            else:
                async with self._checkpoints.pool.acquire() as connection, connection.transaction():
                    await self._checkpoints.advance(connection, checkpoint, to, recorded_at)
                    await self.write_rows(connection, changes)
                    await self.write_tenants(connection, checkpoint.partition, folding.tenants)
                    await self.park(connection, checkpoint.partition, folding.parking)
        except asyncpg.PostgresError as error:
            if error.sqlstate == FENCED_SQLSTATE:
                raise checkpoint.fenced() from error
            raise
        checkpoint.mark = to

    async def copy(
        self,
        folding: Folding,
        changes: Mapping[str, TableChanges],
        checkpoint: Checkpoint,
        to: CommitMark,
        recorded_at: datetime | None,
        stored: Collection[Place],
    ) -> None:
        """
        Commit a build's changes with its checkpoint's move: rows that are not `stored` yet are copied in.

        The tables must be open to their owner (`Generations.open_to_builder`).

        Raises:
            Fenced: The checkpoint was not where it was believed to be; nothing was written.
        """
        async with self._checkpoints.pool.acquire() as connection, connection.transaction():
            await self._checkpoints.advance(connection, checkpoint, to, recorded_at)
            there: dict[str, TableChanges] = {}
            async with as_builder(connection, self._checkpoints.namespace):
                for name, change in changes.items():
                    table = self.tables[name]
                    new = [row for row in change.written if row[0] not in stored] if table.is_copyable else []
                    if new:
                        await connection.copy_records_to_table(
                            name, schema_name=table.schema, columns=[column.name for column in table.columns],
                            records=table.copied_rows(new),
                        )  # fmt: skip
                    old = [row for row in change.written if row[0] in stored] if new else change.written
                    there[name] = TableChanges(old, change.deleted)
            await self.write_rows(connection, there)
            await self.write_tenants(connection, checkpoint.partition, folding.tenants)
            await self.park(connection, checkpoint.partition, folding.parking)
        checkpoint.mark = to

    async def write_rows(self, connection: Connection, changes: Mapping[str, TableChanges]) -> None:
        """Write and delete rows, some thousands in a statement."""
        for name, change in changes.items():
            table = self.tables[name]
            for start in range(0, len(change.written), ROWS_PER_STATEMENT_MAX):
                part = change.written[start : start + ROWS_PER_STATEMENT_MAX]
                await connection.execute(table.upsert(), *table.row_arguments(part))
            if change.deleted:
                await connection.execute(table.delete(), *table.key_arguments(change.deleted))

    async def write_tenants(self, connection: Connection, partition: int, tenants: Mapping[str, int]) -> None:
        """Take note of tenants' last folded positions in a partition."""
        await connection.execute(
            self._sql("sql/applied_by_tenant.sql"),
            self._projection,
            self._generation,
            list(tenants),
            list(tenants.values()),
            partition,
        )

    async def park(self, connection: Connection, partition: int, parking: Sequence[Parked]) -> None:
        """Set events aside."""
        if not parking:
            return
        await connection.execute(
            self._sql("sql/park.sql"),
            self._projection,
            self._generation,
            partition,
            [parked.place.tenant for parked in parking],
            [parked.place.table for parked in parking],
            [encode_key(parked.place.key) for parked in parking],
            [parked.event.position for parked in parking],
            [parked.event.stream for parked in parking],
            [parked.event.id for parked in parking],
            [parked.event.type for parked in parking],
            [parked.event.schema_version for parked in parking],
            [parked.error for parked in parking],
        )

    async def refused_rows(self, changes: Mapping[str, TableChanges]) -> RowsRefused:
        """Try each row by itself, and return those that the database refuses, with its words."""
        refused: dict[Place, str] = {}
        async with self._checkpoints.pool.acquire() as connection:
            trial = connection.transaction()
            await trial.start()
            for name, change in changes.items():
                table = self.tables[name]
                for row in change.written:
                    try:
                        async with connection.transaction():
                            await connection.execute(table.upsert(), *table.row_arguments([row]))
                    except (*ROW_ERRORS,) as error:
                        refused[row[0]] = f"{type(error).__name__}: {error}"
            await trial.rollback()
        return RowsRefused(refused)

    async def read_standing(self, partition: int) -> tuple[set[Place], set[tuple[int, Place]]]:
        """Return the rows that have parked events, and what operators have left out."""
        return await self.read_standing_in(self._checkpoints.pool, partition)

    async def read_standing_in(
        self, connection: Connection, partition: int
    ) -> tuple[set[Place], set[tuple[int, Place]]]:
        """Return the same as a connection's snapshot has it."""
        parked: set[Place] = set()
        skipped: set[tuple[int, Place]] = set()
        rows = await connection.fetch(
            self._sql("sql/standing.sql"), self._projection, self._generation, partition
        )
        for row in rows:
            place = Place(row["table_name"], row["tenant"], decode_key(row["key"]))
            if row["position"] is None:
                parked.add(place)
            else:
                skipped.add((row["position"], place))
        return parked, skipped


ROW_ERRORS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    UnwritableValue,
)
"""What a row's own values can be refused for."""


def encode_key(key: Sequence[str]) -> str:
    """Return a row's key as it stands in `parked_events`."""
    return orjson.dumps(list(key)).decode()


def decode_key(text: str) -> tuple[str, ...]:
    """Return the key that `encode_key` wrote."""
    return tuple(orjson.loads(text))
