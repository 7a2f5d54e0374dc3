"""The strict parser of bodies: what it refuses, where it points, and how long it takes at most."""

import time
from typing import Any

import pytest

from infra.http import ClientGone, Request
from infra.json_body import DEPTH_MAX, parse_json, read_body
from schemas.errors import MalformedRequest, TooLarge, UnsupportedMediaType

MILLION = 1_000_000


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{} x",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 01}',
        b'{"a": 1, "a": 2}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"x": {"a": 1, "a": 2}}',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b'{"a": "\x01"}',
        b"{'a': 1}",
        b"[" * MILLION,
        b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1),
        b'{"a":' * (DEPTH_MAX + 1) + b"1" + b"}" * (DEPTH_MAX + 1),
        b'[ "]", ' * (DEPTH_MAX + 1) + b"1" + b"]" * (DEPTH_MAX + 1),
        b'{"a": ' + b"9" * 100_000 + b"}",
        b'{"a": [' + b",".join([b"9" * 4_000] * 200) + b"]}",
    ],
    ids=lambda body: body[:24],
)
def test_what_is_not_strict_json_is_malformed_and_soon_said_to_be(body: bytes) -> None:  # S25
    started = time.perf_counter()
    with pytest.raises(MalformedRequest):
        parse_json(body)
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"",
        b"[" * DEPTH_MAX + b"]" * DEPTH_MAX,
        b'{"a": "' + b"]" * 100 + b'"}',
        b'{"a": ["[[[[", {"b": "\\"{{{{"}]}',
        b'{"a": "note: ' + b"9" * 399 + b'"}',
        b"[" + b",".join([b'{"a": [1, {"b": "x"}]}'] * 1_000) + b"]",
    ],
    ids=lambda body: body[:24],
)
def test_what_is_json_within_its_bounds_is_read(body: bytes) -> None:
    parse_json(body)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"a": "x\\u0000"}', "/a"),
        (b'{"a": [1, 9007199254740993]}', "/a/1"),
        (b'{"a": -9007199254740993}', "/a"),
        (b'{"a": 1e400}', "/a"),
        (b'{"a": {"b/c~d": 99999999999999999999}}', "/a/b~1c~0d"),
        (b'{"x\\u0000": 1}', ""),
    ],
)
def test_what_cannot_be_kept_is_invalid_where_it_stands(body: bytes, pointer: str) -> None:
    parsed = parse_json(body)
    assert [error["pointer"] for error in parsed.errors(parsed.value, "")] == [pointer]


@pytest.mark.parametrize(
    "body", [b'{"a": 9007199254740992}', b'{"a": "\\ud83d\\ude00 3e0"}', b'{"a": 1.5e10}']
)
def test_what_looks_suspicious_and_is_not_passes(body: bytes) -> None:
    parsed = parse_json(body)
    assert parsed.errors(parsed.value, "") == []


def test_a_body_of_many_names_takes_no_long_time() -> None:
    body = b"{" + b",".join(b'"k%d":1' % number for number in range(80_000)) + b"}"
    started = time.perf_counter()
    parse_json(body)
    assert time.perf_counter() - started < 2


def request(*messages: dict[str, Any], **headers: str) -> Request:
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": pairs}, receive)


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_arrives_in_parts() -> None:
    sent = request(part(b'{"a"', more=True), part(b": 1}"), content_type="application/json; charset=utf-8")
    assert await read_body(sent) == b'{"a": 1}'


async def test_a_body_that_says_it_is_too_long_is_refused_unread() -> None:
    with pytest.raises(TooLarge):
        await read_body(request(content_length="1048577", content_type="application/json"))


async def test_a_body_that_grows_too_long_is_refused_while_it_arrives() -> None:  # S26
    parts = [part(b"x" * 400, more=True) for _ in range(10)]
    with pytest.raises(TooLarge):
        await read_body(request(*parts, content_length="3", content_type="application/json"), bytes_max=1_000)


@pytest.mark.parametrize(
    "kind", ["text/plain", "multipart/form-data", "application/json; charset=utf-16", ""]
)
async def test_a_body_that_is_not_json_is_unsupported(kind: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        await read_body(request(part(b"{}"), content_type=kind))


async def test_a_compressed_body_is_unsupported_before_it_is_read() -> None:  # S27
    with pytest.raises(UnsupportedMediaType):
        await read_body(request(content_encoding="gzip", content_type="application/json"))


async def test_a_client_that_left_gets_no_answer() -> None:
    with pytest.raises(ClientGone):
        await read_body(
            request(part(b"{", more=True), {"type": "http.disconnect"}, content_type="application/json")
        )
