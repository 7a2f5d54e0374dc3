"""Pages in pieces: what need not wait for a fence never stands behind an arrival. Fault row F55."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from event_store.arrivals import ARRIVED, has_moves, pieces
from event_store.log import Commit, Page
from schemas.envelope import BEGINNING, RecordedEvent

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def page_of(sizes: list[int], arrivals: set[int]) -> Page:
    """Return a page of commits with so many events each; those with some numbers are arrivals, of one event."""
    events: list[RecordedEvent] = []
    commits: list[Commit] = []
    mark = BEGINNING
    for number, size in enumerate(sizes):
        count = 1 if number in arrivals else size
        kind = ARRIVED if number in arrivals else "Deposited"
        first = mark.position + 1
        events += [
            RecordedEvent(0, first + at, "t", "s", 1, f"e{first + at}", kind, 1, b"{}", b"", NOW)
            for at in range(count)
        ]
        commits.append(Commit(0, first, first + count - 1, NOW, bytes([number + 1]) * 32, mark.hash))
        mark = commits[-1].mark
    return Page(0, BEGINNING, events, mark, commits)


@given(st.lists(st.integers(1, 3), max_size=8), st.sets(st.integers(0, 7)))
def test_pieces_are_the_page_and_an_arrival_is_the_first_of_its_piece(  # F55
    sizes: list[int], arrivals: set[int]
) -> None:
    page = page_of(sizes, arrivals)
    found = list(pieces(page))
    assert [event for piece in found for event in piece.events] == list(page.events)
    assert [commit for piece in found for commit in piece.commits] == list(page.commits)
    marks = [page.after, *(piece.end for piece in found)]
    assert [piece.after for piece in found] == marks[:-1]
    assert marks[-1] == page.end
    assert all(event.type != ARRIVED for piece in found for event in piece.events[1:])
    assert has_moves(page) == any(event.type == ARRIVED for event in page.events)
    if not has_moves(page):
        assert found == [page]
