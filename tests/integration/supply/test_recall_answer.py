"""The recall answer: where a lot with a hundred thousand movements went, page by page, from PostgreSQL alone."""

from pathlib import Path

import orjson

from schemas.supply import views
from tests.bench.traces import OTHERS, SITES, asking, fill, walk

SECONDS_MAX = 0.05


async def test_a_lot_with_a_hundred_thousand_movements_is_answered_in_time_to_the_last_page(
    store_url: str, tmp_path: Path
) -> None:
    await fill(store_url)
    async with asking(store_url, tmp_path) as client:
        found = await walk(client)
    assert found.is_whole
    page, seconds = orjson.loads(found.last), found.seconds
    assert page["next"] is None
    assert (page["on_hold"], len(page["recalls"]), len(page["stock"])) == (True, OTHERS // 2, SITES)
    views.LotTrace.model_validate_json(found.last)
    # A quarter of the pages: the machine may have other things to do, and none gets slower towards the end.
    assert found.percentile_ms(0.25) < SECONDS_MAX * 1000, seconds
    assert min(seconds[-20:]) < SECONDS_MAX
    assert min(seconds[-20:]) < 3 * min(seconds[:20])
