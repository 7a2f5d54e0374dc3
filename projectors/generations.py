"""
The generations of projections: each a fold of the log in tables of its own, one of them live.

A new generation is built beside the live one and goes live by one UPDATE of a number, so readers see the one or the
other and never half of one. The one before is kept for going back; older ones are dropped.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from getpass import getuser
from socket import gethostname
from typing import Any, NamedTuple

import asyncpg

from event_store.checkpoints import Connection
from infra.failpoints import failpoint
from infra.sql import load_sql
from infra.telemetry import log
from projectors.projection import Projection, Row
from schemas.errors import NotFound, Rejection

IDENTIFIER_CHARACTERS_MAX = 63
LOCK_SECONDS_MAX = 2
"""How long dropping or holding waits for others; readers would queue behind a longer wait."""


class Live(NamedTuple):
    """Which generation of a projection is live."""

    name: str
    generation: int
    version: int
    previous: int | None
    paused: bool


class Generation(NamedTuple):
    """One generation's tables."""

    projection: str
    number: int
    version: int
    schema: str


class GenerationBehind(Rejection):
    """The generation is behind the live one, whose readers' positions would go backwards."""


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
        await make_tables(connection, projection, schema)
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
            await connection.execute(f'DROP SCHEMA IF EXISTS "{found[0]["schema"]}" CASCADE')
            await connection.execute(self._sql("sql/forget_generation.sql"), projection, generation)

    async def drop_old(self, projection: str) -> None:
        """Drop what is neither live nor the one before; what a long reader holds is left for the next time."""
        live = (await self.live())[projection]
        for row in await self.all():
            if row["projection"] == projection and row["state"] in ("kept", "refused"):
                if row["generation"] in (live.generation, live.previous):
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

    async def record(self, act: str, subjects: Sequence[str], reason: str | None) -> None:
        """Record what an operator has done."""
        await self._pool.execute(
            self._sql("sql/record_act.sql"), f"{getuser()}@{gethostname()}", act, " ".join(subjects), reason
        )

    async def _lock(self, connection: Connection, projection: str) -> None:
        """Let one process at a time make generations of a projection."""
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
            f"{self._namespace}/generations/{projection}",
        )


async def make_tables(connection: Connection, projection: type[Projection[Row]], schema: str) -> None:
    """Make a projection's tables in a schema of their own."""
    await connection.execute(f'CREATE SCHEMA "{schema}"')
    await connection.execute(projection.ddl().replace("{schema}", f'"{schema}"'))
