"""Whatever the broker loses, repeats or makes up, a consumer is given the log: each position once, in order."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest
from aio_pika.abc import AbstractQueue

from event_store import topology
from event_store.broker import DEAD, BrokerFeeds
from event_store.feed_messages import decode_message, encode_message, messages_of
from event_store.integrity import commit_hash, leaf_hash, micros
from event_store.log import Commit, Page
from event_store.topology import dead_name
from infra.failpoints import arm
from schemas.envelope import BEGINNING, RecordedEvent
from tests.integration.command_api.proxy import proxy_to
from tests.integration.feed.feeding import GROUP, NOWHERE, Feeding, feeding
from tests.integration.projectors.accounts import NOW


@pytest.fixture
async def system(database: str, broker_url: str) -> AsyncIterator[Feeding]:
    async with feeding(database, broker_url) as one:
        yield one
    arm("")


async def test_what_is_appended_arrives_once_and_in_order(system: Feeding) -> None:
    async with system.relaying(), system.consuming():
        for _ in range(30):
            position = await system.append(7)
        await system.reached(position)
        system.exact(position)


async def test_a_purged_tail_is_read_from_the_log_though_nothing_follows(system: Feeding) -> None:  # F29
    await system.append(5)
    async with system.relaying() as relay:
        await system.relayed(relay, 5)
        async with system.channel() as channel:
            queue = await channel.get_queue(system.queue)
            await queue.purge()
    async with system.consuming():
        await system.reached(5, seconds=4.0)
        system.exact(5)


async def test_a_deleted_queue_is_made_again_and_nothing_is_missed(system: Feeding) -> None:  # F30
    async with system.relaying() as relay, system.consuming():
        await system.reached(position := await system.append(3))
        await system.relayed(relay, position)
        async with system.channel() as channel:
            # RabbitMQ 3.10 may never again make a queue of a name that was deleted while one was being made.
            await consumed(await channel.get_queue(system.queue, ensure=True))
            await channel.queue_delete(system.queue)
        position = await system.append(4)
        await system.reached(position, seconds=15.0)
        system.exact(position)
        await system.relayed(relay, position)
        async with system.channel() as channel:
            await channel.get_queue(system.queue, ensure=True)


async def test_a_deleted_queue_is_read_again_though_nothing_is_appended(system: Feeding) -> None:  # F30
    async with system.relaying() as relay, system.consuming():
        await system.reached(position := await system.append(3))
        await system.relayed(relay, position)
        page = await system.log.read_page(system.partition, BEGINNING, events_max=100)
        async with system.channel() as channel:
            await channel.queue_delete(system.queue)
        connection = await topology.connect(system.broker_url, "test")
        await topology.declare_queue(connection, system.namespace, GROUP, system.partition)
        await connection.close()
        await system.put([encode_message(page)] * 3)
        async with system.channel() as channel, asyncio.timeout(20):
            queue = await channel.get_queue(system.queue, ensure=True)
            while (await queue.declare()).message_count:
                await asyncio.sleep(0.05)


async def test_a_feed_that_is_closed_while_it_subscribes_leaves_no_consumer(  # F37
    system: Feeding, monkeypatch: pytest.MonkeyPatch
) -> None:
    declares, goes_on, declare = asyncio.Event(), asyncio.Event(), topology.declare_queue

    async def lose_a_cancellation(*given: Any) -> None:
        """Declare as the client does when it is cancelled at the wrong moment: as if nothing had been."""
        declares.set()
        with suppress(asyncio.CancelledError):
            await goes_on.wait()
        await declare(*given)

    async with BrokerFeeds(system.broker_url, system.namespace, GROUP, system.log, system.watch) as feeds:
        async with asyncio.timeout(20):
            while feeds.connection is None:
                await asyncio.sleep(0.01)
        monkeypatch.setattr(topology, "declare_queue", lose_a_cancellation)
        left = await feeds.feed_of(system.partition)
        await left.next(BEGINNING, wait_seconds=0)
        await declares.wait()
        closing = asyncio.create_task(left.close())
        await asyncio.sleep(0)
        goes_on.set()
        await closing
        async with system.channel() as channel:
            await unconsumed(await channel.get_queue(system.queue, ensure=True))


async def test_a_feed_can_be_closed_at_any_moment(system: Feeding) -> None:  # F37
    async with (
        BrokerFeeds(system.broker_url, system.namespace, GROUP, system.log, system.watch) as feeds,
        system.channel() as channel,
    ):
        first = None
        for turn in range(60):
            async with asyncio.timeout(20):
                while feeds.connection is None:
                    await asyncio.sleep(0.01)
            first = first or feeds.connection
            feed = await feeds.feed_of(system.partition)
            await feed.next(BEGINNING, wait_seconds=0)
            await asyncio.sleep(0.0005 * turn)
            await feed.close()
        await unconsumed(await channel.get_queue(system.queue, ensure=True))
        assert feeds.connection is first, "what one partition does has not ended the connection of all"


async def test_a_queue_is_declared_or_the_caller_is_cancelled(system: Feeding) -> None:
    connection = await topology.connect(system.broker_url, "test")
    try:
        for turn in range(60):
            declaring = asyncio.create_task(
                topology.declare_queue(connection, system.namespace, GROUP, system.partition)
            )
            await asyncio.sleep(0.0005 * turn)
            was_done = not declaring.cancel()
            await asyncio.wait([declaring])
            assert declaring.cancelled() or was_done, f"the cancellation of turn {turn} was lost"
        assert not connection.is_closed
    finally:
        await connection.close()


async def test_a_relay_whose_connection_ends_goes_on_over_another(system: Feeding) -> None:  # F35
    async with proxy_to(system.broker_url) as (proxy, url), system.relaying(broker_url=url) as relay:
        await system.relayed(relay, await system.append(3))
        for _ in range(3):
            proxy.cut_all()
            await system.relayed(relay, await system.append(2))
    async with system.consuming():
        await system.reached(9)
        system.exact(9)


async def test_a_consumer_whose_connection_ends_reads_the_queue_again(system: Feeding) -> None:  # F35
    async with (
        proxy_to(system.broker_url) as (proxy, url),
        system.relaying() as relay,
        system.consuming(url),
    ):
        await system.reached(await system.append(3))
        for _ in range(3):
            proxy.cut_all()
            position = await system.append(2)
            await system.reached(position)
        system.exact(position)
        await system.relayed(relay, position)
        async with system.channel() as channel, asyncio.timeout(60):
            queue = await channel.get_queue(system.queue, ensure=True)
            while (await queue.declare()).consumer_count == 0:
                await asyncio.sleep(0.1)


async def test_lost_doubled_and_shuffled_messages_change_nothing(system: Feeding) -> None:  # F31
    chance = random.Random(31)
    for _ in range(40):
        last = await system.append(5)
    page = await system.log.read_page(system.partition, BEGINNING, events_max=10_000)
    bodies = [encode_message(part) for part in _one_message_a_commit(page)]
    assert len(bodies) == 40
    mischief = [body for body in bodies for _ in range(chance.choice([0, 1, 1, 2]))]
    for index in range(0, len(mischief) - 3, 2):
        if chance.random() < 0.3:
            mischief[index], mischief[index + 3] = mischief[index + 3], mischief[index]
    async with system.consuming():
        await system.put(mischief)
        await system.reached(last)
        system.exact(last)


async def test_forged_messages_are_refused_and_the_truth_is_read_from_the_log(system: Feeding) -> None:  # F33
    async with system.relaying(), system.consuming():
        await system.reached(await system.append(3))
    position = await system.append(3)
    mark = system.taken.pages[-1].end
    page = await system.log.read_page(system.partition, mark, events_max=100)
    forged_data = page.events[0]._replace(data=b'{"cents":1000000,"source":"cash"}')
    changed = Page(page.partition, page.after, [forged_data, *page.events[1:]], page.end, page.commits)
    honest = encode_message(page)
    bodies = [
        b"not a message",
        b"EF1\x00\x00\x00\x05{...}",
        encode_message(changed),
        _consistent_forgery(changed),
        honest.replace(b'"partition":%d' % system.partition, b'"partition":%d' % (1 - system.partition), 1),
        encode_message(_from_the_future(page)),
    ]
    async with system.consuming():
        await system.put(bodies)
        await system.reached(position)
        system.exact(position)
        assert all(b"1000000" not in event.data for page in system.taken.pages for event in page.events)
        async with system.channel() as channel:
            dead = await channel.get_queue(dead_name(system.namespace), ensure=True)
            found = 0
            async with asyncio.timeout(60):
                while found < 3:
                    if await dead.get(fail=False, no_ack=True) is not None:
                        found += 1
                    await asyncio.sleep(0.05)


async def test_messages_of_old_are_dropped_and_taken_for_no_forgeries(system: Feeding) -> None:  # F31
    async with system.relaying() as relay, system.consuming():
        for _ in range(20):
            position = await system.append(2)
        await system.relayed(relay, position)
        await system.reached(position)
        page = await system.log.read_page(system.partition, BEGINNING, events_max=10_000)
        bodies = [encode_message(part) for part in _one_message_a_commit(page)]
        before = DEAD.labels(GROUP)._value.get()
        for _ in range(5):  # with nothing to read: they must not be taken for messages from the future
            await system.put(bodies)
            await system.reached(position)
        async with system.channel() as channel, asyncio.timeout(60):
            while (await channel.declare_queue(system.queue, passive=True)).declaration_result.message_count:
                await asyncio.sleep(0.05)
        position = await system.append(1)
        await system.reached(position)
        system.exact(position)
        assert DEAD.labels(GROUP)._value.get() == before


async def test_events_with_tags_come_by_the_broker_like_others(system: Feeding) -> None:
    async with system.relaying(), system.consuming():
        await system.reached(await system.append(2))
        before = DEAD.labels(GROUP)._value.get()
        for number in range(5):
            position = await system.append(2, tags=(f"aliases/{number}", "aliases/b"))
            await system.reached(position)
        system.exact(position)
        assert DEAD.labels(GROUP)._value.get() == before, "no message was taken for a forgery"


async def test_without_a_relay_the_log_is_followed(system: Feeding) -> None:
    async with system.consuming():
        for _ in range(10):
            position = await system.append(2)
            await asyncio.sleep(0.05)
        await system.reached(position, seconds=4.0)
        system.exact(position)


async def test_with_the_broker_away_from_the_start_the_log_is_followed(database: str) -> None:
    async with feeding(database, NOWHERE) as system, system.consuming():
        position = await system.append(20)
        await system.reached(position, seconds=4.0)
        system.exact(position)


@pytest.mark.parametrize("failpoint", ["relay.before_publish", "relay.after_publish", "relay.after_confirm"])
async def test_a_relay_that_fails_at_any_step_skips_nothing(system: Feeding, failpoint: str) -> None:  # F25
    arm(f"{failpoint}=raise@2")
    async with system.consuming(), system.relaying() as relay:
        for _ in range(10):
            position = await system.append(3)
            await asyncio.sleep(0.02)
        await system.reached(position)
        system.exact(position)
        await system.relayed(relay, position)


def test_a_message_carries_whole_commits_and_every_byte(  # I08
) -> None:
    event = RecordedEvent(1, 1, "t", "accounts/é", 1, "0191", "Opened", 1, b'{"a":"\xc3\xa9"}', b"{}", NOW)
    hash_ = commit_hash(bytes(32), 1, 1, 1, micros(NOW), [leaf_hash(event, micros(NOW))])
    commit = Commit(1, 1, 1, NOW, hash_, bytes(32))
    page = Page(1, BEGINNING, [event], commit.mark, [commit])
    assert [decode_message(encode_message(part)).page for part in messages_of(page)] == [page]


async def consumed(queue: AbstractQueue) -> None:
    """Wait until somebody consumes a queue."""
    async with asyncio.timeout(20):
        while not (await queue.declare()).consumer_count:
            await asyncio.sleep(0.05)


async def unconsumed(queue: AbstractQueue) -> None:
    """Wait until nobody consumes a queue: the broker counts one that has left for a moment more."""
    async with asyncio.timeout(10):
        while (await queue.declare()).consumer_count:
            await asyncio.sleep(0.05)


def _one_message_a_commit(page: Page) -> Iterator[Page]:
    after, start = page.after, 0
    for commit in page.commits:
        count = commit.last_position - commit.first_position + 1
        yield Page(page.partition, after, page.events[start : start + count], commit.mark, [commit])
        after, start = commit.mark, start + count


def _consistent_forgery(page: Page) -> bytes:
    """A forgery whose hashes hold, made by one who knows the algorithm."""
    commits, previous, start = [], page.after.hash, 0
    for commit in page.commits:
        count = commit.last_position - commit.first_position + 1
        at = micros(commit.recorded_at)
        leaves = [leaf_hash(event, at) for event in page.events[start : start + count]]
        made = commit_hash(previous, page.partition, commit.first_position, commit.last_position, at, leaves)
        commits.append(commit._replace(hash=made, previous_hash=previous))
        previous, start = made, start + count
    return encode_message(Page(page.partition, page.after, page.events, commits[-1].mark, commits))


def _from_the_future(page: Page) -> Page:
    commits = [
        commit._replace(
            first_position=commit.first_position + 1000, last_position=commit.last_position + 1000
        )
        for commit in page.commits
    ]
    after = page.after._replace(position=page.after.position + 1000)
    return Page(page.partition, after, page.events, commits[-1].mark, commits)
