"""A batch as arrays: what later appends build on, and what is refused before anything is sent."""

from typing import Any

import pytest

from event_store.codec import Batch
from event_store.log import Append, Check, IdempotencyKey, NewEvent
from schemas.errors import BadDefinition
from tests.contract.log.appends import append, event, key

NAMES = (
    "tenants", "streams", "bytes", "upto", "metadata_start", "metadata_octets", "check_append", "check_stream",
    "check_expected", "check_offset", "check_depends", "check_events", "event_check", "event_nth", "event_id",
    "event_type", "event_schema_version", "event_start", "event_octets", "key_append", "key_stream", "key_subject",
    "key", "key_start", "key_binds", "key_twin", "key_events", "key_offset",
)  # fmt: skip


def arguments(*appends: Append) -> dict[str, Any]:
    return dict(zip(NAMES, Batch(appends).arguments(), strict=True))


def test_a_later_append_knows_which_one_it_builds_on_and_how_far_that_moved_the_stream() -> None:
    sent = arguments(
        append("a/1", 0, 2), append("b/1", 0), append("a/1", 2, reads=[("b/1", 1)]), append("a/1", 3)
    )
    assert sent["streams"].split("\x1f") == ["a/1", "b/1"]
    assert sent["check_stream"] == "{1, 2, 1, 2, 1}"
    assert sent["check_offset"] == "{0, 0, 2, 1, 3}"
    assert sent["check_depends"] == "{0, 0, 1, 2, 3}"
    assert sent["check_events"] == "{2, 1, 1, 0, 1}"
    assert (sent["event_check"], sent["event_nth"], sent["upto"]) == (
        "{1, 1, 2, 3, 5}",
        "{1, 2, 1, 1, 1}",
        "{2, 3, 4, 5}",
    )


def test_a_key_that_appears_twice_points_at_its_twin() -> None:
    sent = arguments(append("a/1", 0, key=key("k")), append("a/2", 0, key=key("k", subject="eve")), append("a/3", 0),
                     append("a/4", 0, key=key("k")))  # fmt: skip
    assert (sent["key_append"], sent["key_twin"]) == ("{1, 2, 4}", "{0, 0, 1}")


def test_all_bytes_travel_as_one_and_are_found_by_place_and_length() -> None:
    sent = arguments(
        Append("acme", "a/1", [Check("a/1", 0)], [event("a/1", b"one"), event("a/1", b"")], b"meta")
    )
    assert sent["bytes"] == b"metaone"
    assert (sent["metadata_start"], sent["metadata_octets"]) == ("{1}", "{4}")
    assert (sent["event_start"], sent["event_octets"]) == ("{5, 8}", "{3, 0}")


@pytest.mark.parametrize(
    "wrong",
    [
        Append("ac\x1fme", "a/1", [Check("a/1", 0)]),
        Append("acme", "a/1\x1f", [Check("a/1\x1f", 0)]),
        Append("acme", "a/1", [Check("a/1", 0)], [NewEvent("a/1", "i", "Ty\x1fpe", 1, b"")]),
        Append("acme", "a/1", [Check("a/1", 0)], key=IdempotencyKey("b\x1fob", "k", bytes(32))),
        Append("acme", "a/1", [Check("a/1", 0)], key=IdempotencyKey("bob", "k", bytes(31))),
    ],
)
def test_a_name_with_the_separator_and_a_fingerprint_of_another_length_are_refused(wrong: Append) -> None:
    with pytest.raises(BadDefinition):
        Batch([append("a/0", 0), wrong]).arguments()
