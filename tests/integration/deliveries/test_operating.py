"""What operators see of messages, and do about those that were given up: the commands `deliveries` and `workflows`."""

import asyncio
import sys
from typing import Any

import orjson
import pytest

from command_api.workflow_state import WorkflowDesk
from schemas.errors import NotFound
from tests.integration.deliveries.conftest import Post
from tests.integration.workflows.world import TENANT, environment_of
from tests.toy import OpenAccount
from tests.toy.workflows import Concierge

DEAD = 2


async def tool(post: Post, *arguments: str) -> tuple[int, Any]:
    """Run a command; return its exit status and what it printed, as JSON where it is."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.cli", *arguments,
        env=environment_of(post.world), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    said = out.decode() or err.decode()
    return process.returncode or 0, orjson.loads(said) if said.startswith("{") else said


async def test_dead_messages_are_listed_tried_again_and_dropped(post: Post) -> None:
    post.receiver.answers = lambda taken, number: 410
    await post.greet(*range(DEAD))
    async with post.world.workflows():
        await post.until("dead", DEAD)
    _, listed = await tool(post, "deliveries", "list", "--json")
    first, second = [one["id"] for one in listed["items"]]
    assert {one["last_error"] for one in listed["items"]} == {"answered 410"}
    _, shown = await tool(post, "deliveries", "show", first)
    assert shown["body"]["type"] == "toy.AccountGreeted.v1"

    status, done = await tool(post, "deliveries", "retry", first, "--reason", "receiver mended", "--json")
    assert (status, done) == (0, {"messages": [first]})
    status, _ = await tool(post, "deliveries", "drop", second, "--reason", "nobody needs it")
    assert status == 0
    status, said = await tool(post, "deliveries", "retry", second)
    assert (status, "not found" in said.lower() or "no " in said.lower()) == (1, True), said
    assert (await tool(post, "deliveries", "list", "--tenant", "another", "--json"))[1] == {"items": []}

    post.receiver.answers = lambda taken, number: 200
    async with post.world.workflows():
        await post.until("delivered", 1)
    assert post.receiver.ids.count(first) == 2
    acts = await post.world.pool.fetch("SELECT act, subject, reason FROM everfold.operator_acts ORDER BY id")
    assert [tuple(row) for row in acts] == [
        ("deliveries retry", first, "receiver mended"),
        ("deliveries drop", second, "nobody needs it"),
    ]


async def test_it_is_told_where_a_workflow_stands_with_a_matter(post: Post) -> None:
    post.receiver.answers = lambda taken, number: 410
    await post.greet(1)
    late = OpenAccount(account_id="late-1", owner="late")
    await post.world.send(late, OpenAccount(account_id="odd-1", owner="odd"))
    async with post.world.workflows():
        await post.until("dead", 1)
        await post.world.until_caught_up("concierge")
    await post.greet(2)
    _, listed = await tool(post, "workflows", "list", "--json")
    (concierge,) = listed["items"]
    counted = {name: concierge[name] for name in ("name", "version", "timers", "set_aside", "messages_dead")}
    assert counted == {"name": "concierge", "version": 1, "timers": 1, "set_aside": 1, "messages_dead": 1}
    assert concierge["lag_events"] == 1
    assert concierge["next_due_at"] is not None

    matter = await stands(post, "accounts/late-1")
    assert [(event["type"], event["state"]) for event in matter["events"]] == [("AccountOpened", "taken up")]
    assert [timer["key"] for timer in matter["timers"]] == ["close/late-1"]
    assert matter["aside"] == matter["messages"] == []
    matter = await stands(post, "accounts/odd-1")
    assert [(one["state"], one["error"]) for one in matter["events"]] == [
        ("set aside", "ValueError: odd owner")
    ]
    assert matter["events"][0]["led_to"] == ["Deposited"]
    assert matter["timers"] == []
    _, matter = await tool(post, "workflows", "show", "concierge", "--stream", "accounts/polite-1")
    assert [one["state"] for one in matter["messages"]] == ["dead"]
    matter = await stands(post, "accounts/polite-2")
    assert [event["state"] for event in matter["events"]] == ["not yet taken up"]
    with pytest.raises(NotFound):
        await stands(post, "accounts/nobody")


async def stands(post: Post, stream: str) -> Any:
    """Return where the workflow stands with a stream's matter."""
    world = post.world
    desk = WorkflowDesk(
        {"concierge": Concierge()}, world.log, world.registry, world.pool, world.schema, False
    )
    return await desk.one("concierge", TENANT, stream)
