"""What the tests of projectors share: the toy domain's log, its read side, and waiting for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import uuid_utils

from event_store.log import Append, Check, Expect, NewEvent
from event_store.object_store import object_store_of
from event_store.postgres import PostgresLog
from event_store.role import ConsumerRole
from event_store.servers import LogRoles
from event_store.wake import HeadWatch
from infra.settings import load_settings
from projectors.binaries import group_of
from projectors.fold_workers import FoldWorkers
from projectors.live import Applied
from projectors.read_side import ReadSide, open_read_side
from projectors.runner import LiveProjections
from schemas import Event
from schemas.envelope import Metadata

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TENANT = "demo"
WAIT_SECONDS_MAX = 20.0
APPENDS_MAX = 1_000
METADATA = Metadata(
    actor="ada", roles=("clerk",), command="accounts.deposit", occurred_at=NOW, correlation_id="c"
).encode()


def event_id() -> str:
    """Return an id for an event."""
    return str(uuid_utils.uuid7())


async def append(log: PostgresLog, account: str, *events: Event, tenant: str = TENANT) -> int:
    """Append events to an account, and return the position of the last."""
    return await append_all(log, [(account, event) for event in events], tenant=tenant)


async def append_all(log: PostgresLog, events: Sequence[tuple[str, Event]], *, tenant: str = TENANT) -> int:
    """Append events of many accounts, each by itself, a thousand a commit; return the position of the last."""
    for start in range(0, len(events) - APPENDS_MAX, APPENDS_MAX):
        await append_all(log, events[start : start + APPENDS_MAX], tenant=tenant)
    events = events[(len(events) - 1) // APPENDS_MAX * APPENDS_MAX :]
    appends = [
        Append(
            tenant,
            f"accounts/{account}",
            [Check(f"accounts/{account}", Expect.ANY)],
            [NewEvent(f"accounts/{account}", event_id(), event.type, event.schema_version, event.encode())],
            METADATA,
        )
        for account, event in events
    ]
    outcomes = await log.append_batch(await log.partition_of(tenant), appends)
    return outcomes[-1].position


@asynccontextmanager
async def read_side(store_url: str, **settings: Any) -> AsyncIterator[ReadSide]:
    """The toy domain's read side on a migrated database, in the roles of those who append and who follow."""
    given = load_settings(store_url=store_url, read_url=store_url, domains="toy", **settings)
    feed = given.role_of("feed")
    roles = LogRoles(writing=given.role_of("appender"), reading=feed)
    async with (
        open_read_side(given, name="test", role=feed) as side,
        PostgresLog(given.store_urls, given.namespace, archive=object_store_of(given), roles=roles) as log,
    ):
        yield replace(side, log=log)


@asynccontextmanager
async def running_projector(
    side: ReadSide,
    *,
    applied: Callable[[Applied], None] = lambda _applied: None,
    epoch_changed: Callable[[str, int], None] = lambda _projection, _generation: None,
    workers: FoldWorkers | None = None,
) -> AsyncIterator[LiveProjections]:
    """A projector in this process that tails the log."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        urls = list(side.settings.store_urls.values())
        watch = await stack.enter_async_context(HeadWatch(urls, side.settings.namespace))
        members = LiveProjections(
            side.kinds,
            side.registry,
            side.generations,
            side.checkpoints,
            applied=applied,
            epoch_changed=epoch_changed,
            workers=workers,
        )
        await members.open()
        role = ConsumerRole(
            log=side.log,
            pool=side.pool,
            namespace=side.settings.namespace,
            group=group_of(side.kinds),
            members=members,
            watch=watch,
        )
        tasks = [asyncio.create_task(role.run(stop)), asyncio.create_task(members.follow(urls[0], stop))]
        try:
            yield members
        finally:
            stop.set()
            await asyncio.wait_for(asyncio.gather(*tasks), WAIT_SECONDS_MAX)


async def balances(side: ReadSide, generation: int = 1, tenant: str = TENANT) -> dict[str, int]:
    """Return what every account holds, by the read table."""
    schema = side.generations.schema_of("account-balances", generation)
    rows = await side.pool.fetch(
        f'SELECT account_id, balance_cents FROM "{schema}".rows WHERE tenant = $1', tenant
    )
    return {row["account_id"]: row["balance_cents"] for row in rows}


async def caught_up(
    side: ReadSide,
    position: int,
    *,
    generation: int = 1,
    tenant: str = TENANT,
    seconds: float = WAIT_SECONDS_MAX,
) -> None:
    """Wait until the read table reflects a position."""
    partition = await side.log.partition_of(tenant)

    async def reached() -> bool:
        found = await side.pool.fetchval(
            f"SELECT position FROM {side.settings.namespace}.checkpoints WHERE kind = 'projection' "
            "AND consumer = 'account-balances' AND generation = $1 AND partition = $2",
            generation,
            partition,
        )
        return found is not None and found >= position

    await eventually(reached, seconds)


async def eventually(holds: Callable[[], Awaitable[bool]], seconds: float = WAIT_SECONDS_MAX) -> None:
    """Wait until something holds; fails when it does not in time."""
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.01)
