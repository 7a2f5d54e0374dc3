"""Strings, numbers and nesting that some part of a system chokes on are answered with problems, and change nothing."""

from collections.abc import AsyncIterator

import orjson
import pytest
import pytest_asyncio

from infra.system import RunningSystem
from tests.acceptance.checks import events_in_log
from tests.raw_http import RawConnection
from tests.system import caught_up, facts

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),  # where the system's supervisor runs
    pytest.mark.parametrize("system", ["log"], indirect=True),
]

TENANT = "hostile"
PLACE, REGISTER = "/v1/orders/H-1/place", "/v1/items/H-1/register"
TEXTS = {
    "NUL": rb'"a\u0000b"', "raw NUL": b'"a\x00b"', "half a pair": rb'"\ud800"', "the other half": rb'"a\udc00b"',
    "pair the wrong way": rb'"\udc00\ud800"', "half a pair in UTF-8": b'"\xed\xa0\x80"', "not UTF-8": b'"\xff"',
    "escape": rb'"\u001b[2J"', "deep": b"[" * 5_000 + b"]" * 5_000, "very deep": b'{"a":' * 100_000,
}  # fmt: skip
NUMBERS = {
    "beyond 2^53": b"9007199254740993", "thirty digits": b"9" * 30, "a hundred thousand digits": b"9" * 100_000,
    "beyond a double": b"1e400", "tiny": b"1e-400", "not a number": b"NaN", "minus nothing": b"-0.0",
}  # fmt: skip
ORDER = (
    b'{"customer_id": "C", "site_id": "S", "lines": [{"line_no": 1, "item_id": "I", "quantity": %b, '
    b'"unit_price": {"amount": 1, "currency": "EUR"}}]}'
)
BODIES: dict[str, tuple[str, bytes]] = {
    **{f"name: {kind}": (REGISTER, b'{"name": %b}' % text) for kind, text in TEXTS.items()},
    **{f"a member: {kind}": (REGISTER, b'{"name": "a", %b: 1}' % text) for kind, text in TEXTS.items()},
    **{f"reason: {kind}": (REGISTER, b'{"name": "a", "reason": %b}' % text) for kind, text in TEXTS.items()},
    **{f"quantity: {kind}": (PLACE, ORDER % number) for kind, number in NUMBERS.items()},
}
QUESTIONS = (
    "/v1/items/%00", "/v1/items/a%00b", "/v1/items/%ED%A0%80", "/v1/items/%FF", "/v1/lots/I/%00/trace",
    "/v1/lots/I/%ED%A0%80/trace", "/v1/stock-levels/%00/%FF", "/v1/recalls/%F4%90%80%80",
    "/v1/orders?customer_id=%00", "/v1/orders?customer_id=%ED%A0%80", "/v1/orders?status=%00", "/v1/orders?sort=%00",
    "/v1/orders?limit=99999999999999999999", "/v1/orders?limit=1e400", "/v1/orders?cursor=%00",
    f"/v1/orders?limit={'9' * 5_000}", "/v1/orders?ordered_from=99999-01-01", "/v1/orders/O?as_of=%00",
    "/v1/orders/O?as_of=99999-01-01", "/v1/stock-levels?below=99999999999999999999", "/v1/lots?expiring_before=%00",
    "/v1/live?views=%00", "/v1/live?views=orders&customer_id=%00", "/v1/live?views=orders&after=%00",
     "/v1/history?stream=%00", "/v1/history?stream=items/%ED%A0%80",
    "/v1/history?actor=%00", "/v1/history?type=%00",
)  # fmt: skip
HEADERS: list[tuple[str, str, str, int]] = [
    ("/v1/orders", "everfold-position", "\x80", 400),
    ("/v1/orders", "everfold-position", "p" * 129, 400),
    ("/v1/orders", "everfold-position", "p1.9.zzzzzzzzzzzzzzzzzzzzzzzz.ffffffff.000000", 400),
    ("/v1/orders", "if-none-match", '"' * 1_000 + "\x80", 200),
    ("/v1/orders", "prefer", "wait=" + "9" * 30, 200),
    ("/v1/live?views=orders", "last-event-id", "\x80.AAAA", 400),
    ("/v1/live?views=orders", "last-event-id", "A" * 8_500, 400),
]


@pytest_asyncio.fixture(loop_scope="session")
async def commands(system: RunningSystem) -> AsyncIterator[RawConnection]:
    connection = RawConnection("127.0.0.1", system.ports["command-api"], system.token(tenant=TENANT))
    yield connection
    connection.close()


@pytest_asyncio.fixture(loop_scope="session")
async def queries(system: RunningSystem) -> AsyncIterator[RawConnection]:
    connection = RawConnection("127.0.0.1", system.ports["query-api"], system.token(tenant=TENANT))
    yield connection
    connection.close()


async def test_nothing_hostile_gets_into_the_log(  # S24
    system: RunningSystem, commands: RawConnection
) -> None:
    """Alone, and in a batch."""
    before = await events_in_log(system, TENANT)
    answered = {}
    for kind, (path, body) in BODIES.items():
        answer = await commands.request("POST", path, body)
        answered[kind] = answer.status
        assert orjson.loads(answer.body)["status"] == answer.status
    assert set(answered.values()) <= {400, 413, 422}, answered
    texts = [TEXTS["NUL"], TEXTS["escape"]]
    batch = b",".join(
        [
            b'{"command": "items.register", "id": {"item_id": "H-2"}, "data": {"name": %b}}' % text
            for text in texts
        ]
    )
    answer = await commands.request("POST", "/v1/commands", b'{"commands": [%b]}' % batch)
    assert [result["status"] for result in orjson.loads(answer.body)["results"]] == [422] * len(texts)
    assert await events_in_log(system, TENANT) == before


async def test_no_question_is_too_hostile_to_be_answered(queries: RawConnection) -> None:
    answered = {}
    for path in QUESTIONS:
        answer = await queries.request("GET", path)
        answered[path[:80]] = answer.status
        assert answer.headers.get("content-type") == "application/problem+json", (path, answer)
    assert set(answered.values()) <= {400, 404, 422}, answered


@pytest.mark.parametrize(("path", "name", "value", "status"), HEADERS, ids=range(len(HEADERS)))
async def test_a_hostile_header_is_a_bad_request_or_nothing(
    queries: RawConnection, path: str, name: str, value: str, status: int
) -> None:
    answer = await queries.request("GET", path, headers={name: value})
    assert answer.status == status, answer.body


async def test_the_largest_strings_that_are_allowed_come_back_as_they_were(
    system: RunningSystem, commands: RawConnection, queries: RawConnection
) -> None:
    """What may stand in a log and is rare: beyond the first plane, unassigned, right to left, lines of all kinds."""
    name = "\U0001f600\U0010ffff\uffff\u2028\u2029\u202e\ufeff\n\t" * 100
    body = orjson.dumps({"name": name, "list_price": {"amount": 2**53, "currency": "EUR"}})
    answer = await commands.request("POST", "/v1/items/H-3/register", body)
    assert answer.status == 200, answer.body
    await caught_up(system)
    answer = await queries.request("GET", "/v1/items/H-3")
    document = orjson.loads(answer.body)
    assert (document["name"], document["list_price"]["amount"]) == (name, 2**53)
    _, status = await facts(system, "status")
    assert status["dead_letters"] == 0
