"""Operations over HTTP: an operator asks and is told where to look; nobody else may."""

from typing import Any

import httpx2
import pytest

from infra.auth import issue_development_token
from tests.integration.query_api.readside import ReadSideUnderTest

REPLAY = {"kind": "replay", "projections": ["account-balances"], "reason": "to see"}


@pytest.fixture
async def operator(side: ReadSideUnderTest) -> Any:
    token = issue_development_token(
        side.settings, tenant=None, roles=("operator",), subject="olga", ttl_seconds=600
    )
    async with side.client_of(side.api) as client:
        client.headers["authorization"] = f"Bearer {token}"
        yield client


async def test_an_operator_asks_looks_and_cancels(operator: httpx2.AsyncClient) -> None:
    asked = await operator.post("/v1/operations", json=REPLAY)
    assert asked.status_code == 202, asked.text
    document = asked.json()
    assert asked.headers["location"] == f"/v1/operations/{document['id']}"
    assert (document["state"], document["actor"], document["reason"]) == ("waiting", "olga", "to see")
    assert (await operator.get(asked.headers["location"])).json() == document
    assert [one["id"] for one in (await operator.get("/v1/operations")).json()["items"]] == [document["id"]]
    cancelled = await operator.delete(asked.headers["location"])
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
    again = await operator.delete(asked.headers["location"])
    assert (again.status_code, again.json()["state"]) == (202, "cancelled")


async def test_a_key_asks_once_and_not_for_something_else(operator: httpx2.AsyncClient) -> None:
    headers = {"idempotency-key": "k1"}
    first = await operator.post("/v1/operations", json=REPLAY, headers=headers)
    second = await operator.post("/v1/operations", json=REPLAY, headers=headers)
    assert first.json()["id"] == second.json()["id"]
    other = await operator.post("/v1/operations", json=REPLAY | {"verify": True}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-key-reused")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"kind": "replay", "projections": ["Orders!"]}, "/projections/0"),
        ({"kind": "replay", "colour": "red"}, "/colour"),
        ({"kind": "skip", "tenant": "demo", "id": 1}, "/reason"),
        ({"kind": "dance"}, ""),
    ],
)
async def test_what_cannot_be_asked_is_invalid(
    operator: httpx2.AsyncClient, body: dict[str, Any], pointer: str
) -> None:
    refused = await operator.post("/v1/operations", json=body)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_nobody_else_may(side: ReadSideUnderTest, operator: httpx2.AsyncClient) -> None:
    assert (await side.client.post("/v1/operations", json=REPLAY)).status_code == 403
    assert (await side.client.get("/v1/operations")).status_code == 403
    assert (await operator.get("/v1/operations/nonsense")).status_code == 404
    operator.headers.pop("authorization")
    assert (await operator.post("/v1/operations", json=REPLAY)).status_code == 401


async def test_status_tells_why_who_waits_waits(
    side: ReadSideUnderTest, operator: httpx2.AsyncClient
) -> None:
    await side.deposit("A-1")
    answer = await operator.get("/v1/status")
    assert answer.status_code == 200, answer.text
    (projection,) = answer.json()["projections"]
    assert projection["lag_events"] == 1
    assert projection["waiting_for"].startswith("a process: none holds partition")
