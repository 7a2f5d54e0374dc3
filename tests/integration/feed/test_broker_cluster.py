"""A broker of three nodes that loses one, then two of them: no event is missed, and none comes twice."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from infra.embedded.process import run_tool
from infra.embedded.server import RunningServer
from tests.broker_cluster import ClusterNode, broker_cluster
from tests.integration.command_api.proxy import proxy_to
from tests.integration.feed.feeding import Feeding, feeding
from tests.integration.feed.test_broker_faults import (
    BACK_SECONDS_MAX,
    FRESH_SECONDS_MAX,
    delivered_again,
    is_empty,
)

ELECTED_SECONDS_MAX = 120.0
"""RabbitMQ 3.10 may take a minute until a queue answers again whose node was killed."""


@pytest.mark.timeout(420)
async def test_a_feed_is_exact_through_the_loss_of_its_leader_and_of_the_majority(  # F28
    database: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        nodes = stack.enter_context(broker_cluster(tmp_path / "cluster"))
        proxy, url = await stack.enter_async_context(proxy_to(nodes[0].url))
        system = await stack.enter_async_context(feeding(database, url, tidies=False))
        running = await stack.enter_async_context(system.relaying())
        await stack.enter_async_context(system.consuming())
        await delivered_again(system)
        leader = await leader_of(system, nodes)

        leader.kill()
        second, third = (node for node in nodes if node is not leader)
        proxy.lead_to(second.url)
        proxy.cut_all()
        position = await fed(system)
        await system.relayed(running, position, ELECTED_SECONDS_MAX)
        await delivered_again(system, ELECTED_SECONDS_MAX)

        await system.relayed(running, system.taken.positions(system.partition)[-1], ELECTED_SECONDS_MAX)
        second.kill()
        proxy.lead_to(third.url)
        proxy.cut_all()
        stands_at = running.checkpoint.mark.position
        position = await fed(system)
        assert running.checkpoint.mark.position == stands_at, "one of three nodes confirms nothing"

        for node in (leader, second):
            node.start()  # in this thread, whose end would end it
        await system.relayed(running, position, ELECTED_SECONDS_MAX)
        await delivered_again(system, ELECTED_SECONDS_MAX)
        position = await fed(system)
        system.exact(position)
        async with asyncio.timeout(BACK_SECONDS_MAX):
            while not await is_empty(system):
                await asyncio.sleep(0.2)


async def fed(system: Feeding) -> int:
    """Append some times; each arrives soon, whatever the broker is like. Return the last position."""
    for _ in range(5):
        position = await system.append(3)
        await system.reached(position, FRESH_SECONDS_MAX)
    return position


async def leader_of(system: Feeding, nodes: Sequence[RunningServer]) -> RunningServer:
    """Return the node that leads the tests' queue, once all three have it."""
    by_name = {one.server.node: one for one in nodes if isinstance(one.server, ClusterNode)}
    server = nodes[0].server
    assert isinstance(server, ClusterNode)
    asked = server.control("list_queues", "name", "leader", "members", "--formatter", "json", "--silent")
    async with asyncio.timeout(BACK_SECONDS_MAX):
        while True:
            said = await asyncio.to_thread(run_tool, asked)
            assert said.returncode == 0, said.stdout
            (queue,) = (one for one in json.loads(said.stdout) if one["name"] == system.queue)
            if sorted(queue["members"]) == sorted(by_name):
                return by_name[queue["leader"]]
            await asyncio.sleep(0.5)
