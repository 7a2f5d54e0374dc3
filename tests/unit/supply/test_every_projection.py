"""
All projections on random stories: documents are what the views say, agree with a second opinion, and do not depend
on how the log was cut into batches.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from command_api.supply.order_state import OrderState
from command_api.supply.stock_state import StockState
from infra.testing.log import Recorded
from projectors.projection import Projection, Stream
from projectors.supply.daily_demand import DailyDemand
from projectors.supply.items import Items
from projectors.supply.lot_traces import LotTraces
from projectors.supply.order_funnel import OrderFunnel
from projectors.supply.orders import Orders
from projectors.supply.recalls import Recalls
from projectors.supply.sites import Sites
from projectors.supply.stock_levels import StockLevels
from schemas.messages import View
from schemas.supply import views
from schemas.supply.orders import OrderPlaced, OrderRecalled
from schemas.supply.recalls import RecallIssued
from tests.unit.supply.ledger import Ledger
from tests.unit.supply.story import Story

PROJECTIONS: Sequence[type[Projection[Any]]] = (
    Items,
    Sites,
    Orders,
    StockLevels,
    LotTraces,
    Recalls,
    DailyDemand,
    OrderFunnel,
)
VIEWS: dict[tuple[str, str], type[View]] = {
    ("items", "rows"): views.Item,
    ("sites", "rows"): views.Site,
    ("orders", "rows"): views.Order,
    ("stock-levels", "rows"): views.StockLevel,
    ("stock-levels", "lots"): views.LotView,
    ("recalls", "rows"): views.Recall,
    ("order-funnel", "rows"): views.OrderFunnel,
    ("order-funnel", "statuses"): views.StatusCount,
}
STEPS = 120
BATCH_EVENTS_MAX = 40
seeds = st.integers(0, 2**32)

Rows = dict[tuple[str, tuple[str, ...]], Any]


def events_of(story: Story) -> Iterator[tuple[Recorded, Stream]]:
    for position, recorded in enumerate(story.log.events, start=1):
        moment = recorded.moment
        yield (
            recorded,
            Stream("demo", recorded.stream, recorded.version, position, "", moment.now, moment.occurred_at),
        )


def told(seed: int) -> Story:
    story = Story(seed)
    for _ in range(STEPS):
        story.step()
    return story


def folded(projection: type[Projection[Any]], story: Story) -> Rows:
    rows: Rows = {}
    for recorded, stream in events_of(story):
        projection().fold(rows, recorded.event, stream)
    return rows


def documents(rows: Rows) -> dict[tuple[str, tuple[str, ...]], bytes]:
    return {place: row.encode() for place, row in rows.items() if row is not None}


def table(rows: Rows, name: str = "rows") -> dict[tuple[str, ...], dict[str, Any]]:
    """Return a table's documents by key."""
    return {key: json.loads(data) for (place, key), data in documents(rows).items() if place == name}


def row_class(projection: type[Projection[Any]], name: str) -> Any:
    return projection.tables[name][0]


def batches(events: Iterable[Any], random: Random) -> Iterator[list[Any]]:
    waiting = list(events)
    while waiting:
        size = random.randint(1, BATCH_EVENTS_MAX)
        yield waiting[:size]
        waiting = waiting[size:]


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_a_fold_in_batches_with_rows_written_between_them_gives_the_same_bytes(seed: int) -> None:
    story, random = told(seed), Random(seed)
    for projection in PROJECTIONS:
        stored: dict[tuple[str, tuple[str, ...]], bytes] = {}
        for batch in batches(events_of(story), random):
            rows: Rows = {
                place: row_class(projection, place[0]).decode(data) for place, data in stored.items()
            }
            for recorded, stream in batch:
                projection().fold(rows, recorded.event, stream)
            stored = documents(rows)
        assert stored == documents(folded(projection, story)), projection.name


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_documents_are_what_the_views_say_with_no_member_absent(seed: int) -> None:
    story = told(seed)
    for projection in PROJECTIONS:
        for (name, _), data in documents(folded(projection, story)).items():
            view = VIEWS.get((projection.name, name))
            if view is not None:
                view.model_validate_json(data)
                named = {field.alias or name for name, field in view.model_fields.items()}
                assert json.loads(data).keys() == named


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_stock_levels_obey_the_conservation_law_and_agree_with_the_ledger_at_every_prefix(seed: int) -> None:
    story, ledger, rows = told(seed), Ledger(), dict[tuple[str, tuple[str, ...]], Any]()
    for recorded, stream in events_of(story):
        ledger.add(recorded)
        for name, key in StockLevels().fold(rows, recorded.event, stream):
            document = json.loads(rows[name, key].encode())
            if name == "rows":
                check_level(document, ledger)
            else:
                figures = ledger.lots["/".join(("stock", *key[:2])), key[2] or None]
                assert (document["on_hand"], document["reserved"]) == (figures.on_hand, figures.reserved)
                assert document["available"] >= 0


def check_level(document: dict[str, Any], ledger: Ledger) -> None:
    parts = ("reserved", "quarantined", "expired")
    for lot in document["lots"]:
        came = lot["received"] + lot["adjusted"] + lot["returned"] + lot["transferred"]
        assert came == lot["on_hand"] + lot["shipped"] + lot["disposed"]
        figures = ledger.lots[document["stream"], lot["lot"]]
        counted = {name: value for name, value in lot.items() if name not in ("lot", "expires_on")}
        assert counted == {name: getattr(figures, name) for name in counted}
    for name in ("on_hand", *parts):
        assert document[name] == sum(lot[name] for lot in document["lots"])
    assert document["available"] == document["on_hand"] - sum(document[name] for name in parts) >= 0


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_lot_traces_add_up_to_stock_levels_and_movements_to_both(seed: int) -> None:
    story = told(seed)
    levels, traces = table(folded(StockLevels, story)), folded(LotTraces, story)
    there: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
    for (site_id, item_id), level in levels.items():
        for lot in level["lots"]:
            if lot["lot"] is not None:
                there[item_id, lot["lot"]][site_id] = lot
    lots, moved = table(traces), Counter[tuple[str, ...]]()
    for (item_id, lot, _), movement in table(traces, "movements").items():
        sign = -1 if movement["kind"] in ("shipped", "disposed") else 1
        moved[item_id, lot, movement["site_id"]] += sign * movement["quantity"]
        moved[item_id, lot, movement["kind"]] += movement["quantity"]
    assert lots.keys() == there.keys()
    for (item_id, lot), trace in lots.items():
        sites = there[item_id, lot]
        for part in trace["stock"]:
            site_id = part.pop("site_id")
            assert part == {name: sites[site_id][name] for name in part}
            assert part["on_hand"] == moved[item_id, lot, site_id]
        for name, total in trace["totals"].items():
            assert total == sum(site[name] for site in sites.values())
            assert name == "on_hand" or total == moved[item_id, lot, name]


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_a_recall_says_what_a_search_of_the_whole_log_finds(seed: int) -> None:
    story = told(seed)
    quarantined: dict[str, dict[tuple[str, str, str | None], int]] = defaultdict(dict)
    orders: dict[str, set[str]] = defaultdict(set)
    for recorded in story.log.events:
        match recorded.event:
            case RecallIssued():
                orders[recorded.stream.split("/")[1]] = set()
            case OrderRecalled(recall_id=recall_id):
                orders[recall_id].add(recorded.stream.split("/")[1])
    for stream, state in story.log.states.items():
        if isinstance(state, StockState):
            _, site_id, item_id = stream.split("/")
            for label, lot in state.lots.items():
                for recall_id in lot.recalls:
                    quarantined[recall_id][site_id, item_id, label] = lot.quarantined
    for (recall_id,), recall in table(folded(Recalls, story)).items():
        stock = {
            (part["site_id"], part["item_id"], part["lot"]): part["quarantined"] for part in recall["stock"]
        }
        assert {place: units for place, units in stock.items() if units} == {
            place: units for place, units in quarantined[recall_id].items() if units
        }
        assert set(recall["orders"]) == orders[recall_id]


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_orders_say_what_the_rules_know_of_them(seed: int) -> None:
    story = told(seed)
    for (order_id,), order in table(folded(Orders, story)).items():
        state: OrderState = story.log.state(f"orders/{order_id}")
        assert (order["status"], order["version"]) == (
            state.status,
            story.log.versions[f"orders/{order_id}"],
        )
        for line in order["lines"]:
            known = state.lines[line["line_no"]]
            assert (line["shipped"], line["short"]) == (known.shipped, known.short)
            assert state.status == "cancelled" or line["reserved"] == known.reserved
            assert 0 <= line["returned"] <= line["shipped"] <= line["reserved"] <= line["quantity"]
            if known.stocked:
                assert line["reserved"] == sum(lot["quantity"] for lot in line["lots"])


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_the_funnel_and_the_statuses_count_every_order_once(seed: int) -> None:
    story, ever = told(seed), defaultdict[str, set[str]](set)
    rows: Rows = {}
    stages = ("placed", "confirmed", "shipped", "delivered", "rejected", "cancelled")
    orders: Rows = {}
    for recorded, stream in events_of(story):
        OrderFunnel().fold(rows, recorded.event, stream)
        for name, key in Orders().fold(orders, recorded.event, stream):
            if name == "rows":
                row = orders[name, key]
                ever[row.status].add(row.order_id)
                ever["shipped"] |= {row.order_id} if row.status == "delivered" else set()
                ever["returned"] |= {row.order_id} if row.returns else set()
    expected = {stage: len(ever[stage]) for stage in (*stages, "returned")}
    assert table(rows).get((), dict.fromkeys(expected, 0)) == expected
    now = Counter(row.status for (name, _), row in orders.items() if name == "rows")
    assert {key[0]: row["orders"] for key, row in table(rows, "statuses").items()} == dict(now)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_daily_demand_adds_up_to_what_each_order_was_and_is_worth(seed: int) -> None:
    story, ledger = told(seed), Ledger()
    placed = []
    for recorded, _ in events_of(story):
        ledger.add(recorded)
        if isinstance(recorded.event, OrderPlaced):
            placed.append(recorded.event)
    rows = {key: row for (table, key), row in folded(DailyDemand, story).items() if table == "rows"}
    of_all = [row for key, row in rows.items() if key[3] == ""]
    of_items = [row for key, row in rows.items() if key[3] != ""]
    assert sum(row.orders for row in of_all) == len(placed)
    assert sum(row.placed for row in of_all) == sum(event.total.amount for event in placed)
    assert sum(row.net for row in of_all) == sum(ledger.net.values())
    for name in ("units", "placed", "net"):
        assert sum(getattr(row, name) for row in of_items) == sum(getattr(row, name) for row in of_all)
    assert all(0 <= row.net <= row.placed for row in rows.values())
