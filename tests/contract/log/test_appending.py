"""What an append may require of streams, and what is answered."""

import pytest

from event_store.log import Answer, Append, Check, EventLog, NewEvent
from schemas.envelope import BEGINNING, CommitMark
from schemas.errors import BadDefinition, EpochChanged, TooLarge
from tests.contract.log.appends import ANY, EXISTS, append, event, refusal

APPENDED, CONFLICT = Answer.APPENDED, Answer.CONFLICT


async def answers(log: EventLog, *appends: Append) -> list[Answer]:
    return [outcome.answer for outcome in await log.append_batch(0, appends)]


async def versions(log: EventLog, *streams: str) -> list[int]:
    events = await log.read_range(0, 1, (await log.heads())[0].position)
    return [sum(event.stream == stream for event in events) for stream in streams]


async def test_an_append_answers_with_its_position_its_version_and_its_commit(log: EventLog) -> None:
    await log.append_batch(0, [append("a/1", 0, 2)])
    (outcome,) = await log.append_batch(0, [append("a/1", 2, 3)])
    head = await log.head(0)
    assert head is not None
    assert outcome == (APPENDED, 5, 3, CommitMark(5, head.hash), "a/1", 5, None, None)


async def test_what_was_appended_is_read_as_it_was_written(log: EventLog) -> None:
    written = NewEvent("a/1", "01890a5d-ac96-774b-bcce-b302099a8057", "Größe", 7, b"\x00\xff not JSON")
    await log.append_batch(0, [Append("täner", "a/1", [Check("a/1", 0)], [written], b"\x01meta")])
    (read,) = await log.read_range(0, 1, 1)
    assert read[:10] == (
        0, 1, "täner", "a/1", 1, "01890a5d-ac96-774b-bcce-b302099a8057", "Größe", 7, b"\x00\xff not JSON", b"\x01meta",
    )  # fmt: skip
    assert read.recorded_at.utcoffset() is not None


async def test_a_stale_version_is_a_conflict_and_says_what_was_found(log: EventLog) -> None:
    await log.append_batch(0, [append("a/1", 0, 2)])
    (outcome,) = await log.append_batch(0, [append("a/1", 1)])
    assert (outcome.answer, outcome.version, outcome.conflict) == (CONFLICT, 2, "a/1")
    assert (outcome.position, outcome.events) == (2, 0)
    assert outcome.commit == (await log.heads())[0]


async def test_one_conflict_leaves_its_neighbours_alone(log: EventLog) -> None:
    batch = [append("a/1", 0), append("a/2", 7), append("a/3", 0)]
    assert await answers(log, *batch) == [APPENDED, CONFLICT, APPENDED]
    assert [e.stream for e in await log.read_range(0, 1, 9)] == ["a/1", "a/3"]


@pytest.mark.parametrize(
    ("expected", "on_absent", "on_present"),
    [
        (0, APPENDED, CONFLICT),
        (1, CONFLICT, APPENDED),
        (ANY, APPENDED, APPENDED),
        (EXISTS, CONFLICT, APPENDED),
    ],
)
async def test_a_stream_is_expected_absent_at_a_version_existing_or_anyhow(
    log: EventLog, expected: int, on_absent: Answer, on_present: Answer
) -> None:
    await log.append_batch(0, [append("present/1", 0)])
    assert await answers(log, append("absent/1", expected)) == [on_absent]
    assert await answers(log, append("present/1", expected)) == [on_present]


async def test_an_append_over_several_streams_is_all_or_nothing(log: EventLog) -> None:
    await log.append_batch(0, [append("b/1", 0)])
    assert await answers(log, append("a/1", 0, also=[("b/1", 0)])) == [CONFLICT]
    assert await versions(log, "a/1", "b/1") == [0, 1]
    assert await answers(log, append("a/1", 0, also=[("b/1", 1)])) == [APPENDED]
    assert await versions(log, "a/1", "b/1") == [1, 2]


async def test_events_of_one_append_are_adjacent_and_in_its_order(log: EventLog) -> None:
    events = [event("a/1", b"1"), event("b/1", b"2"), event("a/1", b"3")]
    await log.append_batch(0, [Append("acme", "a/1", [Check("a/1", 0), Check("b/1", 0)], events)])
    assert [(e.data, e.version) for e in await log.read_range(0, 1, 3)] == [(b"1", 1), (b"2", 1), (b"3", 2)]


async def test_a_stream_that_is_only_read_is_checked_too(log: EventLog) -> None:
    await log.append_batch(0, [append("holds/1", 0)])
    assert await answers(log, append("a/1", 0, reads=[("holds/1", 0)])) == [CONFLICT]
    (outcome,) = await log.append_batch(0, [append("a/1", 0, reads=[("holds/1", 0)])])
    assert (outcome.conflict, outcome.stream, outcome.version) == ("holds/1", "a/1", 0)
    assert await answers(log, append("a/1", 0, reads=[("holds/1", 1)])) == [APPENDED]


async def test_a_stream_of_another_tenant_is_another_stream(log: EventLog) -> None:
    assert await answers(log, append("a/1", 0), append("a/1", 0, tenant="other")) == [APPENDED, APPENDED]


async def test_a_later_append_of_a_batch_builds_on_an_earlier_one(log: EventLog) -> None:
    outcomes = await log.append_batch(
        0, [append("a/1", 0, 2), append("a/1", 2), append("a/1", 3, also=[("b/1", 0)])]
    )
    assert [(o.answer, o.position, o.version) for o in outcomes] == [
        (APPENDED, 2, 2), (APPENDED, 3, 3), (APPENDED, 5, 4),
    ]  # fmt: skip
    assert len({o.commit for o in outcomes}) == 1


async def test_what_builds_on_a_conflict_is_a_conflict_even_where_its_version_fits_by_chance(
    log: EventLog,
) -> None:
    """F06: both were decided at version 1, and somebody else has appended one event since."""
    await log.append_batch(0, [append("a/1", 0)])
    await log.append_batch(0, [append("a/1", 1)])
    assert await answers(log, append("a/1", 1), append("a/1", 2)) == [CONFLICT, CONFLICT]
    assert await answers(log, append("a/1", 1), append("b/1", 0, reads=[("a/1", 2)])) == [CONFLICT, CONFLICT]


async def test_a_conflict_does_not_reach_beyond_what_builds_on_it(log: EventLog) -> None:
    batch = [
        append("a/1", 9, also=[("b/1", 0)]),  # refused for a/1, so nothing of it is on b/1 either
        append("b/1", 1),  # built on it
        append("c/1", 0, reads=[("b/1", 2)]),  # built on that
        append("d/1", 0),
    ]
    assert await answers(log, *batch) == [CONFLICT, CONFLICT, CONFLICT, APPENDED]


async def test_a_check_alone_is_answered_and_writes_nothing(log: EventLog) -> None:
    await log.append_batch(0, [append("a/1", 0)])
    before = await log.heads()
    outcomes = await log.append_batch(0, [refusal("a/1", 1), refusal("a/1", 0)])
    assert [(o.answer, o.position, o.events, o.version) for o in outcomes] == [
        (APPENDED, 1, 0, 1),
        (CONFLICT, 1, 0, 1),
    ]
    assert await log.heads() == before


async def test_a_check_alone_is_answered_at_what_came_before_it_in_its_batch(log: EventLog) -> None:
    first, refused, last = await log.append_batch(
        0, [append("a/1", 0, 2), refusal("a/1", 2), append("a/1", 2)]
    )
    assert (refused.answer, refused.position, refused.version) == (APPENDED, 2, 2)
    assert refused.commit == first.commit == last.commit


async def test_on_an_empty_log_a_check_alone_is_answered_at_the_beginning(log: EventLog) -> None:
    (outcome,) = await log.append_batch(0, [refusal("a/1", 0)])
    assert (outcome.answer, outcome.position, outcome.commit) == (APPENDED, 0, BEGINNING)


async def test_an_empty_batch_is_answered_at_once(log: EventLog) -> None:
    assert list(await log.append_batch(0, [])) == []


async def test_a_caller_that_knows_another_history_is_told_and_nothing_is_written(log: EventLog) -> None:
    await log.append_batch(0, [append("a/1", 0)])
    head = (await log.heads())[0]
    lost = CommitMark(head.position, bytes(31) + b"\1")
    for known in (lost, CommitMark(head.position + 1, head.hash), CommitMark(99, head.hash)):
        with pytest.raises(EpochChanged) as refused:
            await log.append_batch(0, [append("b/1", 0)], known=known)
        assert (refused.value.partition, refused.value.position) == (0, known.position)
    assert await versions(log, "b/1") == [0]


async def test_a_caller_may_know_any_earlier_commit(log: EventLog) -> None:
    known = BEGINNING
    for version in range(3):
        (outcome,) = await log.append_batch(0, [append("a/1", version)], known=known)
        assert outcome.answer is APPENDED
        (outcome,) = await log.append_batch(0, [append("b/1", version)], known=known)
        assert outcome.answer is APPENDED
        known = outcome.commit


@pytest.mark.parametrize(
    "batch",
    [
        [append("a/1", 0, 0)] * 1_001,
        [append("a/1", 0, 5_001)],
        [append("a/1", 0, data=bytes(4 * 1024 * 1024 + 1))],
        [append("a/1", 0, 5, data=bytes(4 * 1024 * 1024))],
    ],
    ids=["appends", "events", "bytes of an event", "bytes of a batch"],
)
async def test_what_is_over_a_bound_is_refused_whole(log: EventLog, batch: list[Append]) -> None:
    with pytest.raises(TooLarge):
        await log.append_batch(0, [append("b/1", 0), *batch][-1_001:])
    assert await log.head(0) is None


async def test_a_stream_that_is_written_needs_a_check_and_a_refusal_has_no_events(log: EventLog) -> None:
    for wrong in (
        Append("acme", "a/1", [], [event("a/1")]),
        Append("acme", "a/1", [Check("a/1", 0)], [event("a/1")], binds=False),
    ):
        with pytest.raises(BadDefinition):
            await log.append_batch(0, [wrong])
    assert await log.head(0) is None
