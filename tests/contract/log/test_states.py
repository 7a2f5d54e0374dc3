"""Saved states: read with what follows, newest wins, forgotten for good."""

from event_store.log import EventLog, SavedState, Snapshot, StateTail
from schemas.envelope import BEGINNING, CommitMark
from tests.contract.log.appends import TENANT, append

SHAPE, OTHER_SHAPE = b"shape".ljust(16), b"other".ljust(16)


async def grow(log: EventLog, stream: str, before: int, events: int) -> CommitMark:
    """Add events to a stream in partition 0, and return the commit."""
    (outcome,) = await log.append_batch(0, [append(stream, before, events)])
    return outcome.commit


def snapshot(
    stream: str, version: int, commit: CommitMark, *, shape: bytes = SHAPE, state: bytes | None = None
) -> Snapshot:
    return Snapshot(TENANT, stream, shape, 1, version, commit, state or b"%d" % version)


def tail(stream: str, after: int = 0, shape: bytes | None = SHAPE, *, tenant: str = TENANT) -> StateTail:
    return StateTail(tenant, stream, after, shape)


async def test_a_saved_state_comes_with_the_events_after_it_and_the_head(log: EventLog) -> None:
    first = await grow(log, "a/1", 0, 3)
    await grow(log, "b/1", 0, 1)
    assert await log.save_states(0, [snapshot("a/1", 3, first)]) == 1
    head = await grow(log, "a/1", 3, 2)
    read = await log.read_states(0, [tail("a/1"), tail("b/1"), tail("c/1"), tail("a/1", tenant="other")])
    assert read.saved == [SavedState(TENANT, "a/1", 3, b"3")]
    assert [(event.stream, event.version) for event in read.events] == [("b/1", 1), ("a/1", 4), ("a/1", 5)]
    assert read.head == head


async def test_without_a_saved_state_all_of_a_stream_comes(log: EventLog) -> None:
    assert await log.read_states(0, [tail("a/1")]) == ([], [], BEGINNING)
    head = await grow(log, "a/1", 0, 2)
    read = await log.read_states(0, [tail("a/1"), tail("b/1", 0, None)])
    assert ([event.version for event in read.events], read.saved, read.head) == ([1, 2], [], head)
    assert await log.read_states(0, []) == ([], [], head)


async def test_a_saved_state_is_read_only_by_its_shape_and_only_if_it_is_news(log: EventLog) -> None:
    commit = await grow(log, "a/1", 0, 4)
    await log.save_states(0, [snapshot("a/1", 4, commit)])
    for unread in (tail("a/1", 0, OTHER_SHAPE), tail("a/1", 0, None)):
        read = await log.read_states(0, [unread])
        assert (read.saved, len(read.events)) == ([], 4)
    assert (await log.read_states(0, [tail("a/1", 4)])).saved == []
    read = await log.read_states(0, [tail("a/1", 3)])
    assert ([one.version for one in read.saved], list(read.events)) == ([4], [])


async def test_states_of_two_shapes_are_kept_side_by_side(log: EventLog) -> None:
    first = await grow(log, "a/1", 0, 2)
    second = await grow(log, "a/1", 2, 2)
    await log.save_states(
        0, [snapshot("a/1", 2, first), snapshot("a/1", 4, second, shape=OTHER_SHAPE, state=b"new")]
    )
    assert (await log.read_states(0, [tail("a/1")])).saved[0].state == b"2"
    assert (await log.read_states(0, [tail("a/1", 0, OTHER_SHAPE)])).saved[0].state == b"new"


async def test_of_two_states_the_newer_is_kept_whichever_comes_last(log: EventLog) -> None:
    first, second = await grow(log, "a/1", 0, 2), await grow(log, "a/1", 2, 1)
    assert await log.save_states(0, [snapshot("a/1", 3, second)]) == 1
    assert await log.save_states(0, [snapshot("a/1", 2, first)]) == 0
    assert await log.save_states(0, [snapshot("a/1", 3, second, state=b"again")]) == 0
    assert (await log.read_states(0, [tail("a/1")])).saved == [SavedState(TENANT, "a/1", 3, b"3")]


async def test_a_state_of_a_history_that_the_log_does_not_have_is_not_kept(log: EventLog) -> None:
    commit = await grow(log, "a/1", 0, 2)
    for lost in (CommitMark(2, bytes(32)), CommitMark(1, commit.hash), CommitMark(9, commit.hash)):
        assert await log.save_states(0, [snapshot("a/1", 2, lost)]) == 0
    assert await log.save_states(0, []) == 0


async def test_what_is_forgotten_is_gone_and_never_saved_again(log: EventLog) -> None:
    partition = await log.partition_of(TENANT)
    (outcome,) = await log.append_batch(partition, [append("a/1", 0, 2, also=[("b/1", 0)])])
    states = [snapshot("a/1", 2, outcome.commit), snapshot("b/1", 1, outcome.commit)]
    assert await log.save_states(partition, states) == 2
    assert await log.forget_states(TENANT, ["a/1", "never/1"]) == 1
    assert await log.forget_states(TENANT, ["a/1"]) == 0
    assert await log.save_states(partition, states) == 0, "one is forgotten, the other is no news"
    read = await log.read_states(partition, [tail("a/1"), tail("b/1")])
    assert [one.stream for one in read.saved] == ["b/1"]
    assert [event.version for event in read.events] == [1, 2]
