"""
Random batches from several writers, some of them stale, give the answers of a serial run. # F06, F11

A writer decides on what it saw when it last looked, and on its own appends of the batch. So batches come with
chains, with expectations that others have overtaken, and with keys that are used again.
"""

from dataclasses import dataclass, field, replace
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from event_store.log import Append, Check, Condition, EventLog, Expect, QueryItem
from tests.contract.log.appends import METADATA, event, key
from tests.contract.log.serial import SerialModel

STREAMS = ("a/1", "a/2", "b/1")
KEYS = ("k1", "k2")
TAGS = ("x", "y", "z")
TYPES = ("Counted", "Noted")
_tenants = count(1)


@dataclass
class Wish:
    """One append as it is drawn: to be filled in with what its writer believes."""

    writes: tuple[int, ...]
    """How many events for each stream."""
    expects: tuple[str, ...]
    key: str | None
    request: bytes
    binds: bool
    tags: tuple[str, ...] = ()
    """What its events carry."""
    bars: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
    """The tags and types of its conditions."""


@dataclass
class Turn:
    """A writer's batch; before it, it may look at the log."""

    writer: int
    looks: bool
    wishes: list[Wish] = field(default_factory=list)


wishes = st.builds(
    Wish,
    writes=st.tuples(*[st.sampled_from([0, 0, 0, 1, 2])] * len(STREAMS)),
    expects=st.tuples(
        *[st.sampled_from(["seen", "seen", "seen", "seen", "none", "any", "exists"])] * len(STREAMS)
    ),
    key=st.sampled_from([None, None, *KEYS]),
    request=st.sampled_from([b"one", b"one", b"one", b"two"]),
    binds=st.sampled_from([True, True, True, False]),
    tags=st.lists(st.sampled_from(TAGS), max_size=2).map(tuple),
    bars=st.lists(
        st.tuples(
            st.lists(st.sampled_from(TAGS), min_size=1, max_size=2).map(tuple),
            st.lists(st.sampled_from(TYPES), max_size=1).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
)
turns = st.lists(
    st.builds(Turn, st.integers(0, 1), st.booleans(), st.lists(wishes, min_size=1, max_size=6)),
    min_size=1,
    max_size=8,
)


def fill(wish: Wish, tenant: str, believed: dict[str, int], looked_at: int) -> Append:
    """Return the append that a writer with these beliefs sends, and move its beliefs on."""
    checks, events = [], []
    for stream, number, expects in zip(STREAMS, wish.writes, wish.expects, strict=True):
        writes = number if wish.binds else 0
        if expects == "none" and not writes:
            continue
        seen = {"any": Expect.ANY, "exists": Expect.EXISTS}.get(expects, believed[stream])
        checks.append(Check(stream, seen))
        events += [
            event(stream, type=TYPES[number % 2], tags=wish.tags if number else ())
            for number in range(writes)
        ]
        believed[stream] += writes
    named = key(wish.key, request=wish.request) if wish.key else None
    conditions = [Condition([QueryItem(*item)], looked_at) for item in wish.bars]
    return Append(tenant, "a/1", checks, events, METADATA, named, wish.binds, conditions)


def _moved(append: Append, base: int) -> Append:
    """Return an append with the model's positions as the log's, which has seen other tests before."""
    conditions = [Condition(condition.items, condition.after + base) for condition in append.conditions]
    return replace(append, conditions=conditions)


@given(turns)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_random_batches_are_answered_like_a_serial_run(log: EventLog, turns: list[Turn]) -> None:
    tenant, model = f"t{next(_tenants)}", SerialModel()
    base = (await log.heads())[0].position
    believed = [dict.fromkeys(STREAMS, 0) for _ in range(2)]
    looked_at = [0, 0]
    for turn in turns:
        if turn.looks:
            believed[turn.writer] = {stream: model.versions.get((tenant, stream), 0) for stream in STREAMS}
            looked_at[turn.writer] = len(model.written)
        batch = [fill(wish, tenant, believed[turn.writer], looked_at[turn.writer]) for wish in turn.wishes]
        outcomes = await log.append_batch(0, [_moved(append, base) for append in batch])
        assert [(o.answer, o.position - base, o.events, o.version) for o in outcomes] == model.run(batch)
        for outcome in outcomes:
            commit = await log.commit_of(0, outcome.position)
            assert commit is None or outcome.commit == commit.mark
    stored = await log.read_range(0, base + 1, base + len(model.written) + 1)
    assert [(e.tenant, e.stream, e.version, e.id) for e in stored] == model.written
