"""How far an operation is said to be, how fast, and how long it will take."""

import asyncio
import time

from projectors.acts import Progress
from projectors.throttle import Throttle


def test_progress_tells_the_rate_of_the_last_seconds_and_the_time_left() -> None:
    now = [0.0]
    progress = Progress({}, lambda: now[0])
    progress.begin("orders", 1_000, waiting=1)
    assert (progress.said["events"], progress.said["events_per_second"]) == (0, None)
    progress.reached("orders", 0, 0)
    for second in range(1, 5):
        now[0] = second
        progress.reached("orders", 0, 50 * second)
        progress.reached("orders", 1, 50 * second)
    assert (progress.said["events"], progress.said["events_per_second"]) == (400, 100)
    assert progress.said["seconds_left"] == (600 + 1_000) / 100


def test_what_was_done_before_a_kill_is_not_counted_in_the_rate() -> None:
    now = [0.0]
    progress = Progress({"done": [{"name": "items"}]}, lambda: now[0])
    progress.begin("orders", 1_000, waiting=0)
    progress.reached("orders", 0, 900)
    now[0] = 1.0
    progress.reached("orders", 0, 910)
    assert (progress.said["events"], progress.said["events_per_second"]) == (910, 10)
    assert [one["name"] for one in progress.done] == ["items"]


async def test_a_throttle_is_shared_by_all_who_work_at_once() -> None:
    throttle = Throttle(1_000)
    began = time.monotonic()
    await asyncio.gather(*(throttle.took(50) for _ in range(4)))
    assert time.monotonic() - began >= 0.19
    began = time.monotonic()
    await Throttle(None).took(10**9)
    assert time.monotonic() - began < 5
