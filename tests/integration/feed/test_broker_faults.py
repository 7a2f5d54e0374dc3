"""A broker that is restarted, killed, full, or reached over a dead link: appends go on, and no event is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from event_store import broker, relay, topology
from event_store.broker import PAGES
from infra.embedded.process import run_tool
from infra.embedded.rabbitmq import RabbitServer
from infra.embedded.server import RunningServer
from tests.broker import own_broker
from tests.integration.command_api.proxy import proxy_to
from tests.integration.feed.feeding import GROUP, Feeding, feeding

FRESH_SECONDS_MAX = 8.0
"""How long an event may take to a consumer whose broker is of no help: the poll of the head, and a loaded machine."""
BACK_SECONDS_MAX = 60.0


@pytest.fixture
async def system(database: str, rabbitmq: RunningServer) -> AsyncIterator[Feeding]:
    # Nothing is deleted: RabbitMQ 3.10 loses all its quorum queues when one is deleted just after a restart.
    async with feeding(database, rabbitmq.url, tidies=False) as one:
        yield one


async def control(server: RunningServer, *arguments: str) -> None:
    """Have an administrator's command carried out."""
    assert isinstance(server.server, RabbitServer)
    done = await asyncio.to_thread(run_tool, server.server.control(*arguments))
    assert done.returncode == 0, done.stdout


def from_broker() -> float:
    """Return how many pages consumers of this process have had from the broker."""
    return float(PAGES.labels(GROUP, "broker")._value.get())


async def delivered_again(system: Feeding, seconds: float = BACK_SECONDS_MAX) -> None:
    """Append until an event comes by the broker again."""
    before = from_broker()
    async with asyncio.timeout(seconds):
        while from_broker() == before:
            await system.reached(await system.append(1), seconds)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_broker_that_is_restarted_costs_no_event_and_delivers_again(  # F27
    database: str, tmp_path: Path, end: str
) -> None:
    async with AsyncExitStack() as stack:
        rabbitmq = stack.enter_context(
            own_broker(tmp_path / "rabbitmq")
        )  # what a kill breaks is nobody else's
        system = await stack.enter_async_context(feeding(database, rabbitmq.url, tidies=False))
        running = await stack.enter_async_context(system.relaying())
        await stack.enter_async_context(system.consuming())
        await delivered_again(system)
        for _ in range(2):
            await asyncio.to_thread(rabbitmq.stop if end == "stop" else rabbitmq.kill)
            for _ in range(5):
                position = await system.append(3)
                await system.reached(position, FRESH_SECONDS_MAX)
            rabbitmq.start()  # in this thread, whose end would end it
            if end == "stop":  # a quorum queue of RabbitMQ 3.10 does not always answer again after a kill
                await system.relayed(running, position, BACK_SECONDS_MAX)
                await delivered_again(system)
            for _ in range(3):
                await system.reached(await system.append(2), FRESH_SECONDS_MAX)
        position = await system.append(1)
        await system.reached(position)
        system.exact(position)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("alarm", "all_clear"),
    [
        (("set_vm_memory_high_watermark", "0.0000001"), ("set_vm_memory_high_watermark", "0.4")),
        (("set_disk_free_limit", "900000GB"), ("set_disk_free_limit", "1MB")),
    ],
    ids=["memory", "disk"],
)
async def test_while_an_alarm_blocks_publishers_appends_and_consumers_go_on(  # F32
    system: Feeding,
    rabbitmq: RunningServer,
    monkeypatch: pytest.MonkeyPatch,
    alarm: tuple[str, ...],
    all_clear: tuple[str, ...],
) -> None:
    monkeypatch.setattr(relay, "PUBLISH_SECONDS_MAX", 1.0)
    async with system.relaying() as running, system.consuming():
        await system.relayed(running, await system.append(3))
        await control(rabbitmq, *alarm)
        try:
            async with asyncio.timeout(BACK_SECONDS_MAX):  # what was under way when it struck may pass
                while "3 times in a row" not in await waiting_for(system):
                    position = await system.append(2)
                    await system.reached(position, FRESH_SECONDS_MAX)
            stands_at = running.checkpoint.mark.position
            assert stands_at < position
            for _ in range(5):
                position = await system.append(4)
                await system.reached(position, FRESH_SECONDS_MAX)
            await asyncio.sleep(2)  # it tries again meanwhile
            assert running.checkpoint.mark.position == stands_at
        finally:
            await control(rabbitmq, *all_clear)
        await system.relayed(running, position, BACK_SECONDS_MAX)
        await delivered_again(system)
        system.exact(system.taken.positions(system.partition)[-1])


async def test_what_hands_on_dead_letters_at_least_once_may_have_ended(  # F33, decision 0031
    database: str, tmp_path: Path
) -> None:
    with own_broker(tmp_path / "rabbitmq") as rabbitmq:
        await control(rabbitmq, "eval", "ok = supervisor:terminate_child(rabbit_sup, rabbit_fifo_dlx_sup).")
        async with (
            feeding(database, rabbitmq.url, tidies=False) as system,
            system.relaying(),
            system.consuming(),
        ):
            await delivered_again(system)
            await system.put([b"a forgery"])
            async with system.channel() as channel, asyncio.timeout(BACK_SECONDS_MAX):
                dead = await channel.get_queue(topology.dead_name(system.namespace), ensure=True)
                while await dead.get(fail=False, no_ack=True) is None:
                    await asyncio.sleep(0.05)


async def waiting_for(system: Feeding) -> str:
    """Return what the relay says that it waits for."""
    found = await system.pool.fetchval(
        f"SELECT waiting_for FROM {system.namespace}.checkpoints WHERE kind = 'relay' AND consumer = $1 "
        "AND partition = $2",
        GROUP, system.partition,
    )  # fmt: skip
    return str(found or "")


@pytest.mark.parametrize("direction", ["both", "requests", "answers"])
async def test_a_link_that_has_died_unnoticed_is_given_up_and_nothing_comes_twice(  # F35
    system: Feeding, monkeypatch: pytest.MonkeyPatch, direction: str
) -> None:
    monkeypatch.setattr(topology, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(relay, "PUBLISH_SECONDS_MAX", 2.0)
    lost = {"requests": direction != "answers", "answers": direction != "requests"}
    async with (
        proxy_to(system.broker_url) as (proxy, url),
        system.relaying(broker_url=url) as running,
        system.consuming(url),
    ):
        await delivered_again(system)
        proxy.swallow(**lost)
        for _ in range(10):
            position = await system.append(3)
            await system.reached(position, FRESH_SECONDS_MAX)
        await system.relayed(running, position, BACK_SECONDS_MAX)
        await delivered_again(system)
        position = await system.append(1)
        await system.reached(position)
        system.exact(position)


async def test_messages_that_kill_their_consumer_become_dead_letters_and_are_read_from_the_log(  # F34
    system: Feeding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "SUBSCRIBE_SECONDS_MIN", 0.1)
    async with system.relaying() as running:
        await system.relayed(running, await system.append(3))
        bodies: set[bytes] = set()
        dead: list[bytes] = []
        async with asyncio.timeout(BACK_SECONDS_MAX):
            while not dead:  # the queue seems empty whenever its message is in somebody's hands
                bodies |= await died_with(system)
                dead = await dead_letters(system)
        assert len(bodies) == 1
        assert set(dead) == bodies
        position = await system.append(2)
        async with system.consuming():
            await system.reached(position)
            system.exact(position)


async def died_with(system: Feeding) -> set[bytes]:
    """Consume as a process does that dies with what it was given in its hands, and return that."""
    given: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(message: AbstractIncomingMessage) -> None:
        given.put_nowait(message.body)

    connection = await aio_pika.connect(system.broker_url)
    channel = await connection.channel()
    queue = await channel.get_queue(system.queue, ensure=True)
    await queue.consume(take)
    with suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            while given.empty():
                await asyncio.sleep(0.01)
    await connection.close()
    return {given.get_nowait() for _ in range(given.qsize())}


async def is_empty(system: Feeding) -> bool:
    """Say whether no message is left for consumers to come."""
    async with system.channel() as channel:
        declared = await channel.declare_queue(system.queue, passive=True)
        return not declared.declaration_result.message_count


async def dead_letters(system: Feeding) -> list[bytes]:
    """Take the dead letters that there are, and return what is in them."""
    found: list[bytes] = []
    async with system.channel() as channel:
        queue = await channel.get_queue(topology.dead_name(system.namespace), ensure=True)
        while (message := await queue.get(fail=False, no_ack=True)) is not None:
            found.append(message.body)
    return found


async def test_two_relays_of_one_partition_only_repeat(system: Feeding) -> None:  # F26
    went_back = []

    async def watch() -> None:
        seen = 0
        while True:
            found = await system.pool.fetchval(
                f"SELECT position FROM {system.namespace}.checkpoints WHERE kind = 'relay' AND consumer = $1 "
                "AND partition = $2",
                GROUP, system.partition,
            )  # fmt: skip
            if (found or 0) < seen:
                went_back.append((seen, found))
            seen = found or 0
            await asyncio.sleep(0.005)

    async with system.relaying() as first, system.relaying() as second, system.consuming():
        watching = asyncio.create_task(watch())
        try:
            for _ in range(60):
                position = await system.append(3)
                await asyncio.sleep(0.01)
            await system.reached(position)
            system.exact(position)
            await system.relayed(first, position)
            await system.relayed(second, position)
        finally:
            watching.cancel()
        assert went_back == []


async def test_a_broker_that_is_away_when_everything_starts_is_taken_up_when_it_comes(
    database: str, rabbitmq: RunningServer, tmp_path: Path
) -> None:
    await asyncio.to_thread(rabbitmq.stop)
    try:
        async with (
            feeding(database, rabbitmq.url, tidies=False) as system,
            system.relaying(),
            system.consuming(),
        ):
            position = await system.append(5)
            await system.reached(position, FRESH_SECONDS_MAX)
            rabbitmq.start()  # in this thread, whose end would end it
            await delivered_again(system)
            system.exact(system.taken.positions(system.partition)[-1])
    finally:
        if rabbitmq.process.poll() is not None:
            rabbitmq.start()  # in this thread, whose end would end it


async def test_a_channel_that_could_not_be_closed_keeps_the_queue_from_nobody(  # F35
    system: Feeding, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy_to(system.broker_url) as (proxy, url), system.relaying(), system.consuming(url):
        await delivered_again(system)
        monkeypatch.setattr(topology, "CALL_SECONDS_MAX", 1.0)
        proxy.swallow(
            requests=True, answers=False
        )  # the broker goes on delivering to who cannot say that he left
        await system.reached(await system.append(3), FRESH_SECONDS_MAX)
        await delivered_again(system)
        async with asyncio.timeout(BACK_SECONDS_MAX):
            while not await is_empty(system):
                await asyncio.sleep(0.1)
        position = await system.append(1)
        await system.reached(position)
        system.exact(position)
