"""Messages to the outside world on a real log: signed, sent until they are taken, given up when they never are."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from command_api import courier
from command_api.courier import LOOK_SECONDS
from tests.integration.deliveries.conftest import Post
from tests.integration.deliveries.receiver import OTHER_SECRET, SECRET, Taken, receiving
from tests.integration.workflows.world import TENANT
from tests.toy import AccountOpened


async def test_a_message_says_what_and_when_and_is_signed(post: Post) -> None:
    await post.greet(1)
    async with post.world.workflows():
        await post.until("delivered", 1)
    (opened,) = await post.world.recorded(AccountOpened)
    (taken,) = post.receiver.taken
    assert taken.is_signed_with(SECRET)
    assert not taken.is_signed_with(OTHER_SECRET)
    assert taken.document == {
        "type": "toy.AccountGreeted.v1",
        "timestamp": opened.recorded_at.isoformat().replace("+00:00", "Z"),
        "tenant": TENANT,
        "data": {"account_id": "polite-1", "owner": "polite"},
    }
    assert taken.headers["content-type"] == "application/json"


async def test_while_a_secret_is_changed_messages_are_signed_with_both(post: Post) -> None:
    post.route(secrets=[OTHER_SECRET, SECRET])
    await post.greet(1)
    async with post.world.workflows():
        await post.until("delivered", 1)
    (taken,) = post.receiver.taken
    assert taken.is_signed_with(SECRET)
    assert taken.is_signed_with(OTHER_SECRET)


async def test_each_message_is_sent_once_while_nothing_goes_wrong(post: Post) -> None:
    await post.greet(*range(200))
    async with post.world.workflows(), post.world.workflows():
        await post.until("delivered", 200)
    assert len(post.receiver.ids) == len(set(post.receiver.ids)) == 200


async def test_whatever_is_not_a_yes_is_tried_again_with_the_same_key_and_body(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each message meets an answer of its own twice, and is taken the third time."""
    monkeypatch.setattr(courier, "PROBE_AFTER", 1_000)  # so many failures in a row would be a receiver's
    statuses = [0, 301, 400, 401, 404, 409, 429, 500, 503]
    times: Counter[str] = Counter()

    def answer(taken: Taken, number: int) -> int:
        times[taken.id] += 1
        account = int(taken.document["data"]["account_id"].partition("-")[2])
        return statuses[account] if times[taken.id] < 3 else 204

    post.receiver.answers = answer
    post.receiver.headers = f"Location: {post.receiver.url}/elsewhere\r\n"
    await post.greet(*range(len(statuses)))
    async with post.world.workflows():
        await post.until("delivered", len(statuses))
    assert set(times.values()) == {3}
    assert len(times) == len(statuses)
    assert len({(taken.id, taken.body, taken.path) for taken in post.receiver.taken}) == len(statuses)
    assert all(taken.is_signed_with(SECRET) for taken in post.receiver.taken)


async def test_a_redirect_is_not_followed(post: Post) -> None:
    """S34: nobody but the operator says where messages go, the receiver neither."""
    async with receiving() as elsewhere:
        post.receiver.answers = lambda taken, number: 307
        post.receiver.headers = f"Location: {elsewhere.url}\r\n"
        post.route(retry_seconds=[0.05])
        await post.greet(1)
        async with post.world.workflows():
            await post.until("dead", 1)
        assert elsewhere.taken == []
    assert [one["last_error"] for one in await post.messages()] == ["answered 307"]


@pytest.mark.parametrize("private", [False, True])
async def test_a_name_that_leads_inside_is_called_only_where_the_operator_says_so(
    post: Post, private: bool
) -> None:
    """S34: the address is looked at after the name is resolved."""
    named = post.receiver.url.replace("127.0.0.1", "localhost")
    post.route(webhook=named, private=private, retry_seconds=[0.05])
    await post.greet(1)
    async with post.world.workflows():
        await post.until("delivered" if private else "dead", 1)
    assert [taken.headers["host"] for taken in post.receiver.taken] == (
        [f"localhost:{post.receiver.port}"] if private else []
    )


async def test_what_is_never_taken_is_given_up_and_says_why(post: Post) -> None:
    post.receiver.answers = lambda taken, number: 500
    post.route(retry_seconds=[0.05, 0.05])
    await post.greet(1)
    async with post.world.workflows():
        await post.until("dead", 1)
    (message,) = await post.messages()
    assert (message["attempts"], message["last_error"]) == (3, "answered 500")
    assert len(post.receiver.taken) == 3


async def test_a_receiver_that_is_gone_for_good_is_asked_once(post: Post) -> None:
    post.receiver.answers = lambda taken, number: 410
    await post.greet(1)
    async with post.world.workflows():
        await post.until("dead", 1)
    assert len(post.receiver.taken) == 1


async def test_a_receiver_that_wants_to_be_left_alone_is(post: Post) -> None:
    post.receiver.answers = lambda taken, number: 503
    post.receiver.headers = "Retry-After: 3600\r\n"
    await post.greet(1)
    async with post.world.workflows():
        await post.world.until(lambda: _tried(post))
    wait = await post.world.fetch("SELECT extract(epoch FROM try_at - now()) FROM everfold.outgoing_messages")
    assert 3_500 < wait <= 3_600
    assert len(post.receiver.taken) == 1


async def test_who_asks_to_be_left_alone_is_sent_no_other_message_meanwhile(post: Post) -> None:
    at: list[float] = []

    def answer(taken: Taken, number: int) -> int:
        at.append(time.monotonic())
        return 429 if number == 1 else 200

    post.receiver.answers = answer
    post.receiver.headers = "Retry-After: 2\r\n"
    post.route(at_once=1)
    await post.greet(*range(5))
    async with post.world.workflows():
        await post.until("delivered", 5)
    assert at[1] - at[0] >= 1.9
    assert len(at) == 6


async def test_a_receiver_that_refuses_messages_is_there_and_is_sent_the_others(post: Post) -> None:
    """Of sixty it takes the last alone; nobody leaves it alone for the others."""
    post.receiver.answers = lambda taken, number: 200 if number == 60 else 422
    post.route(retry_seconds=[3_600.0], at_once=2)
    await post.greet(*range(60))
    async with post.world.workflows():
        await post.world.until(lambda: _is_any(post, "delivered"))
    assert len(set(post.receiver.ids)) == len(post.receiver.ids) == 60


async def _is_any(post: Post, state: str) -> bool:
    return any(one["state"] == state for one in await post.messages())


async def _tried(post: Post) -> bool:
    return any(one["last_error"] for one in await post.messages())


async def test_a_slow_receiver_counts_as_one_that_fails(post: Post) -> None:
    post.receiver.gate.clear()
    post.route(timeout_seconds=0.3, retry_seconds=[0.05] * 20)
    await post.greet(1)
    async with post.world.workflows():
        await post.world.until(lambda: _tried(post))
        (message,) = await post.messages()
        assert message["last_error"] == "no answer within 0.3 s"
        post.receiver.gate.set()
        await post.until("delivered", 1)
    assert len(set(post.receiver.ids)) == 1


async def test_a_slow_receiver_holds_up_nobody_else(post: Post) -> None:
    """A tenant with a channel of its own whose receiver hangs: the others' messages flow."""
    async with receiving() as slow:
        slow.gate.clear()
        own = {"tenant": "stuck", "webhook": slow.url, "secrets": [SECRET], "at_once": 2}
        post.write(own, {"webhook": post.receiver.url, "secrets": [SECRET]})
        await post.greet(*range(30), tenant="stuck")
        await post.greet(*range(30))
        async with post.world.workflows():
            await post.until("delivered", 30)
            assert {taken.document["tenant"] for taken in post.receiver.taken} == {TENANT}
            assert len(slow.taken) <= 2
            slow.gate.set()
            await post.world.until(lambda: _all_delivered(post, "stuck"))
    assert {taken.document["tenant"] for taken in slow.taken} == {"stuck"}
    assert len(set(slow.ids)) == 30


async def _all_delivered(post: Post, tenant: str) -> bool:
    return {one["state"] for one in await post.messages(tenant)} == {"delivered"}


async def test_a_receiver_that_is_away_is_asked_seldom(post: Post) -> None:
    """Of a hundred messages a few are tried, the others keep their attempts until it is back."""
    post.receiver.answers = lambda taken, number: 503
    post.route(retry_seconds=[0.01] * 20, at_once=4)
    await post.greet(*range(100))
    async with post.world.workflows():
        await post.world.until(lambda: _has_failed(post, 5))
        await asyncio.sleep(1.0)
        assert len(post.receiver.taken) <= 16
        post.receiver.answers = lambda taken, number: 200
        await post.until("delivered", 100)
    assert set(Counter(post.receiver.ids).values()) >= {1}


async def _has_failed(post: Post, times: int) -> bool:
    return len(post.receiver.taken) >= times


async def test_without_a_channel_a_message_is_kept_and_says_so(post: Post) -> None:
    post.file.write_text("")
    await post.greet(1)
    async with post.world.workflows():
        await post.until("unrouted", 1)
    (message,) = await post.messages()
    assert message["last_error"] == "no channel greetings is configured"


async def test_a_reaction_that_fails_has_told_nothing(post: Post) -> None:
    await post.greet(1, owner="shy")
    await post.greet(1, owner="stranger")
    async with post.world.workflows():
        await post.world.until_caught_up("concierge")
    assert await post.messages() == []
    parked = await post.world.pool.fetch("SELECT error FROM everfold.parked_events ORDER BY position")
    assert [row["error"].split(":")[0] for row in parked] == ["ValueError", "BadDefinition"]


async def test_old_messages_are_taken_away_and_dead_ones_stay(post: Post) -> None:
    post.receiver.answers = lambda taken, number: 410 if number == 1 else 200
    post.route(at_once=1)
    await post.greet(1, 2, 3)
    async with post.world.workflows():
        await post.world.until(lambda: _ended(post, 3))
    await post.world.pool.execute(
        "UPDATE everfold.outgoing_messages SET ended_at = ended_at - interval '8 days'"
    )
    async with post.world.workflows():
        await post.until("dead", 1)


async def _ended(post: Post, count: int) -> bool:
    return [one["state"] != "waiting" for one in await post.messages()] == [True] * count


async def test_looking_for_messages_costs_a_statement_now_and_then(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No storm: with nothing to send, the courier asks no more often than it says."""
    from command_api.outgoing import OutgoingMessages

    asked: list[Any] = []
    claim = OutgoingMessages.claim

    async def counted(self: OutgoingMessages, free: Any) -> Any:
        asked.append(free)
        return await claim(self, free)

    monkeypatch.setattr(OutgoingMessages, "claim", counted)
    await post.greet(1)
    async with post.world.workflows():
        await post.until("delivered", 1)
        before = len(asked)
        await asyncio.sleep(2 * LOOK_SECONDS)
        assert len(asked) - before <= 4
