"""Reading a partition by what its events are: the same as reading everything and leaving out the rest."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from event_store.integrity import VerifiableLog
from event_store.log import EVENT_TAGS_MAX, EVERYTHING, FILTER_TYPES_MAX, EventLog, Filter
from event_store.memory import MemoryLog
from event_store.postgres import PostgresLog
from event_store.reading import read_partition
from schemas.envelope import BEGINNING, CommitMark, RecordedEvent
from schemas.errors import BadDefinition, EpochChanged
from tests.contract.log.appends import append

TYPES = ("Counted", "Named", "Closed")
TENANTS = ("acme", "beta", "ceta")
TAGS = ("red", "blue", "green")
ANY_VERSION = -1

Wish = tuple[str, str, int, Sequence[str]]
"""A type, a tenant, how many events, and their tags."""

some_tags = st.frozensets(st.sampled_from(TAGS))
filters = st.builds(
    lambda types, tags, tenant: Filter(types=types, tags=tags if tenant else frozenset(), tenant=tenant),
    st.frozensets(st.sampled_from([*TYPES, "Unheard"])),
    some_tags,
    st.none() | st.sampled_from([*TENANTS, "nobody"]),
)
commits = st.lists(
    st.lists(
        st.tuples(st.sampled_from(TYPES), st.sampled_from(TENANTS), st.integers(1, 4), some_tags.map(sorted)),
        min_size=1,
        max_size=4,
    ),
    max_size=12,
)


async def fill(log: EventLog, partition: int, *commits: Sequence[Wish]) -> None:
    """Append commits, each of some events of a type, a tenant and tags."""
    for commit in commits:
        await log.append_batch(
            partition,
            [
                append("a/1", ANY_VERSION, events, type=named, tenant=tenant, data=b"x" * 50, tags=tags)
                for named, tenant, events, tags in commit
            ],
        )


async def tags_of(log: VerifiableLog, upto: int) -> Mapping[int, set[str]]:
    """Return the tags of a partition's events, by position."""
    tags: dict[int, set[str]] = defaultdict(set)
    for stored in await log.read_tags(0, 1, upto):
        tags[stored.position].add(stored.tag)
    return tags


async def in_pages(
    log: EventLog, filter: Filter, *, events_max: int = 3, bytes_max: int = 10_000
) -> list[RecordedEvent]:
    """Read a partition from its beginning page by page, as one that resumes would, and hold each page to its word."""
    after = BEGINNING
    found: list[RecordedEvent] = []
    while True:
        matches = await log.read_filtered(0, after, filter, events_max=events_max, bytes_max=bytes_max)
        assert matches.after == after
        assert all(after.position < event.position <= matches.end.position for event in matches.events)
        assert is_whole(matches.events, events_max, bytes_max)
        found += matches.events
        if matches.end == after:
            return found
        commit = await log.commit_of(0, matches.end.position)
        assert commit is not None
        assert commit.mark == matches.end
        after = matches.end


def is_whole(events: object, events_max: int, bytes_max: int) -> bool:
    """Say whether matches are within bounds, or are those of a single commit."""
    assert isinstance(events, (list, tuple))
    octets = sum(len(event.data) + len(event.metadata) for event in events)
    return (len(events) <= events_max and octets <= bytes_max) or len({e.recorded_at for e in events}) == 1


@given(commits, filters, st.integers(1, 8), st.sampled_from([100, 400, 10_000]))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_what_is_read_is_what_a_plain_filter_leaves(
    log: MemoryLog | PostgresLog, written: list[list[Wish]], filter: Filter, events_max: int, bytes_max: int
) -> None:
    await fill(log, 0, *written)
    head = (await log.heads())[0].position
    everything = await log.read_range(0, 1, head)
    tags = await tags_of(log, head)
    wanted = [event for event in everything if filter.takes(event, tags[event.position])]
    assert await in_pages(log, filter, events_max=events_max, bytes_max=bytes_max) == wanted
    assert [event async for event in read_partition(log, 0, filter, events_max=events_max)] == wanted


async def test_a_filter_of_types_and_a_tenant_takes_what_is_both(log: EventLog) -> None:
    await fill(
        log,
        0,
        [("Counted", "acme", 1, []), ("Named", "acme", 1, [])],
        [("Named", "beta", 1, []), ("Closed", "acme", 1, [])],
    )

    async def positions(filter: Filter) -> list[int]:
        return [event.position async for event in read_partition(log, 0, filter)]

    assert await positions(Filter(types=frozenset({"Named"}))) == [2, 3]
    assert await positions(Filter(types=frozenset({"Named", "Closed"}), tenant="acme")) == [2, 4]
    assert await positions(Filter(tenant="beta")) == [3]
    assert await positions(Filter(tenant="nobody")) == []
    assert await positions(EVERYTHING) == [1, 2, 3, 4]


async def test_a_filter_of_tags_takes_what_carries_them_all(log: EventLog) -> None:
    await fill(
        log,
        0,
        [("Counted", "acme", 1, ["red"]), ("Counted", "acme", 1, ["red", "blue"])],
        [("Named", "acme", 1, ["blue", "red", "green"]), ("Named", "beta", 1, ["red", "blue"])],
    )

    async def positions(*tags: str, types: Sequence[str] = (), tenant: str = "acme") -> list[int]:
        wanted = Filter(types=frozenset(types), tags=frozenset(tags), tenant=tenant)
        return [event.position async for event in read_partition(log, 0, wanted)]

    assert await positions("red") == [1, 2, 3]
    assert await positions("red", "blue") == [2, 3]
    assert await positions("red", "blue", types=["Named"]) == [3]
    assert await positions("red", "blue", tenant="beta") == [4]
    assert await positions("red", "white") == []


async def test_the_matches_of_one_commit_come_together_and_no_half_commit_after_them(log: EventLog) -> None:
    await fill(
        log,
        0,
        [("Counted", "acme", 1, [])],
        [("Named", "acme", 5, []), ("Counted", "acme", 2, [])],
        [("Named", "acme", 1, [])],
    )
    named = Filter(types=frozenset({"Named"}))
    matches = await log.read_filtered(0, BEGINNING, named, events_max=2)
    assert [event.position for event in matches.events] == [2, 3, 4, 5, 6]
    assert matches.end.position == 8
    matches = await log.read_filtered(0, matches.end, named, events_max=2)
    assert ([event.position for event in matches.events], matches.end.position) == ([9], 9)


async def test_without_a_match_the_end_moves_to_the_head_all_the_same(log: EventLog) -> None:
    nothing = Filter(types=frozenset({"Unheard"}))
    assert (await log.read_filtered(0, BEGINNING, nothing, events_max=10)).end == BEGINNING
    await fill(log, 0, [("Counted", "acme", 3, [])])
    head = (await log.heads())[0]
    for after in (BEGINNING, head):
        matches = await log.read_filtered(0, after, nothing, events_max=10)
        assert (list(matches.events), matches.end) == ([], head)


async def test_reading_on_after_a_commit_that_the_log_does_not_have_is_refused(log: EventLog) -> None:
    await fill(log, 0, [("Counted", "acme", 2, [])], [("Counted", "acme", 2, [])])
    head = (await log.heads())[0]
    for lost in (CommitMark(4, bytes(32)), CommitMark(3, head.hash), CommitMark(9, head.hash)):
        for wanted in (Filter(tenant="acme"), EVERYTHING):
            with pytest.raises(EpochChanged):
                await log.read_filtered(0, lost, wanted, events_max=10)


def test_a_filter_has_a_bound() -> None:
    with pytest.raises(BadDefinition):
        Filter(types=frozenset(str(number) for number in range(FILTER_TYPES_MAX + 1)))
    with pytest.raises(BadDefinition):
        Filter(tenant="acme", tags=frozenset(str(number) for number in range(EVENT_TAGS_MAX + 1)))


def test_tags_are_a_tenants() -> None:
    with pytest.raises(BadDefinition):
        Filter(tags=frozenset({"red"}))
