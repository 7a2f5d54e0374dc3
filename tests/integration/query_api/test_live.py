"""Live streams: what is there first, then every change, over any number of connections."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infra.auth import issue_development_token
from tests.integration.query_api.live import Transcript, served, stream
from tests.integration.query_api.readside import TENANT, ReadSideUnderTest


@pytest.fixture
async def url(side: ReadSideUnderTest) -> AsyncIterator[str]:
    """The API's address."""
    async with served(side.api) as url:
        yield url


@pytest.fixture
def token(side: ReadSideUnderTest) -> str:
    """Somebody's who may look."""
    return side.token(TENANT, ["viewer"])


async def test_a_stream_says_what_is_there_and_then_what_changes(
    side: ReadSideUnderTest, url: str, token: str
) -> None:
    await side.open_account("A", 100)
    await side.open_account("B", 200)
    await side.apply()
    async with stream(url, token) as told:
        assert told.response.headers["content-type"].startswith("text/event-stream")
        first = await told.until("snapshot-end")
        assert {(message.event, message.key) for message in first[:-1]} == {
            ("snapshot", "A"),
            ("snapshot", "B"),
        }
        assert first[-1].id is not None
        position = await side.deposit("A", 7)
        await side.apply()
        message = await told.next()
        assert (message.event, message.key) == ("change", "A")
        facts = [message.data[name] for name in ("view", "key", "version", "position", "op")]
        assert facts == ["accounts", "A", 3, position, "put"]
        assert message.document["balance_cents"] == 107
        await side.close("B")
        await side.apply()
        message = await told.next()
        assert (message.key, message.data["op"], message.document) == ("B", "delete", None)


async def opened(told: Transcript) -> str:
    """Read what is there, and return the mark."""
    await told.until("snapshot-end")
    assert told.mark is not None
    return told.mark


async def test_f48_who_comes_back_with_a_mark_misses_nothing_and_is_told_nothing_twice(
    side: ReadSideUnderTest, url: str, token: str
) -> None:
    for name in "ABC":
        await side.open_account(name)
    await side.apply()
    async with stream(url, token) as told:
        await opened(told)
        await side.deposit("A", 1)
        await side.apply()
        mark = (await told.next()).id
    assert mark is not None
    await side.deposit("B", 2)
    await side.apply()
    await side.close("C")
    await side.deposit("B", 3)
    await side.apply()
    for given in ({"last_event_id": mark}, {}):
        path = "/v1/live?views=accounts" + ("" if given else f"&after={mark}")
        async with stream(url, token, path, **given) as told:
            found = [await told.next(), await told.next()]
            assert [(message.event, message.key, message.data["op"]) for message in found] == [
                ("change", "C", "delete"),
                ("change", "B", "put"),
            ]
            assert found[1].document["balance_cents"] == 105
            assert await told.says_nothing()


async def test_f48_rows_that_one_event_touches_are_told_one_by_one(
    side: ReadSideUnderTest, url: str, token: str
) -> None:
    """Each account is told once, wherever between two of them the connection is lost."""
    for number in range(5):
        await side.open_account(f"A{number}")
    await side.apply()
    async with stream(url, token) as told:
        mark = await opened(told)
    for number in range(5):
        await side.deposit(f"A{number}", 1)
    await side.apply()
    seen = []
    for _ in range(5):
        async with stream(url, token, last_event_id=mark) as told:
            message = await told.next()
            assert message.id is not None
            mark = message.id
            seen.append(message.key)
    assert seen == [f"A{number}" for number in range(5)]
    async with stream(url, token, last_event_id=mark) as told:
        assert await told.says_nothing()


async def test_f48_a_mark_that_is_too_old_is_answered_with_a_reset_and_what_is_there(
    side: ReadSideUnderTest, url: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await side.open_account("A")
    await side.apply()
    async with stream(url, token) as told:
        mark = await opened(told)
    monkeypatch.setattr("query_api.live.changes.RESUME_EVENTS_MAX", 10)
    for _ in range(20):
        await side.deposit("A")
    await side.apply()
    async with stream(url, token, last_event_id=mark) as told:
        found = await told.until("snapshot-end")
        assert [message.event for message in found] == ["reset", "snapshot", "snapshot-end"]
        assert found[1].document["balance_cents"] == 120


async def test_streams_begin_anew_when_another_generation_goes_live(
    side: ReadSideUnderTest, url: str, token: str
) -> None:
    await side.open_account("A")
    await side.apply()
    async with stream(url, token) as told:
        mark = await opened(told)
        await side.open_generation(2)
        await side.apply(generation=2)
        await side.swap(2)
        assert [m.event for m in await told.until("snapshot-end")] == ["reset", "snapshot", "snapshot-end"]
        await side.deposit("A", 5)
        await side.apply(generation=2)
        await told.change("A", balance_cents=105)
    async with stream(url, token, last_event_id=mark) as told:
        assert (await told.next()).event == "reset"


async def test_streams_begin_anew_when_rows_have_changed_without_an_event(
    side: ReadSideUnderTest, url: str, token: str
) -> None:
    """As after parked events were released, a row was mended, or personal data was erased."""
    await side.open_account("A")
    await side.apply()
    async with stream(url, token) as told:
        await opened(told)
        await side.pool.execute("UPDATE everfold.checkpoints SET revision = revision + 1")
        assert [m.event for m in await told.until("snapshot-end")] == ["reset", "snapshot", "snapshot-end"]


async def test_a_filter_lets_through_what_matches_and_says_what_matches_no_more(
    side: ReadSideUnderTest, url: str, token: str
) -> None:
    await side.open_account("POOR", 10)
    await side.open_account("RICH", 1_000)
    await side.apply()
    async with stream(url, token, "/v1/live?views=accounts&below_cents=100") as told:
        assert [m.key for m in (await told.until("snapshot-end"))[:-1]] == ["POOR"]
        await side.deposit("RICH", 1)
        await side.apply()
        assert await told.says_nothing()
    async with stream(url, token, "/v1/live?views=accounts&below_cents=100") as told:
        await opened(told)
        await side.deposit("POOR", 500)
        await side.open_account("NEW", 5)
        await side.apply()
        found = [await told.next(), await told.next()]
        assert [(m.key, m.data["op"]) for m in found] == [("POOR", "delete"), ("NEW", "put")]


async def test_a_filter_that_repeats_holds_for_any_of_its_values(
    side: ReadSideUnderTest, url: str, token: str
) -> None:
    for name in "ABC":
        await side.open_account(name)
    await side.apply()
    async with stream(url, token, "/v1/live?views=accounts&account_id=A&account_id=B") as told:
        assert {m.key for m in (await told.until("snapshot-end"))[:-1]} == {"A", "B"}


async def test_a_stream_is_of_the_tokens_tenant_alone(side: ReadSideUnderTest, url: str, token: str) -> None:
    await side.open_account("OURS")
    await side.open_account("THEIRS", tenant="other")
    await side.apply()
    await side.apply(tenant="other")
    async with stream(url, side.token("other", ["viewer"])) as theirs, stream(url, token) as ours:
        assert [m.key for m in (await theirs.until("snapshot-end"))[:-1]] == ["THEIRS"]
        mark = await opened(ours)
        await side.deposit("THEIRS", tenant="other")
        await side.apply(tenant="other")
        assert (await theirs.next()).key == "THEIRS"
        assert await ours.says_nothing()
    async with stream(url, side.token("other", ["viewer"]), last_event_id=mark) as theirs:
        assert theirs.response.status_code == 400


@pytest.mark.parametrize(
    ("path", "status", "pointer"),
    [
        ("/v1/live", 422, "/views"),
        ("/v1/live?views=", 422, "/views"),
        ("/v1/live?views=accounts,nothing", 422, "/views"),
        ("/v1/live?views=accounts&colour=red", 422, "/colour"),
        ("/v1/live?views=accounts&limit=5", 422, "/limit"),
        ("/v1/live?views=accounts&below_cents=few", 422, "/below_cents"),
        ("/v1/live?views=accounts&after=nonsense", 400, None),
    ],
)
async def test_what_a_stream_cannot_be_asked_for_is_refused(
    side: ReadSideUnderTest, url: str, token: str, path: str, status: int, pointer: str | None
) -> None:
    async with stream(url, token, path) as told:
        assert told.response.status_code == status
        assert told.response.headers["content-type"] == "application/problem+json"
        if pointer:
            assert told.response.json()["errors"][0]["pointer"] == pointer


async def test_a_stream_can_be_asked_to_begin_no_older_than_a_position(
    side: ReadSideUnderTest, url: str, token: str
) -> None:
    await side.open_account("A")
    await side.apply()
    position = await side.deposit("A", 11)
    async with stream(url, token, everfold_position=position, prefer="wait=0") as told:
        assert told.response.status_code == 412
    await side.apply()
    async with stream(url, token, everfold_position=position) as told:
        assert (await told.next()).document["balance_cents"] == 111


async def test_s39_subjects_and_tenants_have_so_many_streams_and_no_more(
    store_url: str, redis_url: str, tmp_path: Path
) -> None:
    limits: dict[str, Any] = {"live_streams_per_subject": 2, "live_streams_per_tenant": 3}
    async with ReadSideUnderTest(store_url, redis_url, tmp_path, **limits) as side, served(side.api) as url:
        ann, bob, zoe = (
            issue_development_token(side.settings, tenant=tenant, roles=["viewer"], subject=subject)
            for tenant, subject in ((TENANT, "ann"), (TENANT, "bob"), ("other", "ann"))
        )
        async with stream(url, ann), stream(url, ann), stream(url, zoe) as other:
            assert other.response.status_code == 200
            async with stream(url, ann) as third:
                assert third.response.status_code == 429
                assert third.response.json()["of"] == "subject"
                assert "retry-after" in third.response.headers
            async with stream(url, bob), stream(url, bob) as fourth:
                assert fourth.response.json()["of"] == "tenant"
        async with asyncio.timeout(10):
            while True:
                async with stream(url, ann) as again:
                    if again.response.status_code == 200:
                        break


async def test_a_stream_ends_when_the_token_does(
    side: ReadSideUnderTest, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.auth_claims.LEEWAY_SECONDS", 0)
    token = issue_development_token(side.settings, tenant=TENANT, roles=["viewer"], ttl_seconds=2)
    async with stream(url, token) as told:
        await opened(told)
        with pytest.raises(EOFError):
            await told.next()
    async with stream(url, token) as told:
        assert told.response.status_code == 401


async def test_a_sign_of_life_bears_the_mark(
    side: ReadSideUnderTest, url: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a mark does not grow old in a tenant where nothing happens."""
    monkeypatch.setattr("query_api.live.stream.HEARTBEAT_SECONDS", 0.2)
    await side.open_account("A")
    await side.apply()
    async with stream(url, token) as told:
        mark = await opened(told)
        assert await told.says_nothing(1.0)
        assert told.comments >= 2
        assert told.mark == mark


async def test_streams_end_when_the_process_is_about_to(side: ReadSideUnderTest, token: str) -> None:
    async with served(side.api) as url, stream(url, token) as told:
        await opened(told)
        side.api.edge.drain()
        with pytest.raises(EOFError):
            await told.next()


async def test_what_a_stream_refuses_to_be(side: ReadSideUnderTest, url: str, token: str) -> None:
    async with stream(url, token, accept="application/json") as told:
        assert told.response.status_code == 406
    async with stream(url, None) as told:
        assert told.response.status_code == 401
    async with stream(url, side.token(None, ["operator"])) as told:
        assert told.response.status_code == 403
    async with stream(url, side.token(TENANT, [])) as told:
        assert told.response.status_code == 403
