"""The typed client, and a server that answers as it is told: what is tried again, what is told, when is it given up."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from client.http import Client, Command, ServerAway
from client.live import follow
from tests.load import Request, run_clients
from tests.toy import AccountView

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def accepted(position: str = "p1.0.1.aaaaaaaa.bb") -> Answer:
    async def answer(request: web.Request) -> web.Response:
        facts = {"stream": "accounts/A", "version": 1, "position": position, "events": [{"id": "E-1"}]}
        return web.json_response(facts, headers={"Everfold-Position": position})

    return answer


def problem(status: int, name: str, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        facts = {"type": f"/problems/{name}", "title": name, "status": status, "detail": f"it is {name}"}
        return web.json_response(facts, status=status, headers=headers)

    return answer


def items(*statuses: int) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        results = [
            {"status": status, "version": 1, "position": "p"}
            if status == 200
            else {"status": status, "problem": {"type": "/problems/busy"}}
            for status in statuses
        ]
        return web.json_response({"results": results})

    return answer


async def cut(request: web.Request) -> web.Response:
    """Take the request in, and hang up."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def never(request: web.Request) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()


@dataclass
class Script:
    """A server: its answers in turn, the last one for ever; and what it was asked."""

    answers: list[Answer]
    asked: list[tuple[str, Mapping[str, str], bytes]] = field(default_factory=list)
    at_once: int = 0
    at_once_max: int = 0

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((str(request.rel_url), request.headers, await request.read()))
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        try:
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            return await answer(request)
        finally:
            self.at_once -= 1

    def keys(self) -> list[str]:
        return [headers["Idempotency-Key"] for _, headers, _ in self.asked]


@asynccontextmanager
async def serving(*answers: Answer, **options: Any) -> AsyncIterator[tuple[Script, Client]]:
    script = Script(list(answers))
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", script.take)
    async with TestServer(application) as server:
        url = str(server.make_url("/"))
        given = {"retry_seconds_max": 20.0, "pause_seconds_max": 0.01, **options}
        async with Client(command_url=url, query_url=url, token="T", **given) as client:
            yield script, client


DEPOSIT = ("/v1/accounts/A/deposit", {"cents": 1})


async def test_a_lost_answer_is_asked_for_again_with_the_same_key() -> None:
    async with serving(cut, never, problem(503, "draining"), accepted(), answer_seconds_max=0.2) as (
        script,
        client,
    ):
        result = await client.post(*DEPOSIT, key="K-1")
    assert (result.accepted, result.attempts, result.facts["events"]) == (True, 4, [{"id": "E-1"}])
    assert script.keys() == ["K-1"] * 4
    assert {(path, body) for path, _, body in script.asked} == {(DEPOSIT[0], b'{"cents":1}')}


@pytest.mark.parametrize(
    ("status", "name"),
    [(409, "insufficient-funds"), (412, "wrong-expected-version"), (401, "unauthenticated")],
)
async def test_a_refusal_is_an_answer_and_not_asked_for_again(status: int, name: str) -> None:
    async with serving(problem(status, name)) as (script, client):
        result = await client.post(*DEPOSIT, key="K-1")
    assert (result.accepted, result.status, result.problem, len(script.asked)) == (False, status, name, 1)


async def test_what_no_server_of_ours_says_is_told_as_it_is() -> None:
    async def gateway(request: web.Request) -> web.Response:
        return web.Response(status=403, text="<h1>no</h1>")

    async with serving(gateway) as (_, client):
        result = await client.post(*DEPOSIT, key="K-1")
    assert (result.status, result.facts) == (403, {"detail": "<h1>no</h1>"})


async def test_who_gives_up_says_how_often_it_asked() -> None:
    async with serving(problem(503, "draining"), retry_seconds_max=0.2) as (script, client):
        with pytest.raises(ServerAway) as away:
            await client.post(*DEPOSIT, key="K-1")
    assert away.value.attempts == len(script.asked) > 1
    assert away.value.problem == "503 it is draining"


async def test_a_server_that_asks_for_a_pause_is_given_it_up_to_a_bound() -> None:
    for pause_seconds_max, expected in ((2.0, 0.5), (0.1, 0.1)):
        answers = problem(429, "too-many-requests", **{"Retry-After": "0.5"}), accepted()
        async with serving(*answers, pause_seconds_max=pause_seconds_max) as (_, client):
            client._growing = lambda state: 0.0  # type: ignore[assignment]  # only what the server asks for
            began = time.monotonic()
            assert (await client.post(*DEPOSIT, key="K-1")).attempts == 2
            assert expected <= time.monotonic() - began < expected + 0.4


async def test_there_are_no_more_connections_than_wanted() -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.02)
        return await accepted()(request)

    async with serving(slow, connections_max=3) as (script, client):
        await asyncio.gather(*(client.post(*DEPOSIT, key=f"K-{number}") for number in range(12)))
    assert script.at_once_max == 3


def deposits(*keys: str) -> list[Command]:
    return [Command("accounts.deposit", {"account_id": "A"}, {"cents": 1}, key) for key in keys]


async def test_of_a_batch_only_what_was_put_off_is_sent_again() -> None:
    async with serving(items(200, 503, 409), items(200)) as (script, client):
        results = await client.send(deposits("K-1", "K-2", "K-3"))
    assert [result.status for result in results] == [200, 200, 409]
    (again,) = json.loads(script.asked[1][2])["commands"]
    assert again["idempotency_key"] == "K-2"


async def test_what_is_put_off_for_too_long_is_no_refusal() -> None:
    async with serving(items(503), retry_seconds_max=0.1) as (_, client):
        with pytest.raises(ServerAway):
            await client.send(deposits("K-1"))


async def test_a_position_goes_along_and_parameters_are_written_as_addresses_have_them() -> None:
    async def page(request: web.Request) -> web.Response:
        return web.json_response({"items": [], "next": None})

    async with serving(accepted("p1.0.7.aaaaaaaa.bb"), page) as (script, client):
        await client.post(*DEPOSIT, key="K-1")
        await client.get("/v1/orders", {"status": ["a", "b&c"], "is_open": True, "site_id": None, "limit": 5})
    address, headers, _ = script.asked[1]
    assert address == "/v1/orders?status=a&status=b%26c&is_open=true&limit=5"
    assert headers["Everfold-Position"] == "p1.0.7.aaaaaaaa.bb"
    assert headers["Authorization"] == "Bearer T"


async def test_a_document_of_a_stream_may_be_long_and_hold_any_character() -> None:
    """Only a line feed ends a line; U+2028 and its like stand in JSON as they are."""
    account = "A\u2028\u2029\x85" + "x" * 300_000

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        row = {"account_id": account, "stream": "accounts/A", "version": 1, "balance_cents": 1}
        facts = {"view": "accounts", "key": "A", "version": 1, "position": "p", "document": row}
        data = orjson.dumps(facts).decode()
        await response.write(f"id: m-1\nevent: change\ndata: {data}\n\n".encode())
        return response

    async with (
        serving(stream) as (_, client),
        aclosing(follow(client, {"accounts": AccountView})) as messages,
    ):
        message = await anext(messages)
    assert message.document is not None
    assert (message.document.account_id, message.mark) == (account, "m-1")


async def test_the_ledger_of_a_load_tells_what_is_known_of_each_command() -> None:
    by_key = {
        "good": accepted(),
        "late": problem(504, "outcome-unknown"),
        "bad": problem(409, "insufficient-funds"),
        "broken": problem(500, "internal"),
    }

    async def answer(request: web.Request) -> web.StreamResponse:
        return await by_key[request.headers["Idempotency-Key"]](request)

    keys = list(by_key)
    async with serving(answer) as (script, client):
        ledger = await run_clients(
            url=client._command_url,
            token="T",
            clients=2,
            next_request=lambda one, number: (
                Request(*DEPOSIT, keys[2 * one + number]) if number < 2 else None
            ),
            give_up_after_seconds=0.3,
        )
    assert ledger.acknowledged == {"good": ["E-1"]}
    assert ledger.rejected == {"bad": "insufficient-funds"}
    assert ledger.unknown == {"late": "504 it is outcome-unknown", "broken": "500 internal"}
    assert (len(ledger.latencies_seconds), ledger.attempts) == (1, len(script.asked))
