"""The FastAPI application around declared routes: both are answered, each by its own."""

from typing import Any

import httpx2

from infra.application import Application
from infra.edge import Edge
from infra.http import Reply, Request, Router, json_reply


def client_of(application: object) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=application), base_url="http://test")  # type: ignore[arg-type]


async def declared(request: Request) -> Reply:
    return json_reply({"declared": True})


async def test_declared_routes_and_a_teams_own_are_answered_side_by_side() -> None:
    router = Router()
    router.add("GET", "/v1/things/{thing_id}", declared)
    application = Application(Edge(router))

    @application.get("/own/{number}")
    async def own(number: int) -> dict[str, int]:
        return {"number": number}

    async with client_of(application) as client:
        assert (await client.get("/v1/things/T1")).json() == {"declared": True}
        assert (await client.get("/own/7")).json() == {"number": 7}


async def test_what_nobody_declared_is_a_problem_document() -> None:
    async with client_of(Application(Edge(Router()))) as client:
        answer = await client.get("/nowhere")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_middleware_of_a_team_is_around_the_declared_routes_too() -> None:
    router = Router()
    router.add("GET", "/v1/things/{thing_id}", declared)
    application = Application(Edge(router))

    @application.middleware("http")
    async def mark(request: Any, go_on: Any) -> Any:
        answer = await go_on(request)
        answer.headers["x-own"] = "1"
        return answer

    async with client_of(application) as client:
        assert (await client.get("/v1/things/T1")).headers["x-own"] == "1"
