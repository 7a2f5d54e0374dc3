"""What requests ask for: keys, expected versions, preferences, and what makes two requests the same."""

from datetime import UTC, datetime
from typing import Any

import pytest

from command_api.keys import fingerprint_of, parse_key
from command_api.preconditions import check_acceptable, read_conditions, refuse_conditions
from command_api.requests import MUST_EXIST
from command_api.state_cache import ENTRY_WEIGHT, Known, StateCache
from infra.http import Request
from schemas.envelope import CommitMark
from schemas.errors import MalformedRequest, NotAcceptable
from tests.toy.world import deposit


def request(**headers: str) -> Request:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": pairs}, receive)


@pytest.mark.parametrize(
    ("sent", "key"),
    [("abc", "abc"), ('"abc"', "abc"), (r'"a\"b"', 'a"b'), ("x" * 255, "x" * 255), ('"', '"')],
)
def test_quoted_and_bare_keys_are_the_same(sent: str, key: str) -> None:
    assert parse_key(sent) == key


@pytest.mark.parametrize("sent", ["", '""', "a b", "x" * 256, "ä", "a\tb"])
def test_a_key_is_visible_characters(sent: str) -> None:
    with pytest.raises(MalformedRequest):
        parse_key(sent)


def test_the_fingerprint_is_of_the_parsed_command_its_ids_and_expectation() -> None:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    same = fingerprint_of(deposit("A", 1))
    assert fingerprint_of(deposit("A", 1, correlation_id="x", key="k")) == same
    others = [
        deposit("B", 1),
        deposit("A", 2),
        deposit("A", 1, expected_version=0),
        deposit("A", 1, reason="gift"),
        deposit("A", 1, occurred_at=when),
    ]
    assert len({same, *(fingerprint_of(other) for other in others)}) == 6


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ({}, None),
        ({"if_match": '"7"'}, 7),
        ({"if_match": '"0"'}, 0),
        ({"if_match": "*"}, MUST_EXIST),
        ({"if_none_match": "*"}, 0),
    ],
)
def test_expected_versions_are_read_from_if_match_and_if_none_match(
    headers: dict[str, str], version: int | None
) -> None:
    assert read_conditions(request(**headers)).expected_version == version


@pytest.mark.parametrize(
    "headers",
    [
        {"if_match": "7"},
        {"if_match": 'W/"7"'},
        {"if_match": '"7", "8"'},
        {"if_match": '"07"'},
        {"if_match": '"-1"'},
        {"if_none_match": '"7"'},
        {"if_match": '"7"', "if_none_match": "*"},
    ],
)
def test_conditions_that_say_nothing_clear_are_bad_requests(headers: dict[str, str]) -> None:
    with pytest.raises(MalformedRequest):
        read_conditions(request(**headers))


@pytest.mark.parametrize("name", ["idempotency_key", "if_match", "if_none_match"])
def test_a_batch_has_no_conditions_of_its_own(name: str) -> None:
    with pytest.raises(MalformedRequest):
        refuse_conditions(request(**{name: "x"}))


@pytest.mark.parametrize(
    ("prefer", "wanted"),
    [
        ("return=representation", True),
        ('wait=5, Return="representation"; x=1', True),
        ("return=minimal, return=representation", False),
        ("respond-async", False),
    ],
)
def test_the_first_return_preference_counts(prefer: str, wanted: bool) -> None:
    assert read_conditions(request(prefer=prefer)).representation is wanted


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html, application/*;q=0.1"])
def test_json_is_acceptable_to_most(accept: str) -> None:
    check_acceptable(request(accept=accept))


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "application/xml, text/*"])
def test_who_takes_no_json_is_told_so(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        check_acceptable(request(accept=accept))


def test_the_cache_of_states_forgets_what_was_used_longest_ago() -> None:
    cache = StateCache(weight_max=3 * ENTRY_WEIGHT)
    for name in "abc":
        cache.put(0, ("t", name), Known(1, name))
    assert cache.get(0, ("t", "a")) is not None
    cache.put(0, ("t", "d"), Known(1, "d"))
    assert [name for name in "abcd" if cache.get(0, ("t", name))] == ["a", "c", "d"]


def test_a_partition_whose_history_is_void_loses_its_states_and_its_mark_and_no_other_does() -> None:
    cache = StateCache()
    cache.put(0, ("t", "a"), Known(1, "a"))
    cache.put(1, ("u", "a"), Known(1, "a"))
    cache.move_mark(0, CommitMark(5, b"x"))
    cache.move_mark(0, CommitMark(4, b"y"))
    assert cache.mark(0) == CommitMark(5, b"x")
    cache.drop_partition(0)
    assert cache.get(0, ("t", "a")) is None
    assert cache.get(1, ("u", "a")) is not None
    assert cache.mark(0) is None
