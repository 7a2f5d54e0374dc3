"""A pipeline's states when their tenant moves to another partition: what is known counts in its own partition only."""

import asyncio
from collections.abc import Sequence

from command_api.requests import Answer
from event_store.memory import MemoryLog
from schemas.errors import TenantMoving
from tests.toy import CloseAccount, Deposit, NameAccount
from tests.toy.world import (
    CLERK,
    OTHER_TENANT,
    TroubledLog,
    ask,
    deposit,
    events_of,
    open_account,
    pipeline_over,
    slug,
)

TENANT = CLERK.tenant or ""
PARTITIONS_SHARED = 7
"""With so many, both tenants live in one."""


def slugs(answers: Sequence[Answer]) -> list[str | None]:
    return [slug(answer) for answer in answers]


async def test_what_carries_a_tag_is_noticed_after_the_move_though_positions_begin_anew() -> None:  # F55
    log = MemoryLog(2)
    home = await log.partition_of(TENANT)
    async with pipeline_over(log) as one, pipeline_over(log) as another:
        name_a, name_b = (ask(NameAccount(account_id=account, alias="x")) for account in "AB")
        assert not any(slugs(await one.submit_many([open_account("A"), open_account("B"), name_a])))
        await log.move_tenant(TENANT, 1 - home)
        assert slug(await one.submit(name_b)) == "alias-taken"
        assert slug(await another.submit(ask(CloseAccount(account_id="A")))) is None
        last = (await events_of(log, "accounts/A"))[-1]
        assert (last.partition, last.position < 3) == (1 - home, True), "lower than where the name was taken"
        assert slug(await one.submit(name_b)) is None


async def test_streams_are_decided_on_what_they_were_and_go_on() -> None:  # F55
    log = MemoryLog(2)
    home = await log.partition_of(TENANT)
    async with pipeline_over(log) as pipeline:
        await pipeline.submit_many([open_account("A"), deposit("A", 5)])
        await log.leave(TENANT, 1 - home)
        refused = await pipeline.submit(deposit("A", 1))
        assert isinstance(refused.error, TenantMoving)
        assert refused.error.retry_after_seconds
        await log.arrive(TENANT)
        answer = await pipeline.submit(deposit("A", 1))
        assert (slug(answer), answer.version) == (None, 3)
    assert [(e.partition, e.version) for e in await events_of(log, "accounts/A")] == [
        (home, 1),
        (home, 2),
        (1 - home, 3),
    ]


async def test_commands_of_others_in_the_same_batch_are_carried_out() -> None:  # F55
    log = TroubledLog(PARTITIONS_SHARED)
    home = await log.partition_of(TENANT)
    assert home == await log.partition_of(OTHER_TENANT.tenant or "")
    async with pipeline_over(log) as pipeline:
        await pipeline.submit(open_account("A"))
        await pipeline.submit(open_account("A", by=OTHER_TENANT))
        log.appends.clear()
        log.gate.clear()
        log.entered.clear()
        first = asyncio.create_task(pipeline.submit(ask(Deposit(account_id="A", cents=1), by=OTHER_TENANT)))
        await log.entered.wait()
        own = asyncio.create_task(pipeline.submit(deposit("A", 1)))
        others = asyncio.create_task(pipeline.submit(ask(Deposit(account_id="A", cents=1), by=OTHER_TENANT)))
        log.before_append = [None, lambda: log.leave(TENANT, (home + 1) % PARTITIONS_SHARED)]
        await asyncio.sleep(0)
        log.gate.set()
        answers = await asyncio.gather(first, own, others)
    assert slugs(answers) == [None, "tenant-moving", None]
    assert 2 in log.appends, "they were in one batch"
