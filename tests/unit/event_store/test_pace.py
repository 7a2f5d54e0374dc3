"""Pages grow under load, and only then."""

import pytest

from event_store.pace import PAGE_SECONDS, PATIENCE_SECONDS_MAX, Pace


def pages(events_per_second: float, *, work_seconds: float, seconds: float = 5.0) -> list[float]:
    """Return the sizes of the pages that a follower takes of a steady stream."""
    pace, now, taken, sizes = Pace(), 0.0, 0.0, []
    while now < seconds:
        now += pace.wait_seconds(now)
        waiting = max(1.0, now * events_per_second - taken)
        now = max(now, (taken + waiting) / events_per_second)
        sizes.append(waiting)
        taken += waiting
        pace.took(round(waiting), now)
        now += work_seconds
    return sizes


def test_two_thousand_events_a_second_and_more_come_in_pages_as_large_as_patience_allows() -> None:
    sizes = pages(4_000, work_seconds=0.002)
    assert sizes[-1] > 4_000 * PATIENCE_SECONDS_MAX * 0.9


def test_below_that_they_are_what_comes_while_a_page_costs_as_much() -> None:
    sizes = pages(900, work_seconds=0.001)
    assert max(sizes) <= 900 * PAGE_SECONDS + 1


def test_few_events_come_as_they_are_committed() -> None:
    assert max(pages(80, work_seconds=0.001)) == 1


def test_work_counts_as_waiting() -> None:
    pace = Pace()
    pace.took(10_000, now=100.0)
    assert pace.wait_seconds(100.0) == pytest.approx(PATIENCE_SECONDS_MAX)
    assert pace.wait_seconds(100.0 + PATIENCE_SECONDS_MAX) == 0
