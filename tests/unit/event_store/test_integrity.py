"""The hashes are fixed for ever: logs that were written long ago are checked by them."""

from datetime import UTC, datetime
from hashlib import sha256

from event_store.integrity import commit_hash, leaf_hash, marks_of, micros
from schemas.envelope import RecordedEvent

AT = datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC)
EVENT = RecordedEvent(
    3, 42, "acme", "stock/S1/I1", 7, "01890a5d-ac96-774b-bcce-b302099a8057", "Größe", 1, b'{"a":1}', b"{}", AT
)


def test_a_leaf_is_the_hash_of_a_header_that_spells_everything_out() -> None:
    spelled = (
        "3:42:7:1:1769860800123456:4:11:7:7:2:01890a5d-ac96-774b-bcce-b302099a8057:"
        'acmestock/S1/I1Größe{"a":1}{}'
    )  # fmt: skip
    assert leaf_hash(EVENT, micros(AT)) == sha256(spelled.encode()).digest()


def test_a_commit_is_the_hash_of_the_one_before_its_place_and_its_leaves() -> None:
    leaves = [b"\1" * 32, b"\2" * 32]
    spelled = bytes(32) + b"3:41:42:1769860800123456:" + leaves[0] + leaves[1]
    assert commit_hash(bytes(32), 3, 41, 42, micros(AT), leaves) == sha256(spelled).digest()
    assert marks_of(leaves) == b"\1\1\1\1\2\2\2\2"


def test_moving_a_character_from_one_name_to_the_next_changes_the_leaf() -> None:
    moved = EVENT._replace(tenant="acm", stream="estock/S1/I1")
    assert leaf_hash(moved, micros(AT)) != leaf_hash(EVENT, micros(AT))
