"""The relay as a process: killed at any step it skips nothing; and what it tells other programs."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated

import orjson
import pytest

from event_store.cloud_events import CloudEvents, without_personal
from event_store.relay import CloudEventsRelay, Publisher
from event_store.topology import declare_events_exchange, events_exchange_name
from infra.domains import load_domains, load_registry
from schemas import Event, Personal
from schemas.messages import ERASED, Id, Message, Text
from tests.integration.feed.feeding import Feeding, feeding, role_process
from tests.toy import AccountPolished

STEPS = ("relay.before_publish", "relay.after_publish", "relay.after_confirm")


@pytest.fixture
async def system(database: str, broker_url: str) -> AsyncIterator[Feeding]:
    async with feeding(database, broker_url) as one:
        yield one


def relay(
    system: Feeding, log_file: Path, more: Mapping[str, str]
) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """Run the role as a process."""
    return role_process(system, "relay", log_file, more)


async def test_a_relay_killed_at_each_step_skips_nothing(system: Feeding, tmp_path: Path) -> None:  # F25
    total = 0
    async with system.consuming():
        for step in STEPS:
            more = {"EVERFOLD_FAILPOINTS": f"{step}=kill@2"}
            async with relay(system, tmp_path / "log", more) as process, asyncio.timeout(30):
                while process.returncode is None:
                    total = await system.append(3)
                    await asyncio.sleep(0.05)
                assert process.returncode == -signal.SIGKILL
        total = await system.append(3)
        async with relay(system, tmp_path / "log", {}):
            await system.reached(total)
            await _until_relayed(system, total)
        system.exact(total)


async def test_a_relay_that_was_frozen_past_its_lease_only_repeats(  # F26
    system: Feeding, tmp_path: Path
) -> None:
    async with system.consuming(), relay(system, tmp_path / "frozen", {}) as frozen:
        await _until_relayed(system, await system.append(3))
        frozen.send_signal(signal.SIGSTOP)
        try:
            async with relay(system, tmp_path / "successor", {}):
                total = await system.append(3)
                await _until_relayed(system, total)
                frozen.send_signal(signal.SIGCONT)
                for _ in range(20):
                    total = await system.append(2)
                    await asyncio.sleep(0.02)
                await _until_relayed(system, total)
                await system.reached(total)
                system.exact(total)
        finally:
            frozen.send_signal(signal.SIGCONT)


async def _until_relayed(system: Feeding, position: int) -> None:
    async with asyncio.timeout(60):
        while await _relayed(system) < position:
            await asyncio.sleep(0.05)


async def _relayed(system: Feeding) -> int:
    found = await system.pool.fetchval(
        f"SELECT min(position) FROM {system.namespace}.checkpoints WHERE kind = 'relay' AND partition = $1",
        system.partition,
    )
    return int(found or 0)


async def test_other_programs_get_each_event_as_a_cloud_event(system: Feeding) -> None:
    registry = load_registry(load_domains(("toy",)))
    publisher = Publisher(system.broker_url, system.namespace)
    messages = CloudEvents(registry, system.namespace)
    outside = CloudEventsRelay(
        publisher, system.log, system.checkpoints, system.watch, system.partition, messages
    )
    task = asyncio.create_task(outside.run())
    try:
        position = await system.append(1)
        async with asyncio.timeout(10):
            while outside.checkpoint.mark.position < position:
                await asyncio.sleep(0.05)
        async with system.channel() as channel:
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(events_exchange_name(system.namespace), routing_key="demo.accounts.*")
            position = await system.append(1)
            async with asyncio.timeout(10):
                while (message := await queue.get(fail=False, no_ack=True)) is None or (
                    orjson.loads(message.body)["sequence"] != str(position)
                ):
                    await asyncio.sleep(0.05)
        document = orjson.loads(message.body)
        assert message.routing_key == "demo.accounts.Deposited"
        assert message.content_type.startswith("application/cloudevents+json")
        assert document["type"] == "toy.Deposited.v2"
        assert document["source"] == f"/everfold/{system.namespace}/demo"
        assert document["subject"] == "accounts/a"
        assert document["data"] == {"cents": 1, "source": "cash"}
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await publisher.close()


async def test_an_event_that_nobody_knows_is_waited_for_and_nothing_is_told_twice(
    system: Feeding,
) -> None:  # F39
    registry = load_registry(load_domains(("toy",)))
    del registry.events["AccountPolished", 1]
    publisher = Publisher(system.broker_url, system.namespace)
    messages = CloudEvents(registry, system.namespace)
    outside = CloudEventsRelay(
        publisher, system.log, system.checkpoints, system.watch, system.partition, messages
    )
    async with system.channel() as channel:
        await declare_events_exchange(channel, system.namespace)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(events_exchange_name(system.namespace), routing_key="#")
        known = await system.append(3)
        unknown = await system.append(1, AccountPolished())
        last = await system.append(2)
        task = asyncio.create_task(outside.run())
        try:
            async with asyncio.timeout(20):
                while "AccountPolished" not in (await _waits_for(system) or ""):
                    await asyncio.sleep(0.05)
                assert outside.checkpoint.mark.position == known
                await asyncio.sleep(1)  # it tries again meanwhile
                registry.events["AccountPolished", 1] = AccountPolished
                while outside.checkpoint.mark.position < last:
                    await asyncio.sleep(0.05)
            told = []
            while (message := await queue.get(fail=False, no_ack=True)) is not None:
                told.append(int(orjson.loads(message.body)["sequence"]))
            assert told == list(range(1, last + 1))
            assert unknown in told
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await publisher.close()


async def _waits_for(system: Feeding) -> str | None:
    found: str | None = await system.pool.fetchval(
        f"SELECT max(waiting_for) FROM {system.namespace}.checkpoints WHERE consumer = 'cloudevents'"
    )
    return found


class Contact(Message):
    name: Annotated[Text, Personal("member_id", erased=ERASED)]
    city: Text


class Seen(Event):
    member_id: Id
    contact: Contact
    contacts: tuple[Contact, ...] = ()
    secret: Annotated[Text | None, Personal("member_id")] = None


def test_personal_fields_are_left_out_at_any_depth() -> None:
    given = {
        "contact": {"name": "Ada", "city": "Bonn"},
        "contacts": [{"name": "Bo", "city": "Ulm"}],
        "secret": "x",
    }
    assert without_personal(Seen, given) == {"contact": {"city": "Bonn"}, "contacts": [{"city": "Ulm"}]}
