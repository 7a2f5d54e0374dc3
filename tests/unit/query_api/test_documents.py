"""How documents stand in Redis: keys that cannot meet, values that come back, marks that say what counts."""

import random

from hypothesis import given
from hypothesis import strategies as st

from infra.documents import (
    COMPRESSED_FROM_BYTES,
    Document,
    Kind,
    Mark,
    Place,
    Written,
    decode,
    decode_mark,
    digest_of,
    encode,
)
from query_api.answers import Answer
from query_api.pages import decode_page, encode_page
from schemas.envelope import CommitMark

PART = st.text(max_size=20)
PLACE = st.builds(Place, st.just("everfold"), st.sampled_from(["orders", "stock-levels"]), st.integers(1, 99))


@given(
    PLACE, PART, st.lists(PART, min_size=1, max_size=3), PLACE, PART, st.lists(PART, min_size=1, max_size=3)
)
def test_different_rows_never_have_one_key(
    place: Place, tenant: str, key: list[str], other: Place, other_tenant: str, other_key: list[str]
) -> None:
    same = (place, tenant, key) == (other, other_tenant, other_key)
    assert (place.document(0, tenant, key) == other.document(0, other_tenant, other_key)) == same


@given(st.sampled_from(Kind), st.integers(0, 2**53), st.binary(min_size=32, max_size=32), st.binary())
def test_a_value_comes_back(kind: Kind, position: int, commit_hash: bytes, data: bytes) -> None:
    document = decode(encode(kind, CommitMark(position, commit_hash), data))
    assert document == Document(kind, position, commit_hash[:4].hex(), digest_of(data), data)


LARGE = st.builds(lambda part, times: part * times, st.binary(min_size=1, max_size=30), st.integers(0, 5_000))


@given(LARGE, st.booleans())
def test_large_data_comes_back_and_is_never_kept_larger_than_it_is(data: bytes, is_noise: bool) -> None:
    data = random.Random(len(data)).randbytes(len(data)) if is_noise else data
    value = encode(Kind.THERE, CommitMark(1, bytes(32)), data)
    document = decode(value)
    assert document is not None
    assert (document.kind, document.data, document.digest) == (Kind.THERE, data, digest_of(data))
    assert len(value) <= len(data) + 41
    if len(data) >= COMPRESSED_FROM_BYTES and not is_noise:
        assert len(value) < len(data)
    page = decode_page(encode_page(Answer(data, digest_of(data), 0, "", next_cursor="c")), 7, "0a1b2c3d")
    assert page == Answer(data, digest_of(data), 7, "0a1b2c3d", is_hit=True, next_cursor="c")


@given(st.one_of(st.none(), st.binary(max_size=60)))
def test_what_is_no_value_is_none_or_is_read_as_one(value: bytes | None) -> None:
    if value is None or len(value) < 41 or value[:1] not in b"dxp":
        assert decode(value) is None


@given(st.integers(0, 2**53), st.integers(0, 2**53), st.integers(0, 2**53))
def test_a_mark_comes_back(start: int, end: int, opened: int) -> None:
    mark = Mark(start, end, opened, "0a1b2c3d")
    assert decode_mark(mark.encode()) == mark


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_a_document_reflects_the_mark_or_itself_or_nothing(as_of: int, start: int, length: int) -> None:
    mark = Mark(start, start + length, start + length, "aaaaaaaa")
    document = Document(Kind.THERE, as_of, "bbbbbbbb", "", b"{}")
    reflected = document.reflects(mark)
    if as_of < start:
        assert reflected is None
    else:
        assert reflected is not None
        assert reflected[0] == max(as_of, mark.end)
        assert reflected[1] == ("bbbbbbbb" if as_of >= mark.end else "aaaaaaaa")


def test_a_row_is_there_gone_or_parked() -> None:
    as_of = CommitMark(1, bytes(32))
    kinds = [
        decode(written.value(as_of))
        for written in (
            Written("t", ("A",), b"{}"),
            Written("t", ("A",), None),
            Written("t", ("A",), b"{}", parked=True),
        )
    ]
    assert [document.kind for document in kinds if document] == [Kind.THERE, Kind.GONE, Kind.PARKED]
