"""A page is decoded once: what nobody folds is passed over, and what is not known is where reading stops."""

from datetime import UTC, datetime

from event_store.log import Commit, Page
from infra.domains import load_domains, load_registry
from projectors.decoding import Decoder
from schemas.envelope import BEGINNING, CommitMark, Metadata, RecordedEvent
from tests.toy import AccountBalances, Deposited, Withdrawn

AT = datetime(2026, 3, 1, tzinfo=UTC)


def _metadata(day: int) -> bytes:
    at = datetime(2026, 3, day, tzinfo=UTC)
    return Metadata(actor="a", roles=(), command="c", occurred_at=at, correlation_id="x").encode()


def _page(*stored: tuple[str, bytes, int]) -> Page:
    """Return events of a type, with data, that happened on a day; two to a commit."""
    events = [
        RecordedEvent(0, number, "demo", f"accounts/{number}", 1, "id", type_, 1, data, _metadata(day), AT)
        for number, (type_, data, day) in enumerate(stored, 1)
    ]
    commits = [
        Commit(0, first, min(first + 1, len(events)), AT, bytes([first]) * 32, bytes(32))
        for first in range(1, len(events) + 1, 2)
    ]
    return Page(0, BEGINNING, events, CommitMark(len(events), commits[-1].hash), commits)


def _decoder() -> Decoder:
    return Decoder(load_registry(load_domains(("toy",))), [AccountBalances()])


WITHDRAWN = Withdrawn(cents=5).encode()


def test_each_event_has_its_own_commit_and_its_own_time() -> None:
    page = _page(*(("Withdrawn", WITHDRAWN, 1 + number // 3) for number in range(5)))
    decoded = _decoder().decode(page).events
    assert [one.commit_hash[0] for one in decoded] == [1, 1, 3, 3, 5]
    assert [one.stream.occurred_at.day for one in decoded] == [1, 1, 1, 2, 2]
    assert [one.stream.position for one in decoded] == [1, 2, 3, 4, 5]
    assert [one.events for one in decoded] == [(Withdrawn(cents=5),)] * 5


def test_an_old_version_is_read_as_the_newest_and_what_nobody_folds_is_passed_over() -> None:
    found = _decoder().decode(
        _page(("Deposited", b'{"cents":7}', 1), ("AccountNamed", b"{}", 1), ("Withdrawn", WITHDRAWN, 1))
    )
    assert [one.events for one in found.events] == [
        (Deposited(cents=7, source="unknown"),),
        (Withdrawn(cents=5),),
    ]
    assert [one.commit_hash[0] for one in found.events] == [1, 3]
    assert found.types == {"Deposited", "Withdrawn"}
    assert found.held is None


def test_reading_stops_before_a_type_that_is_not_known() -> None:
    found = _decoder().decode(
        _page(("Withdrawn", WITHDRAWN, 1), ("Strange", b"{}", 1), ("AccountShut", b"{}", 1))
    )
    assert [one.stream.position for one in found.events] == [1]
    assert found.types == {"Withdrawn"}
    assert found.held == (2, "a program that can read Strange version 1")


def test_reading_stops_before_bytes_that_do_not_fit_and_says_what_does_not() -> None:
    found = _decoder().decode(_page(("Withdrawn", WITHDRAWN, 1), ("Withdrawn", b'{"cents":"no"}', 1)))
    assert found.held is not None
    position, why = found.held
    assert position == 2
    assert why.startswith("a program that can read Withdrawn version 1 (cents")
