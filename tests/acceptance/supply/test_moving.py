"""A tenant moves to a partition of another server while it is worked with. Fault row F55."""

import asyncio
from collections import Counter

import pytest

from infra.system import RunningSystem
from tests.acceptance.supply.test_two_servers import (
    HERE,
    Shop,
    open_shops,
    pair,
    spread,
    tenant_in,
)
from tests.system import caught_up, facts, tool

TO = 6
RECEIVED_BEFORE = 20
RETRY_SECONDS = 0.2

__all__ = ["pair", "spread"]


class Receiving:
    """Somebody who receives stock one after the other, and repeats what is not taken for now."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.taken = 0
        self.refused = 0
        self.stop = False

    async def run(self) -> None:
        while not self.stop:
            answer = await self.shop.receive(f"unit-{self.taken}")
            if answer.status_code == 200:
                self.taken += 1
                continue
            assert answer.status_code == 503, answer.text
            self.refused += 1
            await asyncio.sleep(RETRY_SECONDS)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60):
            while self.taken < count:
                await asyncio.sleep(0.05)


@pytest.mark.timeout(300)
async def test_a_tenant_moves_under_traffic(spread: RunningSystem) -> None:  # F55
    tenant = tenant_in(HERE)
    (shop,) = await open_shops(spread, [tenant])
    await shop.order("PO-1")
    await caught_up(spread)
    status, proof = await facts(spread, "verify", "--projections")
    assert (status, proof["ok"]) == (0, True), proof
    old_position = shop.position
    receiving = Receiving(Shop(spread, tenant))
    work = asyncio.create_task(receiving.run())
    await receiving.until(RECEIVED_BEFORE)
    status, moved, said = await tool(spread, "tenants", "move", tenant, "--to", str(TO))
    assert status == 0, (moved, said)
    await receiving.until(receiving.taken + RECEIVED_BEFORE)
    receiving.stop = True
    await work

    shop.position = receiving.shop.position
    on_hand = 1 + receiving.taken
    assert await shop.on_hand() == on_hand
    shop.position = old_position
    assert await shop.on_hand() == on_hand, "a position of before the move is reflected too"
    again = await shop.receive("first")
    assert again.status_code == 200
    assert await shop.on_hand() == on_hand, "a repeat of a command from before the move has its first answer"
    await shop.order("PO-2")

    await caught_up(spread)
    events = Counter[str]()
    path = "history?stream=stock/S/X&limit=200"
    while path:
        page = (await shop.read(path)).json()
        events.update(item["event_id"] for item in page["items"])
        path = page["next"] and f"history?stream=stock/S/X&limit=200&cursor={page['next']}"
    assert max(events.values()) == 1
    status, proof = await facts(spread, "verify", "--projections")
    assert (status, proof["ok"]) == (0, True), proof
    status, _, said = await tool(spread, "replay", "--all", "--verify")
    assert status == 0, said
    status, proof = await facts(spread, "verify", "--projections")
    assert (status, proof["ok"]) == (0, True), proof
    assert await shop.on_hand() == on_hand
    await shop.close()
    await receiving.shop.close()
