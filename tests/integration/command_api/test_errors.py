"""Every error of the contract's table is reached over HTTP; none has changed anything, and each has its shape."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infra.http import Reply, Request
from infra.rate import RateLimiter
from schemas.errors import OutcomeUnknown, PositionLost, ProjectionBehind, StoreUnavailable
from tests.integration.command_api.clients import Api, api_in_memory, api_over, batch, command

DEEP = b'{"a":' * 40 + b"1" + b"}" * 40
BIG = b'{"owner": "' + b"x" * (1024 * 1024) + b'"}'

BAD_BODIES: dict[str, tuple[bytes, int]] = {
    "not JSON": (b"{", 400),
    "text after it": (b"{} {}", 400),
    "NaN": (b'{"owner": NaN}', 400),
    "duplicate names": (b'{"owner": "a", "owner": "b"}', 400),
    "too deep": (DEEP, 400),
    "far too deep": (b"[" * 1_000_000, 400),
    "not UTF-8": (b'{"owner": "\xff"}', 400),
    "byte order mark": (b'\xef\xbb\xbf{"owner": "a"}', 400),
    "UTF-16": ('{"owner": "a"}'.encode("utf-16"), 400),
    "lone surrogate": (b'{"owner": "\\ud800"}', 400),
    "over a mebibyte": (BIG, 413),
    "a list": (b"[]", 422),
    "NUL": (b'{"owner": "a\\u0000b"}', 422),
    "control characters": (b'{"owner": "a\\u001bb"}', 422),
    "unknown field": (b'{"owner": "a", "tenant_id": "globex"}', 422),
    "missing field": (b"{}", 422),
    "wrong type": (b'{"owner": 7}', 422),
    "an id in the body": (b'{"owner": "a", "account_id": "B"}', 422),
    "a long text": (b'{"owner": "' + b"x" * 1_001 + b'"}', 422),
    "a reason that is none": (b'{"owner": "a", "reason": 7}', 422),
    "a time without offset": (b'{"owner": "a", "occurred_at": "2020-01-01T00:00:00"}', 422),
    "infinity by exponent": (b'{"owner": 1e400}', 422),
}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """A command API without a database: nothing that is refused here gets as far as the log."""
    async with api_in_memory(tmp_path) as made:
        yield made


@pytest.fixture
async def durable(store_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    """A command API over PostgreSQL."""
    async with api_over(store_url, tmp_path) as made:
        yield made


@pytest.mark.parametrize(("body", "status"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_bad_bodies_are_problems_and_change_nothing(api: Api, body: bytes, status: int) -> None:
    answer = await api.raw("accounts/A/open", body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert await api.head() == 0


@pytest.mark.parametrize(
    "cents", ["-1", "0", "9007199254740993", "1.5", '"1"', "true", "null", "1e3", "9" * 30, "9" * 5_000]
)
async def test_quantities_outside_their_bounds_are_refused(api: Api, cents: str) -> None:
    await api.open("A")
    answer = await api.raw("accounts/A/deposit", f'{{"cents": {cents}}}'.encode())
    assert answer.status_code in (400, 422)
    assert len(await api.events()) == 1


@pytest.mark.parametrize("account", ["-A", "a b", "ä", "x" * 65, "a%2Fb", "%00", ".a", "a%0Ab"])
async def test_ids_outside_their_alphabet_are_refused(api: Api, account: str) -> None:
    answer = await api.raw(f"accounts/{account}/open", b'{"owner": "Ann"}')
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/account_id"
    assert await api.head() == 0


async def test_what_is_bad_in_a_batch_harms_no_neighbour(durable: Api) -> None:
    bad: list[Any] = [
        command("open", "B", owner="a\x00b"),
        command("deposit", cents=2**53 + 1),
        command("deposit", cents=-1),
        command("open", "-B", owner="Bob"),
        command("deposit", cents=1, idempotency_key="a b"),
        command("deposit", cents=1, expected_version=-1),
        command("deposit", cents=1, idempotency_key=7),
        "text",
        {"command": ["accounts.open"]},
        {"command": "accounts.deposit", "id": "A", "data": {}},
        {"command": "accounts.deposit", "id": {"account_id": "A"}, "data": []},
    ]
    answer = await durable.post(
        "commands", batch([command("open", owner="Ann"), *bad, command("deposit", cents=1)])
    )
    statuses = [item["status"] for item in answer.json()["results"]]
    assert statuses == [200, *[422] * len(bad), 200]
    for number, item in enumerate(answer.json()["results"][1:-1], 1):
        assert item["problem"]["errors"][0]["pointer"].startswith(f"/commands/{number}")
    assert len(await durable.events()) == 2


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ([], 422, ""),
        ({}, 422, "/commands"),
        ({"commands": []}, 422, "/commands"),
        ({"commands": {}}, 422, "/commands"),
        ({"commands": [command("open", owner="Ann")], "more": 1}, 422, "/more"),
        ({"commands": [command("open", owner="Ann")], "atomic": "yes"}, 422, "/atomic"),
        (batch(command("open", f"A{number}", owner="Ann") for number in range(1_001)), 422, "/commands"),
    ],
)
async def test_a_batch_that_is_none_is_refused_whole(api: Api, body: Any, status: int, pointer: str) -> None:
    answer = await api.post("commands", body)
    assert answer.status_code == status
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert await api.head() == 0


async def test_a_thousand_commands_fit_in_a_batch(durable: Api) -> None:
    commands = [
        command("open", f"A{number}", owner="Ann", idempotency_key=f"k{number}") for number in range(1_000)
    ]
    answer = await durable.post("commands", batch(commands))
    assert {item["status"] for item in answer.json()["results"]} == {200}
    assert await durable.head() == 1_000


async def test_a_batch_over_eight_mebibytes_is_too_large(api: Api) -> None:
    body = b'{"commands": ["' + b"x" * (8 * 1024 * 1024) + b'"]}'
    assert (await api.raw("commands", body)).status_code == 413


async def test_the_order_of_the_checks_gives_nothing_away(api: Api) -> None:
    nothing = await api.http.post("/v1/accounts/A/open", content=b"{", headers={"If-Match": "bad"})
    assert nothing.status_code == 401
    assert nothing.headers["www-authenticate"].startswith("Bearer")
    forbidden = await api.http.post("/v1/accounts/A/open", content=b"{", headers=api.token("viewer"))
    assert (forbidden.status_code, forbidden.json()["permission"]) == (403, "clerk")
    platform = await api.http.post(
        "/v1/accounts/A/open", json={"owner": "a"}, headers=api.token("admin", "clerk", tenant=None)
    )
    assert platform.status_code == 403
    assert (await api.raw("accounts/A/open", b"{", {"If-Match": "bad"})).status_code == 400
    assert (await api.raw("accounts/A/open", b"{}", {"Content-Encoding": "gzip"})).status_code == 415
    assert (await api.raw("accounts/A/open", b"{}", {"Content-Type": "text/plain"})).status_code == 415
    assert (await api.raw("accounts/A/open", b"{}", {"Accept": "text/html"})).status_code == 406
    assert (await api.raw("accounts/A/open", b"{}", {"Idempotency-Key": "a b"})).status_code == 400
    assert (await api.raw("accounts/A/deposit", b'{"cents": 1}', {"If-Match": '"3"'})).status_code == 412
    assert (await api.raw("accounts/A/deposit", b'{"cents": 1}')).status_code == 404
    assert await api.head() == 0


@pytest.mark.parametrize("verb", ["nonsense", "Open", "open/", "open;x"])
async def test_what_is_no_command_is_not_found(api: Api, verb: str) -> None:
    assert (await api.raw(f"accounts/A/{verb}", b"{}")).status_code == 404


async def test_a_command_is_posted(api: Api) -> None:
    answer = await api.http.get("/v1/accounts/A/open", headers=api.token("clerk"))
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_commands_of_the_system_are_nobodys_not_even_an_admins(api: Api) -> None:  # S15
    answer = await api.post("accounts/A/close", {}, "admin", "system")
    assert (answer.status_code, answer.json()["permission"]) == (403, "system")


async def test_long_addresses_and_headers_are_refused(api: Api) -> None:
    assert (await api.http.get("/v1/" + "x" * 9_000)).status_code == 414
    assert (await api.http.get("/v1/x", headers={"x-y": "x" * 20_000})).status_code == 431


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[Api]:
    """A command API that lets each caller ask twice."""
    async with api_in_memory(tmp_path, limiter=RateLimiter(0.1, burst=2)) as made:
        yield made


async def test_a_caller_over_its_rate_is_limited(limited: Api) -> None:  # S37
    answers = [await limited.post("accounts/A/open", {"owner": "Ann"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 409, 429]
    assert answers[2].json()["type"] == "/problems/rate-limited"
    assert int(answers[2].headers["retry-after"]) > 0
    assert answers[2].headers["ratelimit"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StoreUnavailable(), 503),
        (OutcomeUnknown(), 504),
        (PositionLost("p1"), 410),
        (ProjectionBehind("p1", 2.0), 412),
        (RuntimeError("password=secret at /srv/x.py"), 500),
    ],
)
async def test_errors_from_deep_inside_keep_their_shape(
    api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:  # S44
    async def fail(_request: Request) -> Reply:
        raise error

    api.api.edge._app.add("GET", "/broken", fail)  # type: ignore[attr-defined]  # the router behind the edge
    answer = await api.http.get("/broken")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert "/srv" not in answer.text


async def test_the_descriptions_need_no_token_and_load_nothing_from_outside(api: Api) -> None:
    page = await api.http.get("/docs")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in ("/docs/page.js", "/docs/style.css"):
        text = (await api.http.get(name)).text
        assert "http://" not in text
        assert "https://" not in text
    for name in ("/livez", "/readyz", "/metrics", "/openapi.json", "/problems"):
        assert (await api.http.get(name)).status_code == 200, name


async def test_a_store_without_our_tables_says_what_to_do_and_is_asked_again(
    store_url: str, tmp_path: Path
) -> None:
    async with api_over(store_url, tmp_path, namespace="nobody_made_it") as api:
        answer = await api.raw("accounts/A/open", b'{"owner": "Ann"}')
    assert answer.status_code == 503
    problem = answer.json()
    assert problem["type"].endswith("/store-unavailable")
    assert "everfold migrate" in problem["title"]
    assert "retry-after" in answer.headers
