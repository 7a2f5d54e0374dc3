"""Commands over HTTP as contract.md, section 5, says, over a real log."""

import orjson
import pytest

from tests.integration.command_api.clients import TENANT, Api, batch, command


async def test_a_command_answers_with_its_events_its_version_and_its_position(api: Api) -> None:
    answer = await api.post("accounts/A/open", {"owner": "Ann"})
    (event,) = await api.events()
    assert answer.status_code == 200
    assert answer.json() == {
        "stream": "accounts/A",
        "version": 1,
        "position": answer.headers["everfold-position"],
        "events": [
            {
                "id": event.id,
                "type": "AccountOpened",
                "schema_version": 1,
                "stream": "accounts/A",
                "version": 1,
            }
        ],
    }
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["content-type"] == "application/json"


async def test_the_answer_has_the_events_data_when_it_is_preferred(api: Api) -> None:
    answer = await api.post("accounts/A/open", {"owner": "Ann"}, Prefer="return=representation")
    assert answer.json()["events"][0]["data"] == {"owner": "Ann"}
    assert answer.headers["preference-applied"] == "return=representation"


async def test_the_log_keeps_who_why_and_when(api: Api) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    body = {"owner": "Ann", "reason": "a new client", "occurred_at": "2020-02-29T12:00:00+01:00"}
    await api.post("accounts/A/open", body, traceparent=trace, X_Request_ID="r-1", Idempotency_Key="k-1")
    metadata = orjson.loads((await api.events())[0].metadata)
    assert metadata == {
        "actor": "ann",
        "roles": ["clerk"],
        "command": "accounts.open",
        "occurred_at": "2020-02-29T11:00:00Z",
        "correlation_id": "r-1",
        "reason": "a new client",
        "idempotency_key": "k-1",
        "traceparent": trace,
    }


async def test_a_repeat_is_the_first_answer_byte_for_byte_single_or_in_a_batch(
    api: Api, other_api: Api
) -> None:
    await api.open("A")
    first = await api.post("accounts/A/deposit", {"cents": 5}, Idempotency_Key="k")
    await api.post("accounts/A/deposit", {"cents": 9})
    for other in (api, other_api):
        again = await other.post("accounts/A/deposit", {"cents": 5}, Idempotency_Key='"k"')
        assert again.content == first.content
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["etag"] == first.headers["etag"]
        many = await other.post("commands", batch([command("deposit", cents=5, idempotency_key="k")]))
        (item,) = many.json()["results"]
        assert item == {"status": 200, "replayed": True, **first.json()}
    assert "idempotent-replayed" not in first.headers
    assert len(await api.events()) == 3


async def test_a_key_used_for_another_request_is_refused(api: Api) -> None:
    await api.open("A")
    await api.post("accounts/A/deposit", {"cents": 5}, Idempotency_Key="k")
    answer = await api.post("accounts/A/deposit", {"cents": 6}, Idempotency_Key="k")
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-key-reused")


async def test_the_expected_version_holds_or_the_answer_says_what_it_is(api: Api) -> None:
    created = await api.post("accounts/A/open", {"owner": "Ann"}, If_None_Match="*")
    assert created.status_code == 200
    assert (await api.post("accounts/A/deposit", {"cents": 1}, If_Match='"1"')).status_code == 200
    answer = await api.post("accounts/A/deposit", {"cents": 1}, If_Match='"1"')
    assert (answer.status_code, answer.json()["current_version"]) == (412, 2)
    assert answer.headers["everfold-position"]
    assert (await api.post("accounts/B/deposit", {"cents": 1}, If_Match="*")).status_code == 412


async def test_a_refusal_names_the_rule_and_says_what_the_decision_saw(api: Api) -> None:
    await api.open("A", cents=5)
    answer = await api.post("accounts/A/withdraw", {"cents": 6})
    problem = answer.json()
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["everfold-position"]
    assert (problem["type"], problem["rule"]) == ("/problems/insufficient-funds", "insufficient-funds")
    assert (problem["balance_cents"], problem["requested_cents"]) == (5, 6)
    assert (problem["instance"], len(problem["trace_id"])) == ("/v1/accounts/A/withdraw", 32)
    explained = await api.http.get(problem["type"])
    assert explained.json()["title"] == problem["title"]


async def test_a_command_without_fields_needs_no_body(api: Api) -> None:
    answer = await api.http.post("/v1/accounts/A/deposit", headers=api.token("clerk"))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/cents")


async def test_a_batch_is_decided_in_order_and_each_is_answered_by_itself(api: Api) -> None:
    answer = await api.post(
        "commands",
        batch(
            [
                command("open", owner="Ann", expected_version=0),
                command("deposit", cents=5),
                command("withdraw", cents=50),
                command("withdraw", cents=-1),
                {"command": "accounts.nonsense", "id": {}, "data": {}},
                command("close"),
                {
                    "command": "accounts.deposit",
                    "id": {"account_id": "A", "x": "y"},
                    "data": {"cents": 1},
                    "z": 1,
                },
                command("withdraw", cents=5, idempotency_key="k"),
            ]
        ),
    )
    results = answer.json()["results"]
    assert answer.status_code == 200
    assert [item["status"] for item in results] == [200, 200, 409, 422, 422, 403, 422, 200]
    assert [item.get("version") for item in results] == [1, 2, None, None, None, None, None, 3]
    assert results[3]["problem"]["errors"][0]["pointer"] == "/commands/3/data/cents"
    assert results[4]["problem"]["errors"][0]["pointer"] == "/commands/4/command"
    assert results[5]["problem"]["permission"] == "system"
    pointers = {error["pointer"] for error in results[6]["problem"]["errors"]}
    assert pointers == {"/commands/6/id/x", "/commands/6/z"}
    assert answer.headers["everfold-position"] == results[7]["position"]
    assert len(await api.events()) == 3


async def test_an_atomic_batch_is_all_or_none_and_its_first_problem_is_the_answer(api: Api) -> None:
    refused = await api.post(
        "commands",
        batch(
            [command("open", owner="Ann"), command("withdraw", cents=1), command("open", "B", owner="B")],
            atomic=True,
        ),
    )
    assert refused.status_code == 409
    assert refused.json()["pointer"] == "/commands/1"
    invalid = await api.post(
        "commands", batch([command("open", owner="Ann"), command("deposit", cents=0)], atomic=True)
    )
    assert invalid.json()["errors"][0]["pointer"] == "/commands/1/data/cents"
    assert await api.head() == 0
    accepted = await api.post(
        "commands",
        batch(
            [command("open", owner="Ann"), command("deposit", cents=1), command("withdraw", cents=1)],
            atomic=True,
        ),
    )
    assert [item["version"] for item in accepted.json()["results"]] == [1, 2, 3]


@pytest.mark.parametrize("header", ["Idempotency_Key", "If_Match", "If_None_Match"])
async def test_a_batch_has_no_conditions_of_its_own(api: Api, header: str) -> None:
    answer = await api.post("commands", batch([command("open", owner="Ann")]), **{header: "*"})
    assert answer.status_code == 400
    assert await api.head() == 0


async def test_nobody_sees_another_tenants_streams_or_keys(api: Api) -> None:  # S16
    await api.open("A", cents=5)
    foreign = api.token("clerk", tenant="globex")
    answer = await api.http.post("/v1/accounts/A/withdraw", json={"cents": 1}, headers=foreign)
    never = await api.http.post("/v1/accounts/Z/withdraw", json={"cents": 1}, headers=foreign)
    assert answer.status_code == never.status_code == 404
    alike = {"instance": None, "trace_id": None}
    assert answer.json() | alike == never.json() | alike
    assert await api.events("A", tenant="globex") == []
    assert len(await api.events("A", tenant=TENANT)) == 2
