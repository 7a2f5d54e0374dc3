"""Two command APIs over one log: nobody overwrites, one key has one effect, and each stream is one chain."""

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.integration.command_api.clients import Api, api_over, batch, command
from tests.integration.command_api.proxy import proxy_to

ANSWER_SECONDS_MAX = 60


async def test_fifty_units_go_to_fifty_of_a_hundred_who_come_at_once(api: Api, other_api: Api) -> None:  # F07
    await api.open("A", cents=50)
    answers = await asyncio.wait_for(
        asyncio.gather(
            *((api, other_api)[number % 2].post("accounts/A/withdraw", {"cents": 1}) for number in range(100))
        ),
        ANSWER_SECONDS_MAX,
    )
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses == {200: 50, 409: 50}
    assert {answer.json().get("rule") for answer in answers if answer.status_code == 409} == {
        "insufficient-funds"
    }
    versions = sorted(answer.json()["version"] for answer in answers if answer.status_code == 200)
    assert versions == list(range(3, 53))
    assert [event.version for event in await api.events()] == list(range(1, 53))


async def test_one_key_ten_times_at_once_has_one_effect_and_ten_equal_answers(
    api: Api, other_api: Api
) -> None:  # F08
    await api.open("A")
    answers = await asyncio.gather(
        *(
            (api, other_api)[number % 2].post("accounts/A/deposit", {"cents": 5}, Idempotency_Key="k")
            for number in range(10)
        )
    )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert len(await api.events()) == 2


async def test_one_key_many_times_in_one_batch_has_one_effect(api: Api) -> None:  # F08
    await api.open("A")
    same = command("deposit", cents=5, idempotency_key="k")
    answer = await api.post(
        "commands", batch([same] * 10 + [command("deposit", cents=6, idempotency_key="k")])
    )
    results = answer.json()["results"]
    assert [item["status"] for item in results] == [200] * 10 + [422]
    assert [item["replayed"] for item in results[:10]] == [False] + [True] * 9
    assert len({item["position"] for item in results[:10]}) == 1
    assert len(await api.events()) == 2


async def test_a_key_keeps_its_answer_over_a_restart(api: Api, store_url: str, tmp_path: Path) -> None:  # F08
    await api.open("A")
    first = await api.post("accounts/A/deposit", {"cents": 5}, Idempotency_Key="k")
    await api.post("accounts/A/deposit", {"cents": 1})
    async with api_over(store_url, tmp_path) as restarted:
        again = await restarted.post("accounts/A/deposit", {"cents": 5}, Idempotency_Key="k")
    assert again.content == first.content


async def test_a_batch_that_another_process_writes_into_is_decided_on_what_is_true(
    api: Api, other_api: Api
) -> None:  # F06
    await api.open("A", cents=10)
    await other_api.post("accounts/A/withdraw", {"cents": 10})
    answer = await api.post(
        "commands",
        batch([command("withdraw", cents=10), command("deposit", cents=3), command("withdraw", cents=3)]),
    )
    results = answer.json()["results"]
    assert [item["status"] for item in results] == [409, 200, 200]
    assert results[0]["problem"]["balance_cents"] == 0
    assert [item.get("version") for item in results] == [None, 4, 5]


async def test_rival_transfers_from_two_processes_neither_make_nor_lose_money(
    api: Api, other_api: Api
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    accounts = ["A", "B", "C", "D"]
    await api.open(*accounts, cents=20)

    async def client(own: Api) -> list[httpx2.Response]:
        answers = []
        for _ in range(12):
            source, target = chance.sample(accounts, 2)
            body = {"to_account_id": target, "cents": chance.randint(1, 9)}
            answers.append(await own.post(f"accounts/{source}/transfer", body))
        return answers

    answers = await asyncio.wait_for(
        asyncio.gather(*(client(own) for own in (api, other_api) for _ in range(4))), ANSWER_SECONDS_MAX
    )
    assert {answer.status_code for mine in answers for answer in mine} <= {200, 409}
    balances = [await balance_of(api, account) for account in accounts]
    assert sum(balances) == 80
    assert min(balances) >= 0


async def balance_of(api: Api, account: str) -> int:
    """Return what an account holds, refusing any prefix below nothing."""
    from tests.toy.world import REGISTRY

    balance = 0
    for event in await api.events(account):
        for fact in REGISTRY.decode(event.type, event.schema_version, event.data):
            match event.type:
                case "Deposited":
                    balance += fact.cents  # type: ignore[attr-defined]  # a Deposited
                case "Withdrawn":
                    balance -= fact.cents  # type: ignore[attr-defined]  # a Withdrawn
        assert balance >= 0
    return balance


def is_append(part: bytes) -> bool:
    """Say whether a client's bytes carry an append's arguments, sent together with the Sync after them."""
    return b"AccountOpened" in part or b"Deposited" in part


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_connection_lost_around_the_commit_is_found_out_about(
    moment: str, store_url: str, tmp_path: Path
) -> None:  # F02
    async with proxy_to(store_url) as (proxy, address), api_over(address, tmp_path) as api:
        await api.open("A")
        for number in range(6):
            proxy.cuts = 0

            def once(part: bytes) -> bool:
                return proxy.cuts == 0 and is_append(part)

            proxy.cut_before, proxy.cut_after = (once, None) if moment == "before" else (None, once)
            answers = await asyncio.gather(
                *(
                    api.post("accounts/A/deposit", {"cents": 1}, Idempotency_Key=f"{number}-{index}")
                    for index in range(4)
                ),
                api.post("accounts/A/deposit", {"cents": 1}),
                api.post("accounts/A/withdraw", {"cents": 10_000}),
            )
            assert proxy.cuts == 1
            assert [answer.status_code for answer in answers] == [200] * 5 + [409]
            events = await api.events()
            assert len(events) == 1 + 5 * (number + 1)
            assert len({event.id for event in events}) == len(events)


async def test_a_store_that_is_away_is_told_and_its_return_is_noticed(store_url: str, tmp_path: Path) -> None:
    async with proxy_to(store_url) as (proxy, address), api_over(address, tmp_path) as api:
        await api.open("A")
        proxy.refuses = True
        proxy.cut_all()
        await until_ready(api, status=503)
        answer = await api.post("accounts/A/deposit", {"cents": 1})
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/store-unavailable")
        assert answer.headers["retry-after"] == "1"
        proxy.refuses = False
        assert (await api.post("accounts/A/deposit", {"cents": 1})).status_code == 200
        await until_ready(api, status=200)
        assert len(await api.events()) == 2


async def until_ready(api: Api, *, status: int) -> None:
    """Wait until the process says that it is ready, or that it is not."""
    async with asyncio.timeout(ANSWER_SECONDS_MAX):
        while (await api.http.get("/readyz")).status_code != status:
            await asyncio.sleep(0)


async def test_a_flooding_tenant_does_not_hold_up_its_neighbour(api: Api) -> None:  # F52
    await api.open("A")
    flood = [
        asyncio.create_task(api.post("commands", batch(command("deposit", cents=1) for _ in range(500))))
        for _ in range(12)
    ]
    await asyncio.sleep(0.05)
    neighbour = await api.http.post(
        "/v1/accounts/A/open", json={"owner": "Bob"}, headers=api.token("clerk", tenant="globex")
    )
    still_waiting = sum(not task.done() for task in flood)
    answers: list[Any] = await asyncio.wait_for(asyncio.gather(*flood), ANSWER_SECONDS_MAX)
    assert neighbour.status_code == 200
    assert still_waiting > 0
    statuses = Counter(item["status"] for answer in answers for item in answer.json()["results"])
    assert set(statuses) <= {200, 503}
    assert len(await api.events()) == 1 + statuses[200]
