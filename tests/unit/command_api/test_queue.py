"""Queues by tenant: bounded, in order, and taken in turn."""

import pytest

from command_api.pending import Group, Pending, Ticket
from command_api.queue import TURN_COMMANDS, TenantQueues
from infra.auth import Principal
from schemas.errors import Overloaded
from tests.toy.world import RULES, deposit

PLENTY = 1 << 40


async def pending(tenant: str, size: int = 10) -> Pending:
    request = deposit(by=Principal(tenant, "x", ("clerk",)), size=size)
    return Pending(request, Ticket(1), RULES.of(request.command))


async def test_tenants_give_in_turn_so_a_flood_does_not_hold_up_its_neighbour() -> None:
    queues = TenantQueues()
    queues.offer([await pending("flood") for _ in range(1_000)])
    late = await pending("small")
    queues.offer([late])
    batch = queues.take(commands_max=3 * TURN_COMMANDS, bytes_max=PLENTY)
    assert late in batch
    assert len(batch) == 3 * TURN_COMMANDS


async def test_a_tenants_commands_keep_their_order_also_when_they_are_put_back() -> None:
    queues = TenantQueues()
    items = [await pending("a") for _ in range(40)]
    queues.offer(items[:30])
    taken = queues.take(commands_max=20, bytes_max=PLENTY)
    queues.offer(items[30:])
    queues.put_back(taken[5:])
    rest = queues.take(commands_max=1_000, bytes_max=PLENTY)
    assert [*taken[:5], *rest] == items


async def test_a_batch_is_bounded_in_bytes_but_never_empty() -> None:
    queues = TenantQueues()
    queues.offer([await pending("a", size=100) for _ in range(5)])
    assert len(queues.take(commands_max=10, bytes_max=250)) == 2
    assert len(queues.take(commands_max=10, bytes_max=1)) == 1


async def test_what_does_not_fit_is_refused_whole_and_leaves_nothing() -> None:
    queues = TenantQueues(tenant_commands_max=5)
    queues.offer([await pending("a") for _ in range(3)])
    with pytest.raises(Overloaded) as refused:
        queues.offer([await pending("a") for _ in range(3)])
    assert refused.value.waiting == 3
    assert len(queues) == 3


async def test_a_group_is_taken_by_itself_and_in_its_order() -> None:
    queues = TenantQueues()
    before, after = await pending("a"), await pending("a")
    group = Group([await pending("a"), await pending("a")], Ticket(2))
    queues.offer([before])
    queues.offer([group])
    queues.offer([after])
    batches = [list(queues.take(commands_max=10, bytes_max=PLENTY)) for _ in range(3)]
    assert batches == [[before], [group], [after]]


async def test_commands_whose_senders_have_left_are_not_begun() -> None:
    queues = TenantQueues()
    left, stays = await pending("a"), await pending("a")
    queues.offer([left, stays])
    left.ticket.done.cancel()
    assert queues.take(commands_max=10, bytes_max=PLENTY) == [stays]
    assert len(queues) == 0
