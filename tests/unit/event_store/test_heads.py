"""Signed heads: one form, and nothing in it can be changed unnoticed."""

import base64
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from event_store.heads import (
    Finding,
    Heads,
    HeadsUnreadable,
    parse_heads,
    read_heads,
    sign_heads,
    write_heads,
)
from infra.settings import Settings, load_settings
from infra.signing import SigningKey, checking_keys, signing_key
from schemas.envelope import CommitMark
from schemas.errors import BadDefinition

MADE_AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
HEADS = Heads("everfold", "log-1", 0, MADE_AT, {1: CommitMark(7, b"\1" * 32), 0: CommitMark(0, bytes(32))})
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
KEYS = {KEY.public.id: KEY.public}


def settings(folder: Path, **given: str) -> Settings:
    return load_settings(data_dir=folder, _env_file=None, **given)


def pem(key: Ed25519PrivateKey | X25519PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def test_the_document_is_fixed_for_ever() -> None:
    document = sign_heads(HEADS, KEY)
    assert document == (
        b'{"epoch":0,"format":"everfold-heads/1","heads":[{"hash":"'
        + b"00" * 32
        + b'","partition":0,"position":0},'
        b'{"hash":"' + b"01" * 32 + b'","partition":1,"position":7}],"key":"56475aa75463474c","log":"log-1",'
        b'"made_at":"2026-03-01T12:30:00Z","namespace":"everfold","signature":"' + SIGNATURE + b'"}\n'
    )


SIGNATURE = base64.urlsafe_b64encode(
    Ed25519PrivateKey.from_private_bytes(bytes(range(32))).sign(
        b'{"epoch":0,"format":"everfold-heads/1","heads":[{"hash":"'
        + b"00" * 32
        + b'","partition":0,"position":0},'
        b'{"hash":"' + b"01" * 32 + b'","partition":1,"position":7}],"key":"56475aa75463474c","log":"log-1",'
        b'"made_at":"2026-03-01T12:30:00Z","namespace":"everfold"}'
    )
)


def test_what_was_signed_is_read_and_holds() -> None:
    signed = parse_heads(sign_heads(HEADS, KEY))
    assert signed.heads == HEADS
    assert signed.fault(KEYS) is None
    assert signed.fault({OTHER.public.id: OTHER.public} | KEYS) is None, "one of several keys"


def test_another_form_of_the_same_document_says_the_same() -> None:
    pretty = orjson.dumps(orjson.loads(sign_heads(HEADS, KEY)), option=orjson.OPT_INDENT_2)
    assert parse_heads(pretty).fault(KEYS) is None


def test_a_key_that_is_not_among_ours_is_named() -> None:
    fault = parse_heads(sign_heads(HEADS, OTHER)).fault(KEYS)
    assert fault is not None
    assert fault.finding is Finding.UNKNOWN_KEY
    assert OTHER.public.id in fault.said


@settings_of_hypothesis(deadline=None)
@given(
    st.sampled_from(["epoch", "namespace", "log", "made_at", "position", "hash", "partition", "more"]),
    st.data(),
)
def test_nothing_can_be_changed_unnoticed(member: str, data: st.DataObject) -> None:
    document = orjson.loads(sign_heads(HEADS, KEY))
    match member:
        case "epoch":
            document[member] = data.draw(st.integers(1, 2**31))
        case "namespace" | "log" | "more":
            document[member] = data.draw(
                st.text(min_size=1).filter(lambda text: text != document.get(member))
            )
        case "made_at":
            document[member] = "2026-03-01T12:30:01Z"
        case "hash":
            other = st.binary(min_size=32, max_size=32).filter(lambda octets: octets != b"\1" * 32)
            document["heads"][1][member] = data.draw(other).hex()
        case _:
            document["heads"][1][member] += data.draw(st.integers(1, 1_000))
    fault = parse_heads(orjson.dumps(document)).fault(KEYS)
    assert fault is not None
    assert fault.finding is Finding.FORGED_SIGNATURE


def test_heads_in_anothers_name_are_forged() -> None:
    document = orjson.loads(sign_heads(HEADS, OTHER)) | {"key": KEY.public.id}
    fault = parse_heads(orjson.dumps(document)).fault(KEYS)
    assert fault is not None
    assert fault.finding is Finding.FORGED_SIGNATURE


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"x"',
        b'{"format": "everfold-heads/2"}',
        b"\xff",
        b"{" * 1000,
        b" " * 2**21,
    ],
)
def test_what_is_no_document_of_heads_is_said_to_be_none(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "heads.json"
    file.write_bytes(content)
    with pytest.raises(HeadsUnreadable, match=r"heads\.json"):
        read_heads(file)


def test_a_folder_keeps_a_series_and_the_newest_counts(tmp_path: Path) -> None:
    with pytest.raises(HeadsUnreadable):
        read_heads(tmp_path)
    for minute in (59, 3, 30):
        made_at = MADE_AT.replace(minute=minute)
        heads = Heads("everfold", "log-1", 0, made_at, {})
        write_heads(tmp_path, sign_heads(heads, KEY), made_at)
    assert len(list(tmp_path.iterdir())) == 3
    assert read_heads(tmp_path).heads.made_at.minute == 59


def test_a_development_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    first, again = signing_key(settings(tmp_path)), signing_key(settings(tmp_path))
    assert first.public.id == again.public.id
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(checking_keys(settings(tmp_path))) == [first.public.id]


def test_in_production_a_key_is_given_and_never_made(tmp_path: Path) -> None:
    with pytest.raises(BadDefinition, match="EVERFOLD_HEADS_KEY"):
        signing_key(settings(tmp_path, mode="production"))
    with pytest.raises(BadDefinition, match="EVERFOLD_HEADS_PUBLIC_KEYS"):
        checking_keys(settings(tmp_path, mode="production"))
    assert not list(tmp_path.iterdir())


def test_keys_are_pem_or_base64_and_former_ones_go_on_checking(tmp_path: Path) -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    former = base64.b64encode(OTHER.public.octets).decode().rstrip("=")
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    by_pem = settings(tmp_path, heads_key=pem(private), heads_public_keys=former)
    by_octets = settings(tmp_path, heads_key=base64.urlsafe_b64encode(bytes(range(32))).decode())
    of_checker = settings(tmp_path, mode="production", heads_public_keys=f"{former}, {public.decode()}")
    assert signing_key(by_pem).public.id == signing_key(by_octets).public.id == KEY.public.id
    assert set(checking_keys(by_pem)) == set(checking_keys(of_checker)) == {KEY.public.id, OTHER.public.id}


@pytest.mark.parametrize(
    "wrong", ["short", "AAAA", "!" * 43, "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----"]
)
def test_what_is_no_key_is_named_by_its_variable_and_never_shown(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(BadDefinition, match="EVERFOLD_HEADS_KEY") as refused:
        signing_key(settings(tmp_path, heads_key=wrong))
    assert wrong not in refused.value.detail()
    with pytest.raises(BadDefinition, match="EVERFOLD_HEADS_PUBLIC_KEYS"):
        checking_keys(settings(tmp_path, heads_public_keys=wrong))


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDefinition, match="Ed25519"):
        signing_key(settings(tmp_path, heads_key=pem(X25519PrivateKey.from_private_bytes(bytes(32)))))
