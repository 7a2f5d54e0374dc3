"""
The generations of projections: each a fold of the log in tables of its own, one of them live.

A new generation is built beside the live one and goes live by one UPDATE of a number, so readers see the one or the
other and never half of one. The one before is kept for going back; older ones are dropped.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from getpass import getuser
from socket import gethostname
from typing import Any, NamedTuple

import asyncpg

from event_store.checkpoints import Connection
from infra.database_roles import builder_of
from infra.failpoints import failpoint
from infra.sql import load_sql
from infra.telemetry import log
from projectors.binaries import PREFIX as GROUPS_PREFIX
from projectors.projection import Projection, Row
from schemas.errors import BadDefinition, NotFound, Rejection, Unavailable

IDENTIFIER_CHARACTERS_MAX = 63
CANNOT_BE_GUARDED = "ES011"
LOCK_SECONDS_MAX = 2
"""How long dropping or holding waits for others; readers would queue behind a longer wait."""


class Live(NamedTuple):
    """Which generation of a projection is live."""

    name: str
    generation: int
    version: int
    previous: int | None
    paused: bool
    era: str
    """Which life of the database it was read in."""


class Generation(NamedTuple):
    """One generation's tables."""

    projection: str
    number: int
    version: int
    schema: str


class GenerationBehind(Rejection):
    """The generation is behind the live one, whose readers' positions would go backwards."""


@dataclass(eq=False)
class FoldedByAnother(Unavailable):
    """The generation is of another version than this program folds; a process of the other program must do it."""

    projection: str
    version: int
    own_version: int


class Generations:
    """Makes, swaps and drops generations."""

    def __init__(self, pool: "asyncpg.Pool[Any]", namespace: str) -> None:
        self._pool = pool
        self._namespace = namespace
        self._sql = partial(load_sql, "projectors", namespace=namespace)
        self.channel = f"{namespace}_generations"

    def schema_of(self, projection: str, generation: int) -> str:
        """Return the name of a generation's schema."""
        return f"{self._prefix(projection)}_{generation}"

    def _prefix(self, projection: str) -> str:
        return f"{self._namespace}_{projection.replace('-', '_')}"

    async def live(self) -> Mapping[str, Live]:
        """Return the live generations by projection."""
        rows = await self._pool.fetch(self._sql("sql/live.sql"))
        return {row["name"]: Live(*row) for row in rows}

    async def all(self) -> Sequence[Mapping[str, Any]]:
        """Return every generation that still has tables."""
        rows: Sequence[Mapping[str, Any]] = await self._pool.fetch(self._sql("sql/generations.sql"))
        return rows

    async def alive_groups(self) -> Sequence[str]:
        """Return the groups of projectors that are at work, whatever their programs fold."""
        rows = await self._pool.fetch(self._sql("sql/alive_groups.sql"), GROUPS_PREFIX)
        return [row["group_name"] for row in rows]

    async def open_first(self, projection: type[Projection[Row]]) -> None:
        """Make a projection's first generation, if it has none: live, and empty as the log's beginning."""
        async with self._pool.acquire() as connection, connection.transaction():
            await self._lock(connection, projection.name)
            rows = await connection.fetch(self._sql("sql/live.sql"))
            if projection.name in {row["name"] for row in rows}:
                return
            made = await self._make(connection, projection)
            await connection.execute(
                self._sql("sql/first_generation.sql"), projection.name, made.number, projection.version
            )
            log.info("projection opened", projection=projection.name, generation=made.number)

    async def begin(self, projection: type[Projection[Row]]) -> Generation:
        """Return the generation to build: one that an earlier build left unfinished, or a new one."""
        async with self._pool.acquire() as connection, connection.transaction():
            await self._lock(connection, projection.name)
            row = await connection.fetchrow(
                self._sql("sql/unfinished.sql"), projection.name, projection.version
            )
            if row is not None:
                return Generation(projection.name, row["generation"], projection.version, row["schema"])
            return await self._make(connection, projection)

    async def _make(self, connection: Connection, projection: type[Projection[Row]]) -> Generation:
        row = await connection.fetchrow(
            self._sql("sql/new_generation.sql"),
            projection.name,
            projection.version,
            self._prefix(projection.name),
        )
        schema: str = row["schema"]
        await make_tables(connection, projection, schema, self._namespace)
        return Generation(projection.name, row["generation"], projection.version, schema)

    async def swap(
        self, connection: Connection, projection: str, generation: int, *, even_behind: bool = False
    ) -> None:
        """
        Make a generation the live one, in the connection's transaction.

        Raises:
            GenerationBehind: It is behind the present one.
        """
        failpoint("generations.before_swap")
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS_MAX}s'")
        swapped = await connection.fetchval(
            f"SELECT {self._namespace}.swap_generation_v1($1, $2, $3)", projection, generation, even_behind
        )
        if not swapped:
            raise GenerationBehind

    async def open_to_builder(self, schema: str, tables: Iterable[str], *, is_open: bool) -> None:
        """
        Let the owner of a generation's tables copy rows into them, or not any more.

        `COPY` is refused to whom row security holds for; it is no longer forced on the owner, a role that nobody can
        log in as, while the generation is built. All other roles are held to it as always.
        """
        force = "NO FORCE" if is_open else "FORCE"
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS_MAX}s'")
            async with as_builder(connection, self._namespace):
                for name in tables:
                    await connection.execute(f'ALTER TABLE "{schema}"."{name}" {force} ROW LEVEL SECURITY')

    async def announce(self, projection: str) -> None:
        """Tell the runners that another generation is live."""
        await self._pool.execute("SELECT pg_notify($1, $2)", self.channel, projection)

    async def refuse(self, generation: Generation, why: str) -> None:
        """Say that a build is not to go live; its tables stay for a look at them."""
        await self._pool.execute(
            self._sql("sql/close_generation.sql"), generation.projection, generation.number, why
        )

    async def drop(self, projection: str, generation: int) -> None:
        """
        Drop a generation that is not live.

        Raises:
            NotFound: There is no such generation, or it is live.
        """
        found = [
            row for row in await self.all()
            if row["projection"] == projection and row["generation"] == generation and row["state"] != "live"
        ]  # fmt: skip
        if not found:
            raise NotFound(f"generation {generation} of {projection} that is not live")
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS_MAX}s'")
            async with as_builder(connection, self._namespace):
                await connection.execute(f'DROP SCHEMA IF EXISTS "{found[0]["schema"]}" CASCADE')
            await connection.execute(self._sql("sql/forget_generation.sql"), projection, generation)

    async def drop_old(self, projection: str, *, kept: timedelta | None = None) -> None:
        """
        Drop what is neither live nor the one before, and that too once it has been kept so long.

        A newer version that an operator has gone back from stays: it says that it is not to be built again.
        What a long reader holds is left for the next time.
        """
        live = (await self.live())[projection]
        for row in await self.all():
            if row["projection"] == projection and row["state"] in ("kept", "refused"):
                is_before = row["generation"] == live.previous
                was_left = row["version"] > live.version
                if row["generation"] == live.generation or (
                    is_before and (was_left or not _is_older(row, kept))
                ):
                    continue
                try:
                    await self.drop(projection, row["generation"])
                except asyncpg.LockNotAvailableError:
                    log.info(
                        "old generation is still read", projection=projection, generation=row["generation"]
                    )

    async def set_paused(self, projection: str, *, paused: bool) -> None:
        """
        Stop or go on applying events to a projection.

        Raises:
            NotFound: There is no such projection.
        """
        done = await self._pool.execute(
            f"UPDATE {self._namespace}.projections SET paused = $2, changed_at = now() WHERE name = $1",
            projection,
            paused,
        )
        if done != "UPDATE 1":
            raise NotFound(f"projection {projection}")
        await self.announce(projection)

    async def open_epoch(self, reason: str, era: str) -> None:
        """Have an era of the tables end: nothing that the cache holds of them is believed any more."""
        statement = load_sql("event_store", "sql/queries/open_epoch.sql", namespace=self._namespace)
        await self._pool.execute(statement, None, f"{getuser()}@{gethostname()}", reason, "{}", era)
        await self.announce("")

    async def record(
        self, act: str, subjects: Sequence[str], reason: str | None, *, actor: str | None = None
    ) -> None:
        """Record what an operator has had done: who is at this machine's command line, unless it was another."""
        who = actor or f"{getuser()}@{gethostname()}"
        await self._pool.execute(self._sql("sql/record_act.sql"), who, act, " ".join(subjects), reason)

    async def _lock(self, connection: Connection, projection: str) -> None:
        """Let one process at a time make generations of a projection."""
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
            f"{self._namespace}/generations/{projection}",
        )


def _is_older(row: Mapping[str, Any], kept: timedelta | None) -> bool:
    """Say whether a generation has been kept for so long; the database says for how long it was."""
    return kept is not None and row["kept_for"] is not None and row["kept_for"] >= kept


async def make_tables(
    connection: Connection, projection: type[Projection[Any]], schema: str, namespace: str
) -> None:
    """
    Make a projection's tables in a schema of their own, guarded by tenant, in the connection's transaction.

    Raises:
        BadDefinition: A table has no column `tenant`, or is of a kind that cannot be guarded.
    """
    async with as_builder(connection, namespace):
        await connection.execute(f'CREATE SCHEMA "{schema}"')
        await connection.execute(projection.ddl().replace("{schema}", f'"{schema}"'))
        try:
            await connection.execute(f"SELECT {namespace}.guard_generation_v1($1)", schema)
        except asyncpg.PostgresError as error:
            if error.sqlstate == CANNOT_BE_GUARDED:
                raise BadDefinition(f"tables of projection {projection.name}", str(error.detail)) from error
            raise


@asynccontextmanager
async def as_builder(connection: Connection, namespace: str) -> AsyncIterator[None]:
    """
    Work as the role that owns generations' tables for a block of a transaction.

    Where the block fails the transaction is undone, and the role with it.
    """
    await connection.execute(f"SET LOCAL ROLE {builder_of(namespace)}")
    yield
    await connection.execute("RESET ROLE")
