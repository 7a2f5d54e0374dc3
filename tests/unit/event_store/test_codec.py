"""A batch as arrays: what later appends build on, and what is refused before anything is sent."""

from typing import Any

import pytest

from event_store.codec import Batch
from event_store.log import Append, Check, IdempotencyKey, NewEvent
from schemas.errors import BadDefinition
from tests.contract.log.appends import append, event, key, tagged, unless

NAMES = (
    "tenants", "streams", "bytes", "upto", "metadata_start", "metadata_octets", "check_append", "check_stream",
    "check_expected", "check_offset", "check_depends", "check_events", "event_check", "event_nth", "event_id",
    "event_type", "event_schema_version", "event_start", "event_octets", "key_append", "key_stream", "key_subject",
    "key", "key_start", "key_binds", "key_twin", "key_events", "key_offset", "event_tags", "item_append", "item_stream",
    "item_after", "item_tags", "item_types", "barred_append", "barred_item", "bars_append", "bars_item",
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


def test_tags_stand_beside_their_events_and_cost_nothing_where_there_are_none() -> None:
    plain = arguments(append("a/1", 0, 2))
    assert (plain["event_tags"], plain["item_append"], plain["barred_append"]) == ("", "{}", "{}")
    sent = arguments(append("a/1", 0, 2), tagged("a/2", "y", "x", "y"))
    assert sent["event_tags"] == "\x1f\x1fx\x1ey"


def test_an_item_is_barred_by_earlier_events_that_match_it() -> None:
    sent = arguments(
        tagged("a/1", "x", "y"),
        tagged("a/2", "x", tenant="other"),
        tagged("a/3", "y", conditions=[unless("x"), unless("y", types=["Other"])]),
        tagged("a/4", "x", conditions=[unless("x", after=7), unless("x", "y", types=["Counted"])]),
    )
    assert (sent["item_append"], sent["item_after"]) == ("{3, 3, 4, 4}", "{0, 0, 7, 0}")
    assert (sent["item_tags"], sent["item_types"]) == ("x\x1fy\x1fx\x1fx\x1ey", "\x1fOther\x1f\x1fCounted")
    assert (sent["barred_append"], sent["barred_item"]) == ("{3, 4, 4}", "{1, 1, 3}")
    assert (sent["bars_append"], sent["bars_item"]) == ("{1, 1, 4}", "{1, 3, 1}")


def test_events_that_come_after_the_last_condition_bar_nothing() -> None:
    sent = arguments(append("a/1", 0), tagged("a/2", "x", conditions=[unless("x")]), tagged("a/3", "x"))
    assert (sent["barred_append"], sent["bars_append"]) == ("{}", "{}")


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
