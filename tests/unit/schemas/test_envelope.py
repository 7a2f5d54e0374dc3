"""What is known of an event besides its data, and how other programs see it."""

from datetime import UTC, datetime

import pytest

from schemas.envelope import BEGINNING, Metadata, RecordedEvent, cloud_event
from schemas.errors import MalformedRequest
from schemas.position import Position, parse_position, position_of

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def metadata(traceparent: str | None = None) -> Metadata:
    return Metadata(
        actor="ann",
        roles=("clerk", "viewer"),
        command="orders.place",
        occurred_at=AT,
        correlation_id="c1",
        traceparent=traceparent,
    )


def event(traceparent: str | None = None) -> RecordedEvent:
    return RecordedEvent(
        partition=3,
        position=42,
        tenant="demo",
        stream="stock/S1/I1",
        version=7,
        id="0191",
        type="StockReceived",
        schema_version=2,
        data=b"{}",
        metadata=metadata(traceparent).encode(),
        recorded_at=AT,
    )


def test_metadata_is_read_back_as_it_was_written() -> None:
    for given in (metadata(), metadata(TRACE)):
        assert Metadata.decode(given.encode()) == given


def test_metadata_leaves_out_what_has_no_value() -> None:
    assert b"reason" not in metadata().encode()
    assert b"null" not in metadata().encode()


def test_an_event_knows_its_streams_ids() -> None:
    assert event().stream_ids == ("S1", "I1")


def test_the_beginning_is_before_everything() -> None:
    assert BEGINNING.position == 0
    assert BEGINNING.hash == bytes(32)


def test_other_programs_get_a_cloud_event() -> None:
    assert cloud_event(event(TRACE), namespace="ns", domain="supply", data={"quantity": 5}) == {
        "specversion": "1.0",
        "id": "0191",
        "source": "/everfold/ns/demo",
        "type": "supply.StockReceived.v2",
        "subject": "stock/S1/I1",
        "time": "2026-01-31T12:00:00Z",
        "datacontenttype": "application/json",
        "dataschema": "/schemas/supply/StockReceived/v2",
        "partitionkey": "demo",
        "sequence": "42",
        "data": {"quantity": 5},
        "traceparent": TRACE,
    }
    assert "traceparent" not in cloud_event(event(), namespace="ns", domain="supply", data={})


def test_a_position_comes_back_as_it_was_given_to_its_tenant() -> None:
    position = position_of(3, 42, bytes.fromhex("9f31c2d4" + "00" * 28))
    assert position == Position(3, 42, "9f31c2d4")
    assert parse_position(position.token("demo"), "demo") == position


@pytest.mark.parametrize(
    "token",
    ["", "p1", "p2.0.1.00000000.000000", "p1.0.1.0000000.000000", "x" * 129, "p1.٣.1.00000000.000000"],
)
def test_what_is_no_position_is_a_bad_request(token: str) -> None:
    with pytest.raises(MalformedRequest):
        parse_position(token, "demo")


def test_another_tenants_position_is_a_bad_request() -> None:
    with pytest.raises(MalformedRequest):
        parse_position(Position(3, 42, "9f31c2d4").token("other"), "demo")
