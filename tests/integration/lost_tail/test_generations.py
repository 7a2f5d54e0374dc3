"""Generations that rest on what the log has lost are neither gone on with nor brought back."""

from typing import Any

import pytest

from projectors.build import Build, GenerationVoid, Workshop
from projectors.generations import Generation
from projectors.projection import Projection
from schemas.errors import ServiceError
from tests.integration.projectors.accounts import (
    append,
    balances,
    caught_up,
    read_side,
    running_projector,
)
from tests.toy import AccountBalances, Deposited

KIND: type[Projection[Any]] = AccountBalances
LOSE = (
    "UPDATE everfold.checkpoints SET commit_hash = sha256('another history') "
    "WHERE kind = 'projection' AND generation = $1 AND position > 0"
)


async def test_a_build_that_was_left_behind_on_a_lost_history_is_begun_anew(store_url: str) -> None:
    async with read_side(store_url) as side:
        async with running_projector(side):
            await caught_up(side, await append(side.log, "a", Deposited(cents=1)))
        shop = Workshop(side.log, side.registry, side.generations, side.checkpoints)
        left = Build(shop, KIND)
        generation = await left._begin()
        await left.advance(None)
        await side.pool.execute(LOSE, generation.number)
        built = await Build(shop, KIND).run()
        assert (generation.number, built.generation, built.swapped) == (2, 3, True)
        assert await balances(side, 3) == {"a": 1}
        states = {row["generation"]: row["state"] for row in await side.generations.all()}
        assert states.get(2) in (None, "refused")


async def test_an_earlier_generation_on_a_lost_history_is_not_brought_back(store_url: str) -> None:
    async with read_side(store_url) as side:
        async with running_projector(side):
            await caught_up(side, await append(side.log, "a", Deposited(cents=1)))
        shop = Workshop(side.log, side.registry, side.generations, side.checkpoints)
        await Build(shop, KIND).run()
        await side.pool.execute(LOSE, 1)
        earlier = Generation("account-balances", 1, 1, side.generations.schema_of("account-balances", 1))
        with pytest.raises(GenerationVoid) as refused:
            await Build(shop, KIND).bring_back(earlier, 2)
        assert isinstance(refused.value, ServiceError)
        assert (await side.generations.live())["account-balances"].generation == 2
