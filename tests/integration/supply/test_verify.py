"""Live rows are what a fold of the log gives, and a rebuild gives the same again."""

import pytest

from projectors.build import Build, Workshop
from projectors.verify import verify_projections
from tests.integration.supply.told import Told

pytestmark = pytest.mark.asyncio(loop_scope="package")

NAMES = [
    "daily-demand",
    "items",
    "lot-traces",
    "order-funnel",
    "orders",
    "recalls",
    "sites",
    "stock-levels",
]


async def test_every_live_row_equals_its_fold(told: Told) -> None:
    await told.get("/v1/dashboards/top-items")
    reports = await verify_projections(told.side)
    assert [report.name for report in reports] == NAMES
    assert [report.document() for report in reports if not report.equal] == []
    assert all(report.rows for report in reports)


async def test_a_rebuild_equals_what_it_replaces_and_readers_do_not_notice(told: Told) -> None:
    side = told.side
    shop = Workshop(side.log, side.registry, side.generations, side.checkpoints)
    before = (await told.get("/v1/dashboards/top-items")).content
    for kind in side.kinds.values():
        built = await Build(shop, kind).run(verify=True)
        assert (built.swapped, built.difference) == (True, None), kind.name
    assert (await told.get("/v1/dashboards/top-items")).content == before
