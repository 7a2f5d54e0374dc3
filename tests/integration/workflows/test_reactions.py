"""The workflow process on a real log: what it sends, once, whatever dies when. Fault rows F01, F03, F43."""

from collections.abc import AsyncIterator
from signal import SIGKILL

import pytest

from schemas.envelope import Metadata
from tests.integration.workflows.world import TENANT, World, open_world, run_until_dead
from tests.toy import AccountClosed, AccountOpened, Deposited, OpenAccount, Withdrawn


@pytest.fixture
async def world(store_url: str) -> AsyncIterator[World]:
    async with open_world(store_url, domains="toy") as opened:
        yield opened


def opening(owner: str, *numbers: int) -> list[OpenAccount]:
    return [OpenAccount(account_id=f"{owner}-{number}", owner=owner) for number in numbers]


async def test_commands_that_follow_say_what_caused_them(world: World) -> None:
    await world.send(*opening("gift", 1))
    async with world.workflows():
        await world.until_caught_up("concierge")
    (opened,) = await world.recorded(AccountOpened)
    deposited, withdrawn = await world.recorded(Deposited, Withdrawn)
    first, second = Metadata.decode(deposited.metadata), Metadata.decode(withdrawn.metadata)
    cause = Metadata.decode(opened.metadata)
    assert (first.actor, first.roles) == ("workflow:concierge", ("system",))
    assert (first.causation_id, second.causation_id) == (opened.id, opened.id)
    assert first.correlation_id == second.correlation_id == cause.correlation_id
    assert first.occurred_at == cause.occurred_at
    assert (first.idempotency_key, second.idempotency_key) == (f"{opened.id}/0/0", f"{opened.id}/0/1")


async def test_a_page_of_events_is_carried_out_in_a_few_rounds(world: World) -> None:
    """Two rounds for three hundred accounts: the commands of a round share their commits."""
    await world.send(*opening("gift", *range(300)))
    before = await world.fetch("SELECT count(*) FROM everfold.commits")
    async with world.workflows():
        await world.until_caught_up("concierge")
    assert await world.count(Deposited) == await world.count(Withdrawn) == 300
    assert await world.fetch("SELECT count(*) FROM everfold.commits") - before <= 10


@pytest.mark.parametrize(
    "failpoint",
    [
        "workflow.before_send",
        "workflow.after_send",
        "workflow.before_commit",
        "workflow.after_commit",
        "workflow.after_send=kill@2,unused",
        "pipeline.before_append",
        "pipeline.after_commit",
    ],
)
async def test_a_workflow_killed_anywhere_has_each_effect_once(world: World, failpoint: str) -> None:
    """F43, and F01 and F03 for the pipeline inside the workflow's process."""
    await world.send(*opening("gift", *range(20)), *opening("greedy", *range(20)))
    armed = failpoint.removesuffix(",unused") if "=" in failpoint else f"{failpoint}=kill"
    assert await run_until_dead(world, armed) == -SIGKILL
    async with world.workflows():
        await world.until_caught_up("concierge")
    deposits = [event.cents for event in await world.events(Deposited)]
    assert sorted(deposits) == [100] * 20 + [1000] * 20
    assert [event.cents for event in await world.events(Withdrawn)] == [30] * 20
    assert await world.fetch("SELECT count(*) FROM everfold.workflow_answers") == 0


async def test_a_refusal_is_told_again_after_a_crash_though_it_would_be_accepted_now(world: World) -> None:
    """The account is rich by then; what was refused before the crash stays refused for this reaction."""
    from tests.toy import Deposit

    await world.send(*opening("greedy", 1))
    assert await run_until_dead(world, "workflow.after_send=kill@2") == -SIGKILL
    await world.send(Deposit(account_id="greedy-1", cents=5000))
    async with world.workflows():
        await world.until_caught_up("concierge")
    assert await world.count(Withdrawn) == 0
    assert sorted(event.cents for event in await world.events(Deposited)) == [1000, 5000]


async def test_a_read_finds_again_after_a_crash_what_it_found_before(world: World) -> None:
    from tests.toy import Deposit

    await world.send(*opening("curious", 1))
    assert await run_until_dead(world, "workflow.before_commit=kill") == -SIGKILL
    await world.send(*[Deposit(account_id="curious-1", cents=50)] * 5)
    async with world.workflows():
        await world.until_caught_up("concierge")
    assert sorted(event.cents for event in await world.events(Deposited)) == [1, *[50] * 5]


async def test_two_processes_share_the_partitions_and_each_effect_happens_once(world: World) -> None:
    tenants = [f"tenant-{number}" for number in range(12)]
    async with world.workflows() as one, world.workflows() as other:

        async def shared() -> bool:
            return len(one.role.partitions) == len(other.role.partitions) == 4

        await world.until(shared)
        assert not set(one.role.partitions) & set(other.role.partitions)
        for tenant in tenants:
            await world.send(*opening("gift", *range(5)), tenant=tenant)
        for tenant in tenants:
            await world.until_caught_up("concierge", tenant=tenant)
    for tenant in tenants:
        assert [await world.count(kind, tenant=tenant) for kind in (Deposited, Withdrawn)] == [5, 5]


async def test_who_takes_over_goes_on_where_the_other_was_killed(world: World) -> None:
    await world.send(*opening("gift", *range(50)))
    assert await run_until_dead(world, "workflow.after_send=kill") == -SIGKILL
    async with world.workflows():
        await world.until_caught_up("concierge")
        await world.send(*opening("gift", *range(50, 60)))
        await world.until_caught_up("concierge")
    assert await world.count(Withdrawn) == 60


async def test_a_new_workflow_begins_with_the_first_event(world: World) -> None:
    """Commands that were accepted before its process ever ran are not missed."""
    await world.send(*opening("gift", 1))
    async with world.workflows():
        await world.until_caught_up("concierge")
    assert await world.count(Withdrawn) == 1


async def test_a_workflow_added_beside_others_begins_at_the_head(world: World) -> None:
    """F42's neighbour: a workflow that is new to a running domain does not act on all of history."""
    from command_api.workflow_app import workflows_of
    from command_api.workflow_store import open_workflows
    from infra.domains import load_domains
    from tests.toy.workflows import Concierge

    class Latecomer(Concierge):
        name = "latecomer"

    class Historian(Concierge):
        name = "historian"
        since_beginning = True

    await world.send(*opening("gift", 1))
    async with world.workflows():
        await world.until_caught_up("concierge")
    ((concierge, domain),) = workflows_of(load_domains(("toy",)), {})
    heads = await world.log.heads()
    all_of_them = [(concierge, domain), (Latecomer(), domain), (Historian(), domain)]
    await open_workflows(world.pool, "everfold", all_of_them, heads)
    partition = await world.partition(TENANT)
    starts = await world.pool.fetch(
        "SELECT consumer, position FROM everfold.checkpoints WHERE kind = 'workflow' AND partition = $1",
        partition,
    )
    positions = {row["consumer"]: row["position"] for row in starts}
    assert positions["latecomer"] == positions["concierge"] == heads[partition].position
    assert positions["historian"] == 0


async def test_accounts_that_say_nothing_cost_no_command(world: World) -> None:
    await world.send(*opening("quiet", *range(3)))
    async with world.workflows():
        await world.until_caught_up("concierge")
    assert await world.count(Deposited, Withdrawn, AccountClosed) == 0
