"""The relay as a process: killed at any step it skips nothing; and what it tells other programs."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import orjson
import pytest

from event_store.cloud_events import CloudEvents, without_personal
from event_store.relay import CloudEventsRelay, Publisher
from event_store.topology import events_exchange_name
from infra.domains import load_domains, load_registry
from schemas import Event, Personal
from schemas.messages import Message, Text
from tests.integration.feed.feeding import Feeding, feeding

STEPS = ("relay.before_publish", "relay.after_publish", "relay.after_confirm")


@pytest.fixture
async def system(database: str, broker_url: str) -> AsyncIterator[Feeding]:
    async with feeding(database, broker_url) as one:
        yield one


@asynccontextmanager
async def relay(
    system: Feeding, log_file: Path, more: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the role as a process."""
    environment = {
        **os.environ, "EVERFOLD_STORE_URL": system.store_url, "EVERFOLD_READ_URL": system.store_url,
        "EVERFOLD_DOMAINS": "toy", "EVERFOLD_BROKER_URL": system.broker_url, "EVERFOLD_NAMESPACE": system.namespace,
        "EVERFOLD_PARTITIONS": "2", **more,
    }  # fmt: skip
    with log_file.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "infra.cli", "relay", env=environment, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 20)


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
            async with asyncio.timeout(20):
                while await _relayed(system) < total:
                    await asyncio.sleep(0.05)
        system.exact(total)


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


class Contact(Message):
    name: Annotated[Text, Personal()]
    city: Text


class Seen(Event):
    contact: Contact
    contacts: tuple[Contact, ...] = ()
    secret: Annotated[Text | None, Personal()] = None


def test_personal_fields_are_left_out_at_any_depth() -> None:
    given = {
        "contact": {"name": "Ada", "city": "Bonn"},
        "contacts": [{"name": "Bo", "city": "Ulm"}],
        "secret": "x",
    }
    assert without_personal(Seen, given) == {"contact": {"city": "Bonn"}, "contacts": [{"city": "Ulm"}]}
