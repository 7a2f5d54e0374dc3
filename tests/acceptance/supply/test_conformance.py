"""Both APIs do what their OpenAPI documents say, as far as Schemathesis finds out in some seconds."""

import random
from pathlib import Path
from typing import Any

import httpx2
import pytest

from infra.system import RunningSystem
from tests.conformance import try_api

pytestmark = pytest.mark.asyncio(loop_scope="session")

TENANT = "conformance"
SECONDS = 15
LINE = {"line_no": 1, "item_id": "ITEM-1", "quantity": 5, "unit_price": {"amount": 100, "currency": "EUR"}}
COMMANDS: list[tuple[str, dict[str, str], dict[str, Any]]] = [
    ("sites.register", {"site_id": "SITE-1"}, {"name": "Main store", "time_zone": "Europe/Berlin"}),
    ("items.register", {"item_id": "ITEM-1"}, {"name": "Gloves"}),
    (
        "stock.receive",
        {"site_id": "SITE-1", "item_id": "ITEM-1"},
        {"quantity": 500, "lot": "LOT-1", "expires_on": "2030-12-31"},
    ),
    ("orders.place", {"order_id": "ORDER-1"}, {"customer_id": "C1", "site_id": "SITE-1", "lines": [LINE]}),
    (
        "recalls.issue",
        {"recall_id": "RECALL-1"},
        {"class": "II", "scope": [{"item_id": "ITEM-1", "lots": ["LOT-1"]}], "reason": "Seals"},
    ),
]
"""What the examples of the documents speak of, so that queries find something."""


async def fill(system: RunningSystem) -> None:
    """Carry out the commands, and wait until queries show it."""
    headers = {"authorization": f"Bearer {system.token(tenant=TENANT)}"}
    batch = {"commands": [{"command": name, "id": ids, "data": data} for name, ids, data in COMMANDS]}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as client:
        done = await client.post(f"{system.command_url}/v1/commands", json=batch)
        assert [result["status"] for result in done.json()["results"]] == [200] * len(COMMANDS), done.text
        fresh = {"everfold-position": done.headers["everfold-position"], "prefer": "wait=20"}
        trace = await client.get(f"{system.query_url}/v1/lots/ITEM-1/LOT-1/trace", headers=fresh)
        assert trace.status_code == 200, trace.text


@pytest.mark.timeout(240)
@pytest.mark.parametrize("system", ["log"], indirect=True)
@pytest.mark.parametrize("role", ["query-api", "command-api"])
async def test_an_api_does_what_its_document_says(system: RunningSystem, role: str, tmp_path: Path) -> None:
    if role == "query-api":  # the commands that are tried come later, and leave little as it was
        await fill(system)
    url = system.query_url if role == "query-api" else system.command_url
    seed = random.randrange(10**6)

    found = await try_api(url, system.token(tenant=TENANT), seconds=SECONDS, seed=seed, folder=tmp_path)

    assert not found, found


@pytest.mark.parametrize("system", ["log"], indirect=True)
async def test_what_operators_are_told_is_what_the_document_says(
    system: RunningSystem, tmp_path: Path
) -> None:
    token = system.token(tenant=None, roles=["operator"])

    found = await try_api(system.query_url, token, seconds=3, seed=1, folder=tmp_path, only="/v1/status")

    assert not found, found
