"""
The domain's laws under any commands: nothing negative, nothing lost, nothing used that is held or expired.

Stories of random commands over two sites, a few items, lots, orders and recalls; a ledger that knows no rules
adds up what comes of them after every single event.
"""

from collections import Counter
from datetime import UTC, datetime
from functools import cache
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from command_api.supply.distribution import DistributionState
from command_api.supply.stock_state import StockState
from infra.domains import load_domains, load_registry
from infra.testing.log import Log
from schemas.registry import Registry
from schemas.supply.stock import (
    AdjustStock,
    DisposeStock,
    ReceiveStock,
    StockReserved,
    StockShipped,
    TransferStock,
)
from tests.unit.supply.ledger import Ledger
from tests.unit.supply.story import Story
from tests.unit.supply.words import SUPPLY

STEPS = 150
FOREVER = datetime.max.replace(tzinfo=UTC)
seeds = st.integers(0, 2**32)


@cache
def registry() -> Registry:
    return load_registry(load_domains(("supply",)))


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_the_laws_hold_at_every_prefix_of_the_log(seed: int) -> None:
    story, ledger, seen = Story(seed), Ledger(), 0
    for _ in range(STEPS):
        story.step()
        for recorded in story.log.events[seen:]:
            ledger.add(recorded)
        seen = len(story.log.events)
    check_states(story.log, ledger)


def check_states(log: Log, ledger: Ledger) -> None:
    """What the rules believe is what the ledger adds up."""
    for stream, state in log.states.items():
        if isinstance(state, StockState):
            assert state.on_hand == sum(lot.on_hand for _, lot in state.lots.items())
            offered = {label for label, lot in state.lots.items() if lot.available > 0}
            assert {label for label, _ in state.offered.items()} == offered
            for label, lot in state.lots.items():
                figures = ledger.lots[stream, label]
                assert (lot.on_hand, lot.reserved) == (figures.on_hand, figures.reserved)
                assert (lot.quarantined, lot.expired) == (figures.quarantined, figures.expired)
                assert lot.reserved == sum(part.quantity for part in state.reserved_from(label))


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_reservations_take_first_expiry_first_then_first_received_and_only_what_is_usable(seed: int) -> None:
    log, replayed = Story(seed), Log(decider() for decider in SUPPLY)
    for _ in range(STEPS):
        log.step()
    for recorded in log.log.events:
        if isinstance(recorded.event, StockReserved):
            item_id = recorded.stream.split("/")[2]
            holds: DistributionState = replayed.state(f"distribution/{item_id}")
            check_first_out(
                recorded.event, replayed.state(recorded.stream), holds, recorded.moment.occurred_at
            )
        if isinstance(recorded.event, StockShipped):
            stock: StockState = replayed.state(recorded.stream)
            for part in recorded.event.lots:
                assert stock.lot(part.lot).usable_at(recorded.moment.occurred_at)
        replayed.append(recorded.stream, recorded.event, recorded.moment)


def check_first_out(event: StockReserved, before: StockState, holds: DistributionState, at: datetime) -> None:
    """No lot that could have been taken goes before one that was taken, and all but the last are taken whole."""
    taken = {part.lot: part.quantity for part in event.lots}
    order = [(before.lot(label).usable_until or FOREVER, before.lot(label).rank) for label in taken]
    assert order == sorted(order)
    for label, lot in before.lots.items():
        usable = lot.usable_at(at) and not lot.in_quarantine and not before.holding(label, holds)
        if label in taken:
            assert usable
            assert taken[label] == lot.available or (
                label == event.lots[-1].lot and taken[label] < lot.available
            )
        elif usable and lot.available:
            assert (lot.usable_until or FOREVER, lot.rank) > order[-1]


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_every_event_is_read_back_as_it_was_written(seed: int) -> None:
    story = Story(seed)
    for _ in range(STEPS):
        story.step()
    for recorded in story.log.events:
        written = recorded.event.encode()
        assert registry().decode(recorded.event.type, recorded.event.schema_version, written) == (
            recorded.event,
        )


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_a_fold_never_refuses_whatever_the_order_of_events(seed: int) -> None:
    story, other = Story(seed), Log(decider() for decider in SUPPLY)
    for _ in range(STEPS):
        story.step()
    events = list(story.log.events)
    Random(seed).shuffle(events)
    for recorded in events:
        other.append(recorded.stream, recorded.event, recorded.moment)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_what_holds_already_changes_nothing(seed: int) -> None:
    story = Story(seed)
    for _ in range(STEPS):
        before, refused = len(story.log.events), len(story.refusals)
        command = story.step()
        if command is None or isinstance(command, ReceiveStock | AdjustStock | DisposeStock | TransferStock):
            continue
        if len(story.log.events) > before and len(story.refusals) == refused:
            count = len(story.log.events)
            story.carry_out(command)
            assert len(story.log.events) == count, f"{command!r} again led to {story.log.events[count:]}"


def test_the_stories_reach_every_event_and_most_rules() -> None:
    types: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    for seed in range(25):
        story = Story(seed)
        for _ in range(STEPS):
            story.step()
        types.update(recorded.event.type for recorded in story.log.events)
        rules.update(slug for _, slug in story.refusals)
    assert set(registry().newest) - set(types) == {"ItemChanged", "ReferenceClaimed", "ReferenceReleased"}
    told_elsewhere = {
        "item-discontinued",
        "unknown-site",
        "unknown-item",
        "mixed-currencies",
        "duplicate-line",
        "quantity-overflow",
    }
    assert set(registry().rejections) - set(rules) <= told_elsewhere
