"""Pages grow under load, and only then."""

from pathlib import Path

import pytest

from event_store.pace import PATIENCE_SECONDS_MAX, Pace, ProcessorScarcity


def pages(
    events_per_second: float, *, work_seconds: float, seconds: float = 5.0, scarcity: float = 1.0
) -> list[float]:
    """Return the sizes of the pages that a follower takes of a steady stream."""
    pace, now, taken, sizes = Pace(lambda: scarcity), 0.0, 0.0, []
    while now < seconds:
        now += pace.wait_seconds(now)
        waiting = max(1.0, now * events_per_second - taken)
        now = max(now, (taken + waiting) / events_per_second)
        sizes.append(waiting)
        taken += waiting
        pace.took(round(waiting), now)
        now += work_seconds
    return sizes


def test_a_thousand_events_a_second_and_more_come_in_pages_as_large_as_patience_allows() -> None:
    sizes = pages(4_000, work_seconds=0.002)
    assert sizes[-1] > 4_000 * PATIENCE_SECONDS_MAX * 0.9


def test_below_that_they_come_as_they_are_committed() -> None:
    sizes = pages(300, work_seconds=0.001)
    assert max(sizes) <= 2


def test_where_processors_are_free_nothing_is_held() -> None:
    sizes = pages(4_000, work_seconds=0.002, scarcity=0.05)
    assert max(sizes[10:]) <= 4_000 * 0.002 + 1


def test_scarcity_is_time_waited_for_time_run(tmp_path: Path) -> None:
    schedstat = tmp_path / "schedstat"
    schedstat.write_text("1000 500 3\n")
    scarcity = ProcessorScarcity(schedstat)
    for turn in range(1, 31):
        schedstat.write_text(f"{1000 + turn * 1000} {500 + turn * 800} {turn}\n")
        found = scarcity()
    assert found == pytest.approx(0.8, rel=0.01)
    assert ProcessorScarcity(tmp_path / "none")() == 1.0


def test_this_process_has_a_scarcity() -> None:
    assert ProcessorScarcity()() >= 0


def test_work_counts_as_waiting() -> None:
    pace = Pace(lambda: 1.0)
    pace.took(10_000, now=100.0)
    assert pace.wait_seconds(100.0) == pytest.approx(PATIENCE_SECONDS_MAX)
    assert pace.wait_seconds(100.0 + PATIENCE_SECONDS_MAX) == 0
