"""Reading: pages of whole commits, streams, tails, and places in history."""

from datetime import timedelta
from itertools import accumulate, count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from event_store.log import EventLog, StreamTail
from schemas.envelope import BEGINNING, CommitMark
from schemas.errors import EpochChanged
from tests.contract.log.appends import TENANT, append

_streams = count(1)


async def fill(log: EventLog, *sizes: int) -> None:
    """Append one commit of each size, each to a stream of its own."""
    for number, size in enumerate(sizes, 1):
        await log.append_batch(0, [append(f"a/{number}", 0, size, data=b"x" * 100)])


async def test_pages_follow_each_other_without_gap_and_end_on_commits(log: EventLog) -> None:
    await fill(log, 3, 1, 5, 2, 1, 1)
    after, ends, positions = BEGINNING, [], []
    while (page := await log.read_page(0, after, events_max=4)).events:
        assert page.after == after
        assert page.commits[-1].mark == page.end
        positions += [event.position for event in page.events]
        ends.append(page.end.position)
        after = page.end
    assert positions == list(range(1, 14))
    assert ends == [4, 9, 13]
    assert after == (await log.heads())[0]


async def test_a_page_holds_one_commit_however_large(log: EventLog) -> None:
    await fill(log, 50)
    page = await log.read_page(0, BEGINNING, events_max=10)
    assert (len(page.events), page.end.position) == (50, 50)
    page = await log.read_page(0, BEGINNING, events_max=100, bytes_max=10)
    assert len(page.events) == 50


async def test_a_page_is_bounded_in_bytes(log: EventLog) -> None:
    await fill(log, 1, 1, 1, 1)
    page = await log.read_page(0, BEGINNING, events_max=100, bytes_max=300)
    assert page.end.position == 2


async def test_a_page_carries_its_commits_chained(log: EventLog) -> None:
    await fill(log, 2, 1, 3)
    page = await log.read_page(0, BEGINNING, events_max=100)
    assert [(c.first_position, c.last_position) for c in page.commits] == [(1, 2), (3, 3), (4, 6)]
    assert [c.previous_hash for c in page.commits] == [bytes(32), *(c.hash for c in page.commits[:-1])]
    assert [e.recorded_at for e in page.events[:3]] == [page.commits[0].recorded_at] * 2 + [
        page.commits[1].recorded_at
    ]


async def test_an_empty_page_ends_where_it_begins(log: EventLog) -> None:
    assert (await log.read_page(0, BEGINNING, events_max=10)).end == BEGINNING
    await fill(log, 2)
    head = (await log.heads())[0]
    page = await log.read_page(0, head, events_max=10)
    assert (list(page.events), list(page.commits), page.end) == ([], [], head)


async def test_a_page_after_a_commit_that_the_log_does_not_have_is_refused(log: EventLog) -> None:
    await fill(log, 2, 2)
    head = (await log.heads())[0]
    for lost in (CommitMark(4, bytes(32)), CommitMark(3, head.hash), CommitMark(9, head.hash)):
        with pytest.raises(EpochChanged):
            await log.read_page(0, lost, events_max=10)


async def test_many_tails_are_read_at_once_in_order_of_position(log: EventLog) -> None:
    await log.append_batch(
        0, [append("a/1", 0, 2), append("b/1", 0, 1), append("a/1", 2, 1), append("c/1", 0)]
    )
    tails = [
        StreamTail(TENANT, "a/1", 1),
        StreamTail(TENANT, "b/1"),
        StreamTail(TENANT, "d/1"),
        StreamTail("x", "a/1"),
    ]
    events, head = await log.read_tails(0, tails)
    assert [(e.stream, e.version, e.position) for e in events] == [
        ("a/1", 2, 2),
        ("b/1", 1, 3),
        ("a/1", 3, 4),
    ]
    assert head == (await log.heads())[0]


async def test_tails_of_nothing_still_say_the_head(log: EventLog) -> None:
    assert await log.read_tails(0, [StreamTail(TENANT, "a/1")]) == ([], BEGINNING)
    await fill(log, 1)
    assert await log.read_tails(0, []) == ([], (await log.heads())[0])


async def test_a_stream_is_read_from_a_version_to_a_position_or_a_time(log: EventLog) -> None:
    partition = await log.partition_of(TENANT)
    for version in range(4):
        await log.append_batch(partition, [append("a/1", version), append("b/1", version)])
    commit = await log.commit_of(partition, 3)
    assert commit is not None

    async def read(**bounds: object) -> list[int]:
        return [e.version async for e in log.read_stream(TENANT, "a/1", **bounds)]  # type: ignore[arg-type]  # each as asked

    assert await read() == [1, 2, 3, 4]
    assert await read(after_version=2) == [3, 4]
    assert await read(until_position=4) == [1, 2]
    assert await read(until_position=5) == [1, 2, 3]
    assert await read(until_time=commit.recorded_at) == [1, 2]
    assert await read(until_time=commit.recorded_at - timedelta(days=1)) == []
    assert await read(after_version=4) == []
    assert await read(until_version=2) == [1, 2]
    assert await read(after_version=1, until_version=3) == [2, 3]
    assert await read(after_version=3, until_version=2) == []
    assert await read(since_time=commit.recorded_at) == [2, 3, 4]
    assert await read(since_time=commit.recorded_at, until_time=commit.recorded_at) == [2]
    assert await read(since_time=commit.recorded_at + timedelta(days=1)) == []
    assert await read(events_max=2) == [1, 2]
    assert await read(events_max=0) == []


async def test_a_stream_is_read_backwards_within_the_same_bounds(log: EventLog) -> None:
    partition = await log.partition_of(TENANT)
    for version in range(4):
        await log.append_batch(partition, [append("a/1", version), append("b/1", version)])
    commit = await log.commit_of(partition, 5)
    assert commit is not None

    async def read(**bounds: object) -> list[int]:
        events = log.read_stream(TENANT, "a/1", backwards=True, **bounds)  # type: ignore[arg-type]  # each as asked
        return [event.version async for event in events]

    assert await read() == [4, 3, 2, 1]
    assert await read(events_max=2) == [4, 3]
    assert await read(until_version=3, events_max=2) == [3, 2]
    assert await read(after_version=2) == [4, 3]
    assert await read(until_position=5) == [3, 2, 1]
    assert await read(until_time=commit.recorded_at) == [3, 2, 1]
    assert await read(since_time=commit.recorded_at) == [4, 3]
    assert await read(since_time=commit.recorded_at, until_position=6, after_version=1) == [3]


@given(data=st.data(), sizes=st.lists(st.integers(1, 4), min_size=1, max_size=12), backwards=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_bounds_of_a_stream_mean_what_they_say(
    log: EventLog, data: st.DataObject, sizes: list[int], backwards: bool
) -> None:
    """Whatever bounds are combined, what is read is what holds all of them, one event after another."""
    stream = f"s/{next(_streams)}"
    partition = await log.partition_of(TENANT)
    for before, size in zip(accumulate(sizes, initial=0), sizes, strict=False):
        await log.append_batch(partition, [append(stream, before, size)])
    everything = [event async for event in log.read_stream(TENANT, stream)]
    assert [event.version for event in everything] == list(range(1, sum(sizes) + 1))
    version = st.none() | st.integers(0, len(everything) + 1)
    after, until, most = data.draw(version), data.draw(version), data.draw(version)
    position = data.draw(st.none() | st.sampled_from([event.position for event in everything]))
    time = st.none() | st.sampled_from([event.recorded_at for event in everything])
    since, upto = data.draw(time), data.draw(time)
    read = log.read_stream(
        TENANT, stream, after_version=after or 0, until_version=until, until_position=position,
        since_time=since, until_time=upto, backwards=backwards, events_max=most,
    )  # fmt: skip
    wanted = [
        event
        for event in everything
        if event.version > (after or 0)
        and (until is None or event.version <= until)
        and (position is None or event.position <= position)
        and (since is None or event.recorded_at >= since)
        and (upto is None or event.recorded_at <= upto)
    ]
    assert [event async for event in read] == (wanted[::-1] if backwards else wanted)[:most]


async def test_a_long_stream_is_read_whole(log: EventLog) -> None:
    partition = await log.partition_of(TENANT)
    await log.append_batch(partition, [append("a/1", 0, 1_200, data=b"y" * 500)])
    await log.append_batch(partition, [append("a/1", 1_200, 3, data=bytes(4_000_000))])
    assert [e.version async for e in log.read_stream(TENANT, "a/1")] == list(range(1, 1_204))
    back = log.read_stream(TENANT, "a/1", backwards=True)
    assert [e.version async for e in back] == list(range(1_203, 0, -1))


async def test_a_tenant_keeps_its_partition(log: EventLog) -> None:
    places = {tenant: await log.partition_of(tenant) for tenant in (f"t{n}" for n in range(64))}
    assert set(places.values()) == set(log.partitions)
    assert places == {tenant: await log.partition_of(tenant) for tenant in places}
    assert (places["t0"], places["t1"], places["t2"]) == (4, 2, 0), "a stored log rests on this hash"


async def test_partitions_have_positions_of_their_own(log: EventLog) -> None:
    for partition in (0, 1, 1):
        await log.append_batch(partition, [append("a/1", -1)])
    heads = await log.heads()
    assert [heads[partition].position for partition in (0, 1, 2)] == [1, 2, 0]
    assert list(heads) == list(log.partitions)
    assert heads[2] == BEGINNING
    assert await log.head(2) is None


async def test_every_position_belongs_to_a_commit_or_is_still_to_come(log: EventLog) -> None:
    await fill(log, 2, 3)
    commits = [await log.commit_of(0, position) for position in range(7)]
    assert [commit and commit.last_position for commit in commits] == [None, 2, 2, 5, 5, 5, None]
    assert commits[5] == await log.head(0)


async def test_time_never_runs_backwards(log: EventLog) -> None:
    await fill(log, *[1] * 20)
    times = [event.recorded_at for event in await log.read_range(0, 1, 20)]
    assert times == sorted(times)


async def test_a_range_of_positions_may_be_read_for_some_tenants_alone(log: EventLog) -> None:
    for number, tenant in enumerate(("acme", "other", "third", "acme")):
        await log.append_batch(0, [append(f"a/{number}", 0, 2, tenant=tenant)])

    async def positions(*tenants: str) -> list[int]:
        return [event.position for event in await log.read_range(0, 2, 7, tenants=tenants)]

    assert [event.position for event in await log.read_range(0, 2, 7)] == [2, 3, 4, 5, 6, 7]
    assert await positions("acme") == [2, 7]
    assert await positions("other", "acme") == [2, 3, 4, 7]
    assert await positions("nobody") == []
    assert await positions() == []
