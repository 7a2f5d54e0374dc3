"""Whatever befalls messages and those who take them, the read tables are those that the log alone would have made."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from event_store.broker import BrokerFeeds
from event_store.postgres import PostgresLog
from event_store.relay import GroupRelay, Publisher
from event_store.role import ConsumerRole
from infra.settings import load_settings
from projectors.binaries import group_of
from projectors.build import Build, Workshop
from projectors.read_side import GROUP, ReadSide, open_read_side
from projectors.runner import LiveProjections
from projectors.verify import verify_projections
from tests.integration.feed.feeding import PARTITIONS, Feeding, feeding, role_process
from tests.integration.projectors.accounts import append, append_all, balances, caught_up
from tests.toy import AccountClosed, AccountOpened, Deposited

TOUCHED_SHARE = 0.3
MISCHIEF = ["lose", "double", "hold back", "repeat an old one"]
ACCOUNTS = 12
LEASE_SECONDS_MAX = 40.0
ENDS_OF_A_ZOMBIE = (b"is on its own", b"partitions given up")


class MischievousRelay(GroupRelay):
    """Loses, doubles, holds back and repeats messages, and takes all of them for delivered."""

    chance = random.Random(31)
    done: ClassVar[Counter[str]] = Counter()

    async def _publish(self, body: bytes) -> None:
        old, held = self.__dict__.setdefault("_old", []), self.__dict__.setdefault("_held", [])
        old.append(body)
        if self.chance.random() >= TOUCHED_SHARE:
            await super()._publish(body)
        else:
            mischief = self.chance.choice(MISCHIEF)
            self.done[mischief] += 1
            match mischief:
                case "double":
                    await super()._publish(body)
                    await super()._publish(body)
                case "hold back":
                    held.append(body)
                case "repeat an old one":
                    await super()._publish(body)
                    await super()._publish(self.chance.choice(old))
        if len(held) > 3:
            self.chance.shuffle(held)
            while held:
                await super()._publish(held.pop())


async def relayed_all(system: Feeding, relays: Sequence[GroupRelay]) -> None:
    """Wait until each relay has come to the log's present end, by what it says."""
    for relay in relays:
        head = await system.log.head(relay.partition)
        if head is not None:
            await system.relayed(relay, head.mark.position)


@pytest.fixture
async def system(database: str, broker_url: str) -> AsyncIterator[Feeding]:
    async with feeding(database, broker_url) as one:
        yield one


@asynccontextmanager
async def read_side(system: Feeding) -> AsyncIterator[ReadSide]:
    """The read side of the system's log."""
    given = load_settings(
        store_url=system.store_url, read_url=system.store_url, domains="toy", namespace=system.namespace,
        partitions=PARTITIONS, broker_url=system.broker_url,
    )  # fmt: skip
    async with (
        open_read_side(given, name="test", role=given.role_of("feed")) as side,
        PostgresLog(given.store_urls, given.namespace) as log,
    ):
        yield replace(side, log=log)


@asynccontextmanager
async def projecting(system: Feeding, side: ReadSide) -> AsyncIterator[None]:
    """A projector in this process that takes what the broker delivers."""
    stop = asyncio.Event()
    members = LiveProjections(side.kinds, side.registry, side.generations, side.checkpoints)
    await members.open()
    async with AsyncExitStack() as stack:
        feeds = await stack.enter_async_context(
            BrokerFeeds(system.broker_url, system.namespace, GROUP, side.log, system.watch)
        )
        role = ConsumerRole(
            log=side.log, pool=side.pool, namespace=system.namespace, group=group_of(side.kinds), members=members,
            watch=system.watch, feed_of=feeds.feed_of,
        )  # fmt: skip
        task = asyncio.create_task(role.run(stop))
        try:
            yield
        finally:
            stop.set()
            await task


async def dump(side: ReadSide, generation: int) -> list[tuple[Any, ...]]:
    """Return every row of a generation as it is stored."""
    schema = side.generations.schema_of("account-balances", generation)
    return [tuple(row) for row in await side.pool.fetch(f'SELECT * FROM "{schema}".rows ORDER BY 1, 2')]


@pytest.mark.timeout(180)
async def test_mischief_with_every_third_message_leaves_the_same_rows_byte_for_byte(  # F31
    system: Feeding,
) -> None:
    publisher = Publisher(system.broker_url, system.namespace)
    relays = [
        MischievousRelay(publisher, system.log, system.checkpoints, system.watch, GROUP, partition)
        for partition in range(PARTITIONS)
    ]
    running = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        async with read_side(system) as side, projecting(system, side):
            for number in range(240):
                account = f"a{number % ACCOUNTS}"
                facts = [(account, AccountOpened(owner="Ada")), (account, Deposited(cents=number))]
                if number % 40 == 39:
                    facts.append((account, AccountClosed()))
                for tenant in ("demo", "globex", "t1"):
                    await append_all(side.log, facts, tenant=tenant)
                if number % 5 == 4:  # one message may hold many pages, and there must be many messages
                    await relayed_all(system, relays)
            for tenant in ("demo", "globex", "t1"):
                await caught_up(
                    side, await append(side.log, "z", Deposited(cents=1), tenant=tenant), tenant=tenant
                )
            assert set(MischievousRelay.done) == set(MISCHIEF)
            shop = Workshop(side.log, side.registry, side.generations, side.checkpoints)
            assert (await Build(shop, side.kinds["account-balances"]).run(verify=True)).swapped
            assert await dump(side, 1) == await dump(side, 2)
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        await publisher.close()


@pytest.mark.timeout(180)
async def test_a_consumer_frozen_with_messages_in_its_hands_is_succeeded_and_harms_nothing_when_it_thaws(  # F37
    system: Feeding, tmp_path: Path, redis_url: str
) -> None:
    more = {"EVERFOLD_REDIS_URL": redis_url}
    async with (
        system.relaying(GROUP),
        read_side(system) as side,
        role_process(system, "projector", tmp_path / "frozen", more) as frozen,
    ):
        cents = 0
        for _ in range(5):
            position = await append(side.log, "a", Deposited(cents=1))
            cents += 1
        await opened(side)
        await caught_up(side, position)
        frozen.send_signal(signal.SIGSTOP)
        try:
            for _ in range(20):  # they lie in the broker's and the process's buffers
                await append(side.log, "a", Deposited(cents=1))
                cents += 1
            async with role_process(system, "projector", tmp_path / "successor", more):
                position = await append(side.log, "a", Deposited(cents=1))
                await caught_up(side, position, seconds=LEASE_SECONDS_MAX)
                frozen.send_signal(signal.SIGCONT)
                for _ in range(20):
                    position = await append(side.log, "a", Deposited(cents=1))
                    cents += 1
                    await asyncio.sleep(0.05)
                await caught_up(side, position)
                assert await balances(side) == {"a": cents + 1}
                assert [report.equal for report in await verify_projections(side)] == [True]
        finally:
            frozen.send_signal(signal.SIGCONT)


@pytest.mark.timeout(180)
async def test_one_that_stood_still_between_fold_and_commit_writes_nothing_of_it(  # F37
    system: Feeding, tmp_path: Path, redis_url: str
) -> None:
    barrier = tmp_path / "thaw"
    more = {"EVERFOLD_REDIS_URL": redis_url}
    stuck = {**more, "EVERFOLD_FAILPOINTS": f"projector.before_commit=barrier:{barrier}@2"}
    async with (
        system.relaying(GROUP),
        read_side(system) as side,
        role_process(system, "projector", tmp_path / "frozen", stuck),
    ):
        position = await append(side.log, "a", Deposited(cents=1))
        await opened(side)
        await caught_up(side, position)
        position = await append(side.log, "a", Deposited(cents=10))
        async with role_process(system, "projector", tmp_path / "successor", more):
            await caught_up(side, position, seconds=LEASE_SECONDS_MAX)
            position = await append(side.log, "a", Deposited(cents=100))
            await caught_up(side, position)
            barrier.touch()
            # It writes, and is told that the checkpoint has moved, or finds first that its lease is over.
            async with asyncio.timeout(30):
                while not any(word in (tmp_path / "frozen").read_bytes() for word in ENDS_OF_A_ZOMBIE):
                    await asyncio.sleep(0.1)
            position = await append(side.log, "a", Deposited(cents=1000))
            await caught_up(side, position)
            assert await balances(side) == {"a": 1111}
            assert [report.equal for report in await verify_projections(side)] == [True]


async def opened(side: ReadSide) -> None:
    """Wait until the projection has its first generation."""
    async with asyncio.timeout(LEASE_SECONDS_MAX):
        while "account-balances" not in await side.generations.live():
            await asyncio.sleep(0.05)
