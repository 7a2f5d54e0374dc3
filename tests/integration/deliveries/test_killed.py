"""The process is killed at each step of a delivery: the message leaves at least once, always with the same key. F43"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.integration.deliveries.conftest import Post
from tests.integration.deliveries.receiver import SECRET
from tests.integration.workflows.world import SECONDS_MAX, environment_of, run_until_dead

MESSAGES = 3
CHANNELS = "EVERFOLD_CHANNELS_FILE"


@pytest.mark.parametrize(
    ("failpoint", "sent_before"),
    [
        ("workflow.before_commit", 0),
        ("workflow.after_commit", 0),
        ("delivery.after_claim", 0),
        ("delivery.before_send", 0),
        ("delivery.after_send", 1),
        ("delivery.after_note", 1),
    ],
)
async def test_killed_anywhere_it_leaves_at_least_once_with_the_same_key(
    post: Post, failpoint: str, sent_before: int
) -> None:
    post.route(timeout_seconds=1, at_once=1)
    await post.greet(*range(MESSAGES))
    variables = {CHANNELS: str(post.file)}
    assert await run_until_dead(post.world, f"{failpoint}=kill", **variables) == -SIGKILL
    assert len(post.receiver.taken) == sent_before
    async with post.world.workflows():
        await post.until("delivered", MESSAGES)
    assert len(set(post.receiver.ids)) == MESSAGES
    assert len(post.receiver.ids) <= MESSAGES + 1
    assert len({(taken.id, taken.body) for taken in post.receiver.taken}) == MESSAGES


async def test_a_message_that_kills_its_process_is_not_tried_for_ever(post: Post) -> None:
    post.route(timeout_seconds=0.1, retry_seconds=[0.05])
    await post.greet(1)
    variables = {CHANNELS: str(post.file)}
    for _ in range(2):
        assert await run_until_dead(post.world, "delivery.before_send=kill", **variables) == -SIGKILL
    async with post.world.workflows():
        await post.until("dead", 1)
    (message,) = await post.messages()
    assert message["last_error"] == "no attempt has ended"


async def test_a_process_that_stood_still_does_no_harm(post: Post, tmp_path: Path) -> None:
    """F37: frozen in the middle of a delivery, it wakes up when another has delivered: the same key, twice at most."""
    post.receiver.gate.clear()
    post.route(timeout_seconds=2, at_once=1)
    await post.greet(1)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.cli", "workflow",
        env=environment_of(post.world, **{CHANNELS: str(post.file)}),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await post.world.until(lambda: _came(post, 1))
        os.kill(process.pid, signal.SIGSTOP)
        post.receiver.gate.set()
        async with post.world.workflows():
            await post.until("delivered", 1)
        os.kill(process.pid, signal.SIGCONT)
        process.terminate()
        await asyncio.wait_for(process.wait(), SECONDS_MAX)
    finally:
        if process.returncode is None:
            os.kill(process.pid, signal.SIGCONT)
            process.kill()
            await process.wait()
    (message,) = await post.messages()
    assert message["state"] == "delivered"
    assert len(set(post.receiver.ids)) == 1
    assert len(post.receiver.ids) <= 3
    assert all(taken.is_signed_with(SECRET) for taken in post.receiver.taken)


async def _came(post: Post, count: int) -> bool:
    return len(post.receiver.taken) >= count


async def test_a_process_that_is_told_to_stop_ends_what_it_is_sending(post: Post) -> None:
    post.receiver.gate.clear()
    await post.greet(1)
    async with post.world.workflows():
        await post.world.until(lambda: _came(post, 1))
        asyncio.get_running_loop().call_later(0.5, post.receiver.gate.set)
    await post.until("delivered", 1)
    assert len(post.receiver.taken) == 1
