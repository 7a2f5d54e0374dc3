"""
A read side whose every step a test decides: events go to a real log, and are applied when the test says so.

It writes what the projector writes (rows, checkpoint, tenants' positions, documents), one thing at a time, so that
a test can stand between any two of them.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Self

import asyncpg
import httpx2
import orjson
from pydantic import SecretStr
from uuid_utils import uuid7

from event_store.log import Append, Check, Expect, NewEvent
from event_store.postgres import PostgresLog
from infra.auth import issue_development_token
from infra.documents import DocumentWriter, Written
from infra.redis import RedisCache
from infra.settings import Settings
from projectors.generations import make_tables
from projectors.projection import Stream
from query_api.app import QueryApi, make_query_api, queries_of, query_api
from query_api.statements import schema_of
from schemas import Event
from schemas.envelope import BEGINNING, CommitMark
from schemas.position import position_of
from tests.toy import DOMAIN, AccountBalances, AccountClosed, AccountOpened, Deposited

NAMESPACE = "everfold"
TENANT = "acme"
PROJECTION = AccountBalances.name
METADATA = orjson.dumps(
    {
        "actor": "ann",
        "roles": ["clerk"],
        "command": "accounts.deposit",
        "occurred_at": "2026-01-01T00:00:00Z",
        "correlation_id": "c-1",
    }
)


class ReadSideUnderTest:
    """A log, read tables, a cache, and the query API over them."""

    def __init__(
        self,
        store_url: str,
        redis_url: str | None,
        data_dir: Any,
        *,
        log: PostgresLog | None = None,
        **settings: Any,
    ) -> None:
        self.settings = Settings(
            store_url=SecretStr(store_url),
            redis_url=SecretStr(redis_url) if redis_url else None,
            data_dir=data_dir,
            namespace=NAMESPACE,
            domains=("toy",),
            **settings,
        )
        self.api: QueryApi
        self.client: httpx2.AsyncClient
        self.log = log or PostgresLog(self.settings.store_urls, NAMESPACE)
        self.pool: asyncpg.Pool[Any]
        self.redis: RedisCache | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        stack, settings = self._stack, self.settings
        await stack.enter_async_context(self.log)
        self.pool = await stack.enter_async_context(
            asyncpg.create_pool(settings.read_url_or_store, min_size=1, max_size=4)
        )
        if settings.redis_url is not None:
            redis = RedisCache(settings.redis_url.get_secret_value(), timeout_seconds=2)
            self.redis = await stack.enter_async_context(redis)
        await self.open_generation(1, is_live=True)
        made = await stack.enter_async_context(query_api(settings, log=self.log))
        self.api = make_query_api(made.parts, queries_of([DOMAIN]))
        self.client = await stack.enter_async_context(self.client_of(self.api))
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    def client_of(
        self, api: QueryApi, *, tenant: str | None = TENANT, roles: Sequence[str] = ("viewer",)
    ) -> Any:
        """Return a client of an API, in this process."""
        return httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=api.edge),
            base_url="http://everfold.test",
            headers={"authorization": f"Bearer {self.token(tenant, roles)}"},
            timeout=30,
        )

    def token(self, tenant: str | None, roles: Sequence[str]) -> str:
        """Return a bearer token."""
        return issue_development_token(self.settings, tenant=tenant, roles=roles)

    async def open_generation(self, generation: int, *, is_live: bool = False) -> None:
        """Make a generation's tables, empty."""
        schema = schema_of(NAMESPACE, PROJECTION, generation)
        async with self.pool.acquire() as connection, connection.transaction():
            await make_tables(connection, AccountBalances, schema, NAMESPACE)
            if is_live:
                await connection.execute(
                    f"INSERT INTO {NAMESPACE}.projections (name, generation, version) VALUES ($1, $2, 1)",
                    PROJECTION,
                    generation,
                )

    async def swap(self, generation: int) -> None:
        """Let a generation go live."""
        await self.pool.execute(
            f"UPDATE {NAMESPACE}.projections SET generation = $2 WHERE name = $1", PROJECTION, generation
        )

    async def drop_generation(self, generation: int) -> None:
        """Drop a generation's tables."""
        await self.pool.execute(f"DROP SCHEMA {schema_of(NAMESPACE, PROJECTION, generation)} CASCADE")

    async def happen(self, account_id: str, *events: Event, tenant: str = TENANT) -> str:
        """Append events to an account's stream; return the position token."""
        stream = f"accounts/{account_id}"
        partition = await self.log.partition_of(tenant)
        new = [
            NewEvent(stream, str(uuid7()), event.type, event.schema_version, event.encode())
            for event in events
        ]
        append = Append(tenant, stream, [Check(stream, Expect.ANY)], new, METADATA)
        (outcome,) = await self.log.append_batch(partition, [append])
        return position_of(partition, outcome.position, outcome.commit.hash).token(tenant)

    async def happen_raw(self, account_id: str, type_: str, version: int, data: bytes) -> str:
        """Append what another build would have; return the position token."""
        stream = f"accounts/{account_id}"
        partition = await self.log.partition_of(TENANT)
        new = NewEvent(stream, str(uuid7()), type_, version, data)
        append = Append(TENANT, stream, [Check(stream, Expect.ANY)], [new], METADATA)
        (outcome,) = await self.log.append_batch(partition, [append])
        return position_of(partition, outcome.position, outcome.commit.hash).token(TENANT)

    async def open_account(self, account_id: str, cents: int = 100, *, tenant: str = TENANT) -> str:
        """Open an account with some money in it."""
        return await self.happen(
            account_id, AccountOpened(owner="Ann"), Deposited(cents=cents), tenant=tenant
        )

    async def deposit(self, account_id: str, cents: int = 1, *, tenant: str = TENANT) -> str:
        """Put money in."""
        return await self.happen(account_id, Deposited(cents=cents), tenant=tenant)

    async def close(self, account_id: str) -> str:
        """Close an account: its row goes."""
        return await self.happen(account_id, AccountClosed())

    async def checkpoint(self, generation: int, partition: int) -> CommitMark:
        """Return where a generation is."""
        row = await self.pool.fetchrow(
            f"SELECT position, commit_hash FROM {NAMESPACE}.checkpoints WHERE kind = 'projection' "
            "AND consumer = $1 AND generation = $2 AND partition = $3",
            PROJECTION,
            generation,
            partition,
        )
        return CommitMark(*row) if row else BEGINNING

    async def apply(
        self, *, tenant: str = TENANT, generation: int = 1, to_cache: bool = True, notify: bool = True
    ) -> "Batch":
        """Apply all that is new in a tenant's partition, as the projector does."""
        partition = await self.log.partition_of(tenant)
        before = await self.checkpoint(generation, partition)
        page = await self.log.read_page(partition, before, events_max=100_000)
        batch = Batch(generation, partition, before, page.end)
        schema = schema_of(NAMESPACE, PROJECTION, generation)
        async with self.pool.acquire() as connection, connection.transaction():
            for event in page.events:
                await self._fold(connection, schema, batch, event)
            await self._checkpoint(connection, batch)
        if notify:
            await self.pool.execute("SELECT pg_notify($1, $2)", f"{NAMESPACE}_applied", str(partition))
        if to_cache and self.redis is not None:
            await self.write_documents(batch)
        return batch

    async def write_documents(self, batch: "Batch") -> None:
        """Write a batch through to the cache."""
        assert self.redis is not None
        await DocumentWriter(self.redis, NAMESPACE).write(
            PROJECTION,
            batch.generation,
            batch.partition,
            before=batch.before,
            after=batch.after,
            rows=[Written(tenant, (key,), doc) for (tenant, key), doc in batch.rows.items()],
            tenants=batch.tenants,
            era=await self.pool.fetchval(f"SELECT {NAMESPACE}.era_v1()"),
        )

    async def _fold(self, connection: Any, schema: str, batch: "Batch", event: Any) -> None:
        registry = self.api.parts.registry if hasattr(self, "api") else None
        account_id = event.stream_ids[0]
        old = await connection.fetchval(
            f"SELECT doc FROM {schema}.rows WHERE tenant = $1 AND account_id = $2", event.tenant, account_id
        )
        place = ("rows", (account_id,))
        rows: dict[Any, Any] = {place: AccountBalances.row.decode(old)} if old else {}
        stream = Stream(
            event.tenant,
            event.stream,
            event.version,
            event.position,
            event.id,
            event.recorded_at,
            event.recorded_at,
        )
        assert registry is not None
        for decoded in registry.decode(event.type, event.schema_version, event.data):
            AccountBalances().fold(rows, decoded, stream)
        row = rows.get(place)
        await connection.execute(
            f"DELETE FROM {schema}.rows WHERE tenant = $1 AND account_id = $2", event.tenant, account_id
        )
        if row is not None:
            await connection.execute(
                f"INSERT INTO {schema}.rows VALUES ($1, $2, $3, $4, $5, $6)",
                event.tenant,
                account_id,
                row.encode(),
                event.position,
                batch.after.hash,
                row.balance_cents,
            )
        batch.rows[event.tenant, account_id] = row.encode() if row else None
        batch.tenants[event.tenant] = event.position

    async def _checkpoint(self, connection: Any, batch: "Batch") -> None:
        await connection.execute(
            f"INSERT INTO {NAMESPACE}.checkpoints (kind, consumer, generation, partition, position, commit_hash) "
            "VALUES ('projection', $1, $2, $3, $4, $5) ON CONFLICT ON CONSTRAINT checkpoints_key "
            "DO UPDATE SET position = excluded.position, commit_hash = excluded.commit_hash",
            PROJECTION,
            batch.generation,
            batch.partition,
            *batch.after,
        )
        for tenant, position in batch.tenants.items():
            await connection.execute(
                f"INSERT INTO {NAMESPACE}.applied_by_tenant VALUES ($1, $2, $3, $4) "
                "ON CONFLICT ON CONSTRAINT applied_by_tenant_key DO UPDATE SET position = excluded.position",
                tenant,
                PROJECTION,
                batch.generation,
                position,
            )

    async def park(self, account_id: str, position: int) -> None:
        """Note that an event of an account could not be folded."""
        await self.pool.execute(
            f"INSERT INTO {NAMESPACE}.parked_events (kind, consumer, generation, partition, tenant, table_name, key, "
            "position, stream, event_id, event_type, schema_version) "
            "VALUES ('projection', $1, 1, $2, $3, 'rows', $4, $5, $6, 'e', 'Deposited', 2)",
            PROJECTION,
            await self.log.partition_of(TENANT),
            TENANT,
            orjson.dumps([account_id]).decode(),
            position,
            f"accounts/{account_id}",
        )


class Batch:
    """What one application changed."""

    def __init__(self, generation: int, partition: int, before: CommitMark, after: CommitMark) -> None:
        self.generation, self.partition, self.before, self.after = generation, partition, before, after
        self.rows: dict[tuple[str, str], bytes | None] = {}
        self.tenants: dict[str, int] = {}
