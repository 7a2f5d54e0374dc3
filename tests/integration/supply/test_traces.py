"""A lot's trace: its own row, the recalls that hold it, and its movements page by page."""

from collections import defaultdict
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from projectors.supply.lot_traces import LotTraces
from schemas.supply import views
from tests.integration.supply.told import ODD_LOT, Told

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def trace_of(told: Told, item_id: str, lot: str, **parameters: Any) -> dict[str, Any]:
    path = f"/v1/lots/{item_id}/{quote(lot, safe='')}/trace"
    response = await told.get(path, **parameters)
    assert response.status_code == 200, response.text
    views.LotTrace.model_validate_json(response.content)
    document: dict[str, Any] = response.json()
    return document


def covers(hold: dict[str, Any], lot: str) -> bool:
    return hold["lots"] is None or lot in hold["lots"]


async def test_a_trace_is_the_lots_row_with_its_movements_and_holds(told: Told) -> None:
    movements: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for (item_id, lot, _), movement in sorted((await told.folded(LotTraces, "movements")).items()):
        movements[item_id, lot].append(orjson.loads(movement))
    holds: dict[str, list[Any]] = defaultdict(list)
    for (item_id, _), hold in sorted((await told.folded(LotTraces, "holds")).items()):
        holds[item_id].append(orjson.loads(hold))
    held = 0
    for (item_id, lot), row in (await told.folded(LotTraces)).items():
        expected = orjson.loads(row)
        released, sites = expected.pop("released"), {part["site_id"] for part in expected["stock"]}
        recalls = [hold for hold in holds[item_id] if covers(hold, lot)]
        on_hold = any(
            hold["is_open"] or not sites <= set(released.get(hold["recall_id"], ())) for hold in recalls
        )
        held += on_hold
        assert await trace_of(told, item_id, lot, limit=500) == expected | {
            "on_hold": on_hold,
            "recalls": [hold["recall_id"] for hold in recalls],
            "items": movements[item_id, lot],
            "next": None,
        }
        assert (
            await told.walk(f"/v1/lots/{item_id}/{quote(lot, safe='')}/trace", limit=4)
            == movements[item_id, lot]
        )
    assert held > 0


async def test_a_lot_is_found_by_whatever_its_label_says(told: Told) -> None:
    trace = await trace_of(told, "LOT", ODD_LOT)
    assert (trace["lot"], trace["totals"]["received"]) == (ODD_LOT, 5)


async def test_a_lot_that_never_was_is_not_found(told: Told) -> None:
    assert (await told.get("/v1/lots/BOTH/never/trace")).status_code == 404
