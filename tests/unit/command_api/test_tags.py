"""Rules over events by tag: what carries it may be in any stream, and is as safe against races as a stream. # F11"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from command_api.pipeline import Pipeline
from command_api.requests import Answer, CommandRequest
from event_store.memory import MemoryLog
from tests.toy import AccountNamed, CloseAccount, NameAccount
from tests.toy.world import (
    OTHER_TENANT,
    TroubledLog,
    ask,
    deposit,
    events_of,
    open_account,
    pipeline_over,
    slug,
    withdraw,
)


def name(account: str, alias: str, **conditions: Any) -> CommandRequest:
    """Return a request to name an account."""
    return ask(NameAccount(account_id=account, alias=alias), **conditions)


def close(account: str) -> CommandRequest:
    """Return a request to close an account."""
    return ask(CloseAccount(account_id=account))


@pytest.fixture
def log() -> TroubledLog:
    return TroubledLog()


@pytest.fixture
async def pipeline(log: TroubledLog) -> AsyncIterator[Pipeline]:
    async with pipeline_over(log) as pipeline:
        await pipeline.submit_many([open_account(account) for account in "ABCD"])
        log.appends.clear()
        yield pipeline


async def names(log: MemoryLog) -> list[tuple[str, str]]:
    """Return who was named what, in order."""
    page = await log.read_range(0, 1, 10_000)
    return [(event.stream, event.data.decode()) for event in page if event.type == AccountNamed.type]


async def all_at_once(pipeline: Pipeline, *requests: CommandRequest) -> list[Answer]:
    return await asyncio.gather(*(pipeline.submit(request) for request in requests))


async def test_a_tag_that_is_taken_is_refused_across_streams(pipeline: Pipeline) -> None:
    assert slug(await pipeline.submit(name("A", "x"))) is None
    refused = await pipeline.submit(name("B", "x"))
    assert (slug(refused), refused.error and refused.error.facts()["account_id"]) == ("alias-taken", "A")
    again = await pipeline.submit(name("A", "x"))
    assert (slug(again), list(again.events)) == (None, [])
    assert slug(await pipeline.submit(name("B", "y"))) is None


async def test_what_is_given_back_can_be_taken_again(pipeline: Pipeline) -> None:
    for request in (name("A", "x"), close("A"), name("B", "x")):
        assert slug(await pipeline.submit(request)) is None
    assert slug(await pipeline.submit(name("C", "x"))) == "alias-taken"


async def test_of_rivals_in_one_batch_the_first_wins(pipeline: Pipeline, log: TroubledLog) -> None:
    answers = await all_at_once(pipeline, *(name(account, "x") for account in "BACD"))
    assert [slug(answer) for answer in answers] == [None, *["alias-taken"] * 3]
    assert await names(log) == [("accounts/B", '{"alias":"x"}')]


async def test_commands_of_one_request_are_decided_on_each_others_tags(
    pipeline: Pipeline, log: TroubledLog
) -> None:
    answers = await pipeline.submit_many(
        [name("A", "x"), deposit("D"), name("B", "x"), close("A"), name("C", "x"), withdraw("D")]
    )
    assert [slug(answer) for answer in answers] == [None, None, "alias-taken", None, None, None]
    assert [stream for stream, _ in await names(log)] == ["accounts/A", "accounts/C"]
    assert len(log.appends) > 1  # what carries a tag has a position before the next looks at it


async def test_a_group_sees_its_own_tags_and_is_appended_together(
    pipeline: Pipeline, log: TroubledLog
) -> None:
    answers = await pipeline.submit_many([name("A", "x"), close("A"), name("B", "x")], atomic=True)
    assert [slug(answer) for answer in answers] == [None] * 3
    assert log.appends == [3]
    refused = await pipeline.submit_many([name("C", "y"), name("D", "y")], atomic=True)
    assert [slug(answer) for answer in refused] == ["alias-taken"] * 2
    assert [stream for stream, _ in await names(log)] == ["accounts/A", "accounts/B"]


async def test_another_process_that_was_first_is_noticed_and_the_command_decided_again(
    pipeline: Pipeline, log: TroubledLog
) -> None:
    async with pipeline_over(log) as other:

        async def first() -> None:
            log.before_append.clear()
            assert slug(await other.submit(name("B", "x"))) is None

        log.before_append.append(first)
        assert slug(await pipeline.submit(name("A", "x"))) == "alias-taken"
    assert [stream for stream, _ in await names(log)] == ["accounts/B"]


async def test_a_refusal_that_another_process_has_overtaken_is_decided_again(
    pipeline: Pipeline, log: TroubledLog
) -> None:
    await pipeline.submit(name("A", "x"))
    async with pipeline_over(log) as other:

        async def first() -> None:
            log.before_append.clear()
            assert slug(await other.submit(close("A"))) is None

        log.before_append.append(first)
        assert slug(await pipeline.submit(name("B", "x"))) is None


async def test_a_group_that_another_process_has_overtaken_is_decided_again(
    pipeline: Pipeline, log: TroubledLog
) -> None:
    async with pipeline_over(log) as other:

        async def first() -> None:
            log.before_append.clear()
            assert slug(await other.submit(name("B", "x"))) is None

        log.before_append.append(first)
        answers = await pipeline.submit_many([deposit("C"), name("A", "x")], atomic=True)
    assert [slug(answer) for answer in answers] == ["alias-taken"] * 2
    assert len(await events_of(log, "accounts/C")) == 1


async def test_while_a_tag_is_on_its_way_the_next_that_looks_at_it_waits_and_others_do_not(
    pipeline: Pipeline, log: TroubledLog
) -> None:
    log.gate.clear()
    log.entered.clear()
    first = asyncio.create_task(pipeline.submit(name("A", "x")))
    await log.entered.wait()
    later = [asyncio.create_task(pipeline.submit(request)) for request in (name("B", "x"), name("C", "y"))]
    await asyncio.sleep(0.01)
    log.gate.set()
    answers = await asyncio.gather(first, *later)
    assert [slug(answer) for answer in answers] == [None, "alias-taken", None]


async def test_a_tag_is_each_tenants_own(pipeline: Pipeline) -> None:
    assert slug(await pipeline.submit(open_account(by=OTHER_TENANT))) is None
    assert slug(await pipeline.submit(name("A", "x", by=OTHER_TENANT))) is None
    assert slug(await pipeline.submit(name("B", "x"))) is None


async def test_a_thousand_rivals_are_all_answered(pipeline: Pipeline, log: TroubledLog) -> None:
    requests = [name("ABCD"[number % 4], f"x{number % 7}") for number in range(1_000)]
    answers = await pipeline.submit_many(requests)
    assert len(answers) == 1_000
    taken = await names(log)
    assert len(taken) == len({alias for _, alias in taken}) == 7
