"""Webhooks: signatures as the Standard Webhooks specification has them, and what receivers ask for."""

from base64 import b64decode
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from command_api.outgoing import message_id
from command_api.webhooks import RETRY_AFTER_SECONDS_MAX, retry_after, signature_of

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)


def test_a_message_is_signed_as_the_specification_says() -> None:
    """The example that the reference libraries are tested with."""
    key = b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    signature = signature_of([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_with_two_keys_there_are_two_signatures() -> None:
    one, other = b"1" * 32, b"2" * 32
    both = signature_of([one, other], "m", 1, b"{}")
    assert both == f"{signature_of([one], 'm', 1, b'{}')} {signature_of([other], 'm', 1, b'{}')}"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("120", 120),
        ("99999999", RETRY_AFTER_SECONDS_MAX),
        ("soon", 0),
        ("-5", 0),
        (format_datetime(NOW.replace(minute=1), usegmt=True), 60),
        (format_datetime(NOW.replace(year=2020), usegmt=True), 0),
    ],
)
def test_how_long_a_receiver_wants_to_be_left_alone(written: str | None, seconds: float) -> None:
    assert retry_after(written, NOW.timestamp()) == seconds


def test_a_messages_id_is_that_of_its_step() -> None:
    assert message_id("w", "e/0/1") == message_id("w", "e/0/1")
    assert len({message_id("w", "e/0/1"), message_id("w", "e/0/2"), message_id("v", "e/0/1")}) == 3
    assert "." not in message_id("w", "e/0/1")  # it is a part of what is signed, and parts are joined by dots
