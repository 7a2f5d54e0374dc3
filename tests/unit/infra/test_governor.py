"""A budget of connections is shared by all processes of a role, and a share is never exceeded."""

import asyncio
import contextlib

from hypothesis import given
from hypothesis import strategies as st

from infra.governor import SHARE_MIN, Governor


@given(budget=st.integers(4, 500), size_max=st.integers(4, 40), processes=st.integers(1, 200))
def test_shares_add_up_to_the_budget_at_most_as_long_as_each_gets_what_it_cannot_do_without(
    budget: int, size_max: int, processes: int
) -> None:
    governor = Governor(budget, size_max)
    governor.share_among(processes)
    assert SHARE_MIN <= governor.share <= size_max
    assert governor.share == SHARE_MIN or governor.share * processes <= budget


async def test_more_than_the_share_wait_and_go_on_in_turn() -> None:
    governor = Governor(48, 12)
    governor.share_among(12)
    at_once, most, order = 0, 0, []

    async def work(number: int) -> None:
        nonlocal at_once, most
        await governor.enter()
        at_once += 1
        most = max(most, at_once)
        order.append(number)
        await asyncio.sleep(0)
        at_once -= 1
        governor.leave()

    await asyncio.gather(*(work(number) for number in range(50)))
    assert most == SHARE_MIN
    assert order == list(range(50))


async def test_whoever_gives_up_waiting_takes_nothing_with_him() -> None:
    governor = Governor(4, 4)
    for _ in range(4):
        await governor.enter()
    waiting = [asyncio.create_task(governor.enter()) for _ in range(3)]
    await asyncio.sleep(0)
    governor.leave()
    waiting[0].cancel()
    waiting[1].cancel()
    for task in waiting[:2]:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await asyncio.wait_for(waiting[2], 1)
    for _ in range(4):
        governor.leave()
    for _ in range(4):
        await asyncio.wait_for(governor.enter(), 1)


async def test_a_larger_share_lets_those_who_wait_go_on() -> None:
    governor = Governor(48, 12)
    governor.share_among(100)
    tasks = [asyncio.create_task(governor.enter()) for _ in range(12)]
    await asyncio.sleep(0)
    assert sum(task.done() for task in tasks) == SHARE_MIN
    governor.share_among(1)
    await asyncio.wait_for(asyncio.gather(*tasks), 1)
