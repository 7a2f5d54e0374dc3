"""Commands of a tenant that moves: refused while it is on its way, and answered as ever from where it then lives."""

from collections.abc import Iterator

import httpx2
import pytest

from event_store.postgres import PostgresLog
from infra.failpoints import FailpointReached, arm
from tests.integration.command_api.clients import PARTITIONS, TENANT, Api, batch, command

TRIES_MAX = 100


@pytest.fixture
def failpoints() -> Iterator[None]:
    """No failpoint stays armed."""
    yield
    arm("")


async def move(store_url: str, to: int) -> None:
    """Move the tenant as another process would."""
    async with PostgresLog({range(PARTITIONS): store_url}) as log:
        await log.move_tenant(TENANT, to)


async def until_taken(api: Api, path: str, cents: int, **headers: str) -> httpx2.Response:
    """Send a command again for as long as it is answered that the tenant is on its way."""
    for _ in range(TRIES_MAX):
        answer = await api.post(path, {"cents": cents}, **headers)
        if answer.status_code != 503:
            return answer
        assert answer.json()["type"] == "/problems/tenant-moving"
        assert int(answer.headers["retry-after"]) >= 1
    raise AssertionError("refused for ever")


async def test_a_repeat_from_before_the_move_is_the_first_answer_byte_for_byte(
    api: Api, store_url: str
) -> None:  # F55
    await api.open("A")
    first = await api.post("accounts/A/deposit", {"cents": 5}, Idempotency_Key="k")
    home = await api.log.partition_of(TENANT)
    await move(store_url, (home + 1) % PARTITIONS)
    later = await until_taken(api, "accounts/A/deposit", 9)
    assert (later.status_code, later.headers["etag"]) == (200, '"3"')
    again = await api.post("accounts/A/deposit", {"cents": 5}, Idempotency_Key="k")
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert (again.headers["etag"], again.headers["everfold-position"]) == (
        first.headers["etag"],
        first.headers["everfold-position"],
    )
    many = batch([command("deposit", cents=5, idempotency_key="k"), command("deposit", cents=1)])
    repeated, new = (await api.post("commands", many)).json()["results"]
    assert repeated == {"status": 200, "replayed": True, **first.json()}
    assert new["version"] == 4
    assert [event.version for event in await api.events()] == [1, 2, 3, 4]
    reused = await api.post("accounts/A/deposit", {"cents": 6}, Idempotency_Key="k")
    assert (reused.status_code, reused.json()["type"]) == (422, "/problems/idempotency-key-reused")


async def test_while_a_tenant_is_on_its_way_it_waits_and_nobody_else_does(
    api: Api, store_url: str, failpoints: None
) -> None:  # F55
    await api.open("A", cents=5)
    home = await api.log.partition_of(TENANT)
    arm("move.copied=raise")
    with pytest.raises(FailpointReached):
        await move(store_url, (home + 1) % PARTITIONS)
    arm("")
    for _ in range(2):
        refused = await api.post("accounts/A/deposit", {"cents": 1})
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/tenant-moving")
        assert int(refused.headers["retry-after"]) >= 1
    many = await api.post("commands", batch([command("deposit", cents=1), command("deposit", cents=2)]))
    assert [item["status"] for item in many.json()["results"]] == [503, 503]
    other = api.token("clerk", tenant="globex")
    answer = await api.http.post("/v1/accounts/A/open", json={"owner": "Bob"}, headers=other)
    assert answer.status_code == 200

    await move(store_url, (home + 1) % PARTITIONS)
    answer = await until_taken(api, "accounts/A/deposit", 1)
    assert (answer.status_code, answer.headers["etag"]) == (200, '"3"')
