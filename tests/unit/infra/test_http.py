"""The router and the edge: which handler, and what every request passes."""

from typing import Any

import httpx2
import pytest

from infra.edge import HEADER_BYTES_MAX, URI_BYTES_MAX, Edge
from infra.http import Reply, Request, Router, json_reply
from schemas.errors import NotFound


async def echo(request: Request) -> Reply:
    return json_reply({"path": request.path, **request.parameters})


def router() -> Router:
    made = Router()
    made.add("GET", "/v1/things/{thing_id}", echo)
    made.add("POST", "/v1/things/{thing_id}/break", echo)
    made.add("POST", "/v1/commands", echo)
    made.add("GET", "/v1/things/special", echo)
    return made


def client(app: Any, **headers: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app), base_url="http://everfold.test", headers=headers
    )


async def test_paths_find_their_handlers_and_parameters() -> None:
    async with client(Edge(router())) as http:
        assert (await http.get("/v1/things/T1")).json()["thing_id"] == "T1"
        assert "thing_id" not in (await http.get("/v1/things/special")).json()
        assert (await http.get("/v1/things/a%2Fb%20c")).json()["thing_id"] == "a/b c"
        assert (await http.head("/v1/things/T1")).content == b""


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/things/", "/v1//things/T1", "/v1/things/T1/", "/v1/things/%ff"]
)
async def test_what_is_not_a_route_is_not_found(path: str) -> None:  # S32
    async with client(Edge(router())) as http:
        answer = await http.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/not-found"


async def test_a_wrong_method_is_told_the_right_ones() -> None:
    async with client(Edge(router())) as http:
        answer = await http.post("/v1/things/T1")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"


async def test_a_route_is_declared_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        router().add("GET", "/v1/things/{other}", echo)


async def test_an_address_that_is_too_long_and_headers_that_are_too_many_are_refused() -> None:  # S29
    async with client(Edge(router())) as http:
        assert (await http.get("/v1/things/" + "x" * URI_BYTES_MAX)).status_code == 414
        assert (await http.get("/v1/things/T", headers={"x-big": "x" * HEADER_BYTES_MAX})).status_code == 431
        many = {f"x-{number}": "1" for number in range(200)}
        assert (await http.get("/v1/things/T", headers=many)).status_code == 431


@pytest.mark.parametrize("host", ["a b", "example/abc?x=", "user@host", "x" * 300])
async def test_a_host_that_is_none_is_refused(host: str) -> None:  # S31
    async with client(Edge(router())) as http:
        answer = await http.get("/v1/things/T", headers={"host": host})
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed-request")


async def test_a_token_in_an_address_is_refused() -> None:  # S10
    async with client(Edge(router())) as http:
        assert (await http.get("/v1/things/T?access_token=x")).status_code == 400


async def test_a_request_keeps_its_id_and_its_trace() -> None:
    async with client(Edge(router())) as http:
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        answer = await http.get("/nowhere", headers={"x-request-id": "abc", "traceparent": trace})
        assert answer.headers["x-request-id"] == "abc"
        assert answer.json()["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
        invented = await http.get("/nowhere", headers={"x-request-id": "a b", "traceparent": "00-00"})
        assert invented.headers["x-request-id"] != "a b"
        assert len(invented.json()["trace_id"]) == 32


async def test_an_unforeseen_error_says_nothing_about_itself() -> None:  # S44
    async def broken(_request: Request) -> Reply:
        raise RuntimeError("SELECT secret FROM host at /srv/app.py")

    made = Router()
    made.add("GET", "/broken", broken)
    async with client(Edge(made)) as http:
        answer = await http.get("/broken")
    assert answer.status_code == 500
    assert answer.json()["type"] == "/problems/internal"
    assert "secret" not in answer.text


async def test_only_configured_origins_may_read_answers() -> None:  # S42
    async with client(Edge(router(), cors_origins=["https://ours.test"])) as http:
        ours = await http.get("/v1/things/T", headers={"origin": "https://ours.test"})
        theirs = await http.get("/v1/things/T", headers={"origin": "https://theirs.test"})
        asked = await http.options(
            "/v1/commands", headers={"origin": "https://ours.test", "access-control-request-method": "POST"}
        )
    assert ours.headers["access-control-allow-origin"] == "https://ours.test"
    assert "access-control-allow-origin" not in theirs.headers
    assert asked.status_code == 204
    assert "idempotency-key" in asked.headers["access-control-allow-headers"].lower()


async def test_a_process_that_is_about_to_end_refuses_what_comes_late() -> None:  # F09
    edge = Edge(router())
    edge.draining = True
    async with client(edge) as http:
        answer = await http.get("/v1/things/T")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


async def test_a_header_that_may_stand_once_may_not_stand_twice() -> None:
    async def keyed(request: Request) -> Reply:
        return json_reply(request.text_header(b"idempotency-key"))

    made = Router()
    made.add("GET", "/keyed", keyed)
    async with client(Edge(made)) as http:
        twice = await http.get("/keyed", headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    assert twice.status_code == 400


async def test_errors_of_handlers_become_problems() -> None:
    async def missing(_request: Request) -> Reply:
        raise NotFound("order")

    made = Router()
    made.add("GET", "/missing", missing)
    async with client(Edge(made)) as http:
        answer = await http.get("/missing")
    assert (answer.status_code, answer.json()["what"]) == (404, "order")
    assert answer.headers["cache-control"] == "no-store"
