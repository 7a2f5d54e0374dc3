"""What reactions were told, written down and read again."""

import pytest

from command_api.workflow_answers import note_read, note_refusal, read_until, refusal_of
from schemas.errors import BadDefinition, NotFound, VersionMismatch
from tests.toy import InsufficientFunds


@pytest.mark.parametrize(
    "error",
    [InsufficientFunds(5, requested_cents=9), NotFound("accounts/A"), VersionMismatch("accounts/A", 3)],
)
def test_a_refusal_is_read_back_as_it_was(error: InsufficientFunds | NotFound | VersionMismatch) -> None:
    again = refusal_of(note_refusal(error))
    assert type(again) is type(error)
    assert again.facts() == error.facts()


def test_a_refusal_that_is_no_longer_defined_is_named() -> None:
    with pytest.raises(BadDefinition, match="no-such-rule"):
        refusal_of(b'{"refused":"no-such-rule","facts":{}}')


def test_how_far_a_read_went_is_read_back() -> None:
    assert read_until(note_read(42)) == 42
