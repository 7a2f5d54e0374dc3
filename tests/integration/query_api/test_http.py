"""What every query's route does besides its answer: who may ask, what is refused, what is described."""

from typing import Any

import pytest

from tests.integration.query_api.live import served
from tests.integration.query_api.readside import TENANT, ReadSideUnderTest
from tests.raw_http import RawConnection


def problem(response: Any) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["type"].removeprefix("/problems/")


async def test_who_shows_no_token_or_a_bad_one_is_not_known(side: ReadSideUnderTest) -> None:
    for authorization in ("", "Bearer nonsense", "Basic eA=="):
        response = await side.client.get("/v1/accounts", headers={"authorization": authorization})
        assert problem(response) == (401, "unauthenticated")


async def test_any_role_of_the_tenant_may_ask_but_none_is_not_enough(side: ReadSideUnderTest) -> None:
    api = side.api
    assert (await side.client_of(api, roles=["warehouse"]).get("/v1/accounts")).status_code == 200
    assert problem(await side.client_of(api, roles=[]).get("/v1/accounts")) == (403, "forbidden")
    platform = side.client_of(api, tenant=None, roles=["operator"])
    assert problem(await platform.get("/v1/accounts")) == (403, "forbidden")


async def test_history_is_for_auditors_and_status_for_operators(side: ReadSideUnderTest) -> None:
    auditor = side.client_of(side.api, roles=["auditor"])
    operator = side.client_of(side.api, tenant=None, roles=["operator"])

    assert (await auditor.get("/v1/history")).status_code == 200
    assert problem(await side.client.get("/v1/history")) == (403, "forbidden")
    assert (await side.client.get("/v1/history")).json()["permission"] == "auditor"
    assert (await operator.get("/v1/status")).status_code == 200
    assert problem(await auditor.get("/v1/status")) == (403, "forbidden")


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("*/*", 200),
        ("application/json", 200),
        ("text/html, application/json;q=0.5", 200),
        ("application/*", 200),
        ("text/html", 406),
        ("application/json;q=0, text/html", 406),
        ("application/json;q=0, */*", 406),
        ("text/html, */*;q=0.1", 200),
    ],
)
async def test_json_is_what_there_is(side: ReadSideUnderTest, accept: str, status: int) -> None:
    response = await side.client.get("/v1/accounts", headers={"accept": accept})
    assert response.status_code == status


async def test_other_methods_are_refused_by_name_and_head_and_options_answer(side: ReadSideUnderTest) -> None:
    await side.open_account("A-1")
    await side.apply()
    got = await side.client.get("/v1/accounts/A-1")
    head = await side.client.head("/v1/accounts/A-1")
    options = await side.client.options("/v1/accounts/A-1")
    post = await side.client.post("/v1/accounts/A-1", json={})

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == got.headers["etag"]
    assert head.headers["content-length"] == got.headers["content-length"]
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    assert problem(post) == (405, "method-not-allowed")
    assert problem(await side.client.get("/v1/nothing")) == (404, "not-found")


async def test_a_document_takes_no_parameters_but_as_of(side: ReadSideUnderTest) -> None:
    response = await side.client.get("/v1/accounts/A-1?limit=5")
    assert problem(response) == (422, "invalid")
    assert response.json()["errors"] == [{"pointer": "/limit", "message": "there is no such parameter"}]
    token = await side.open_account("A-1")
    both = await side.client.get(
        "/v1/accounts/A-1", params={"as_of": token}, headers={"everfold-position": token}
    )
    assert problem(both) == (422, "invalid")


async def test_the_api_describes_itself(side: ReadSideUnderTest) -> None:
    document = (await side.client.get("/openapi.json")).json()

    assert document["openapi"] == "3.1.0"
    listing = document["paths"]["/v1/accounts"]["get"]
    names = {parameter["name"] for parameter in listing["parameters"]}
    assert {"limit", "cursor", "sort", "below_cents", "account_id", "Everfold-Position", "Prefer"} <= names
    assert listing["responses"]["200"]["content"]["application/json"]["example"]["next"] is None
    assert {"400", "401", "403", "404", "406", "410", "412", "422", "503"} <= listing["responses"].keys()
    assert "/v1/history" in document["paths"]
    assert document["security"] == [{"token": []}]
    explained = await side.client.get("/problems/projection-behind")
    assert explained.json()["status"] == 412


async def test_metrics_count_queries_and_hits(side: ReadSideUnderTest) -> None:
    await side.open_account("A-1")
    await side.apply()
    await side.client.get("/v1/accounts/A-1")
    page = (await side.client.get("/metrics")).text

    assert 'everfold_query_requests_total{query="get-account",status="200"}' in page
    assert 'everfold_query_cache_total{cache="hit",query="get-account"}' in page


async def test_a_read_side_that_is_away_is_said_so_and_comes_back(side: ReadSideUnderTest) -> None:
    assert (await side.client.get("/readyz")).status_code == 200
    await side.open_account("A-1")
    await side.apply(to_cache=False)
    primary = side.api.parts.servers.primary
    connections = primary._connections
    primary._connections = type(connections)("postgresql://nobody@127.0.0.1:1/nothing", size_max=2)

    away = await side.client.get("/v1/accounts/A-1")
    ready = await side.client.get("/readyz")
    primary._connections = connections

    assert problem(away) == (503, "store-unavailable")
    assert away.headers["retry-after"] == "1"
    assert ready.status_code == 503
    assert (await side.client.get("/v1/accounts/A-1")).status_code == 200
    assert (await side.client.get("/livez")).status_code == 200


async def test_an_answer_that_is_not_modified_has_no_body_and_its_connection_goes_on(
    side: ReadSideUnderTest,
) -> None:
    await side.open_account("A-1")
    await side.apply()
    async with served(side.api) as url:
        connection = RawConnection("127.0.0.1", int(url.rpartition(":")[2]), side.token(TENANT, ["viewer"]))
        first = await connection.request("GET", "/v1/accounts/A-1")
        known = {"if-none-match": first.headers["etag"]}
        second = await connection.request("GET", "/v1/accounts/A-1", headers=known)
        third = await connection.request("GET", "/v1/accounts/A-1")
        connection.close()
    assert (first.status, second.status, third.status) == (200, 304, 200)
    assert {"content-length", "transfer-encoding"}.isdisjoint(second.headers)
    assert second.headers["everfold-position"] == first.headers["everfold-position"]
    assert third.body == first.body
