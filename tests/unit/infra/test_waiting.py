"""Work that is taken up again and again until a process ends."""

import asyncio

from infra.waiting import apart, keep_at

SECONDS_MAX = 30.0
FOR_EVER_SECONDS = 3_600.0


async def test_steps_go_on_after_errors_of_any_kind() -> None:
    stop, steps = asyncio.Event(), 0

    async def step() -> float:
        nonlocal steps
        steps += 1
        if steps == 1:
            raise TimeoutError
        if steps == 2:
            raise ZeroDivisionError
        stop.set()
        return FOR_EVER_SECONDS

    async with asyncio.timeout(SECONDS_MAX):
        await keep_at(step, stop, what="test", retry_seconds=0, passing=(TimeoutError,))
    assert steps == 3


async def test_what_is_under_way_at_the_stop_is_cut_short_and_has_ended() -> None:
    stop, ended = asyncio.Event(), False

    async def step() -> float:
        nonlocal ended
        stop.set()
        try:
            await asyncio.sleep(FOR_EVER_SECONDS)
        finally:
            ended = True
        return 0

    async with asyncio.timeout(SECONDS_MAX):
        await keep_at(step, stop, what="test", retry_seconds=0)
    assert ended


async def test_a_rest_ends_when_there_is_news() -> None:
    stop, wake, steps = asyncio.Event(), asyncio.Event(), 0

    async def step() -> float:
        nonlocal steps
        steps += 1
        if steps == 3:
            stop.set()
        wake.set()
        return FOR_EVER_SECONDS

    async with asyncio.timeout(SECONDS_MAX):
        await keep_at(step, stop, what="test", retry_seconds=0, wake=wake)
    assert steps == 3


async def test_what_is_done_apart_goes_on_when_its_caller_is_cancelled() -> None:
    begun, goes_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> str:
        begun.set()
        await goes_on.wait()
        done.set()
        return "done"

    caller = asyncio.create_task(apart(work()))
    await begun.wait()
    caller.cancel()
    await asyncio.wait([caller])
    assert (caller.cancelled(), done.is_set()) == (True, False)
    goes_on.set()
    async with asyncio.timeout(SECONDS_MAX):
        await done.wait()
        assert await apart(work()) == "done"
