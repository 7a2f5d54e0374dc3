"""Tenants that move to another partition: what follows goes on where the past ends, and the past answers as before."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from event_store.log import CONDITION, Answer, EventLog, Snapshot, StateTail, StreamTail, TagTail
from event_store.memory import MemoryLog
from event_store.postgres import PostgresLog
from schemas.envelope import BEGINNING, RecordedEvent
from schemas.errors import TenantMoving
from schemas.moves import TenantArrived, TenantLeft, stream_of
from tests.contract.log.appends import TENANT, append, key, tagged, unless

APPENDED, CONFLICT, DUPLICATE, REUSED = Answer.APPENDED, Answer.CONFLICT, Answer.DUPLICATE, Answer.REUSED
Log = MemoryLog | PostgresLog
OTHER = "globex"
SHAPE = b"s" * 16


async def home_and_next(log: EventLog) -> tuple[int, int]:
    """Return where the tenant lives, and another partition."""
    home = await log.partition_of(TENANT)
    return home, next(partition for partition in log.partitions if partition != home)


async def stream(log: EventLog, name: str, **bounds: object) -> list[tuple[int, int]]:
    """Return where a stream's events are: their partition and version."""
    return [(e.partition, e.version) async for e in log.read_stream(TENANT, name, **bounds)]  # type: ignore[arg-type]  # by name


def versions(events: Sequence[RecordedEvent]) -> list[tuple[str, int, int]]:
    """Return of events the stream, the partition and the version."""
    return [(event.stream, event.partition, event.version) for event in events]


async def test_versions_go_on_where_they_were(log: Log) -> None:  # F55
    home, to = await home_and_next(log)
    await log.append_batch(home, [append("a/1", 0, 2), append("b/1", 0)])
    await log.move_tenant(TENANT, to)
    assert await log.partition_of(TENANT) == to
    (late,) = await log.append_batch(to, [append("a/1", 0)])
    assert (late.answer, late.version) == (CONFLICT, 2)
    outcomes = await log.append_batch(to, [append("a/1", 2), append("b/1", 1), append("c/1", 0)])
    assert [(one.answer, one.version) for one in outcomes] == [(APPENDED, 3), (APPENDED, 2), (APPENDED, 1)]
    assert await stream(log, "a/1") == [(home, 1), (home, 2), (to, 3)]
    assert await stream(log, "a/1", backwards=True) == [(to, 3), (home, 2), (home, 1)]
    assert await stream(log, "a/1", backwards=True, events_max=2) == [(to, 3), (home, 2)]
    assert await stream(log, "a/1", after_version=1, until_version=2) == [(home, 2)]
    assert await stream(log, "a/1", until_position=1, until_partition=home) == [(home, 1)]
    assert await stream(log, "a/1", until_position=1) == [(home, 1), (home, 2)]


async def test_the_former_partition_takes_nothing_any_more(log: Log) -> None:  # F55
    home, to = await home_and_next(log)
    await log.append_batch(home, [append("a/1", 0)])
    await log.move_tenant(TENANT, to)
    with pytest.raises(TenantMoving):
        await log.append_batch(home, [append("a/1", 1)])
    with pytest.raises(TenantMoving):
        await log.append_batch(home, [append("n/1", 0), append("x/1", 0, tenant=OTHER)])
    assert await stream(log, "a/1") == [(home, 1)]


async def test_a_move_is_a_fence_and_an_arrival_that_names_it(log: Log) -> None:
    home, to = await home_and_next(log)
    await log.append_batch(home, [append("a/1", 0)])
    await log.append_batch(to, [append("x/1", 0, tenant=OTHER), append("x/2", 0, tenant=OTHER)])
    await log.move_tenant(TENANT, to)
    await log.append_batch(to, [append("a/1", 1)])

    page = await log.read_page(home, BEGINNING, events_max=100)
    assert [event.type for event in page.events] == ["Counted", TenantLeft.type]
    before = await log.read_page(to, BEGINNING, events_max=100)
    assert [event.tenant for event in before.events] == [OTHER, OTHER]
    assert before.arrival is None
    after = await log.read_page(to, before.end, events_max=100)
    assert [event.type for event in after.events] == [TenantArrived.type, "Counted"]
    assert after.arrival == (TENANT, 3, home, page.end)
    assert [event.type async for event in log.read_stream(TENANT, stream_of(TENANT))] == [
        TenantLeft.type,
        TenantArrived.type,
    ]


async def test_where_a_tenant_has_lived_is_known(log: Log) -> None:
    home, to = await home_and_next(log)
    await log.append_batch(home, [append("a/1", 0)])
    assert not (await log.residences_of(TENANT)).has_moved
    await log.move_tenant(TENANT, to)
    lived = await log.residences_of(TENANT)
    assert [(one.partition, one.first_position, one.last_position) for one in lived] == [
        (home, 1, 2),
        (to, 1, None),
    ]
    first, second = lived
    assert first.until is not None
    assert second.since is not None
    left, arrived = [event async for event in log.read_stream(TENANT, stream_of(TENANT))]
    assert (first.until, second.since) == (left.recorded_at, arrived.recorded_at)
    assert first.until <= second.since
    assert lived.at(second.since) is second
    assert lived.at(left.recorded_at.replace(year=2000)) is first
    assert TENANT in await log.moved_tenants(home)
    assert TENANT in await log.moved_tenants(to)
    assert not await log.moved_tenants(next(p for p in log.partitions if p not in (home, to)))


async def test_states_are_brought_up_to_date_over_all_residences(log: Log) -> None:
    home, to = await home_and_next(log)
    await log.append_batch(home, [append("a/1", 0, 3), append("b/1", 0, 2)])
    await log.move_tenant(TENANT, to)
    await log.append_batch(to, [append("a/1", 3), append("n/1", 0)])
    tails = [
        StreamTail(TENANT, "a/1", 1),
        StreamTail(TENANT, "b/1"),
        StreamTail(TENANT, "n/1"),
        StreamTail(TENANT, "-"),
    ]
    events, head = await log.read_tails(to, tails)
    by_stream = {
        name: [(p, v) for s, p, v in versions(events) if s == name] for name in ("a/1", "b/1", "n/1", "-")
    }
    assert by_stream == {
        "a/1": [(home, 2), (home, 3), (to, 4)],
        "b/1": [(home, 1), (home, 2)],
        "n/1": [(to, 1)],
        "-": [],
    }
    assert head == (await log.heads())[to]
    known, _ = await log.read_tails(to, [StreamTail(TENANT, "a/1", 4), StreamTail(TENANT, "b/1", 2)])
    assert not known


async def test_saved_states_of_before_the_move_count(log: Log) -> None:
    home, to = await home_and_next(log)
    await log.append_batch(home, [append("a/1", 0, 3)])
    mark = (await log.heads())[home]
    assert await log.save_states(home, [Snapshot(TENANT, "a/1", SHAPE, 1, 2, mark, b"two")]) == 1
    await log.move_tenant(TENANT, to)
    await log.append_batch(to, [append("a/1", 3)])
    found = await log.read_states(to, [StateTail(TENANT, "a/1", 0, SHAPE)])
    assert [(one.version, one.state) for one in found.saved] == [(2, b"two")]
    assert versions(found.events) == [("a/1", home, 3), ("a/1", to, 4)]

    mark = (await log.heads())[to]
    assert await log.save_states(to, [Snapshot(TENANT, "a/1", SHAPE, 1, 4, mark, b"four")]) == 1
    found = await log.read_states(to, [StateTail(TENANT, "a/1", 0, SHAPE)])
    assert [(one.version, one.state) for one in found.saved] == [(4, b"four")]
    assert not found.events

    assert await log.forget_states(TENANT, ["a/1"]) == 2
    found = await log.read_states(to, [StateTail(TENANT, "a/1", 0, SHAPE)])
    assert not found.saved
    assert [event.version for event in found.events] == [1, 2, 3, 4]


async def test_a_key_of_before_the_move_has_its_first_answer(log: Log) -> None:  # F55
    home, to = await home_and_next(log)
    first, nothing = await log.append_batch(
        home, [append("a/1", 0, 2, key=key("k")), append("b/1", 0, 0, key=key("nothing"))]
    )
    await log.move_tenant(TENANT, to)
    outcomes = await log.append_batch(
        to,
        [
            append("a/1", 99, 2, key=key("k")),
            append("a/1", 99, key=key("k", request=b"another")),
            append("b/1", 0, 0, key=key("nothing")),
            append("c/1", 0, key=key("new")),
        ],
    )
    assert outcomes[0] == replace_answer(first, DUPLICATE, home)
    assert outcomes[1].answer is REUSED
    assert outcomes[2] == replace_answer(nothing, DUPLICATE, home)
    assert outcomes[3].answer is APPENDED
    (again,) = await log.append_batch(to, [append("c/1", 0, key=key("new"))])
    assert (again.answer, again.partition) == (DUPLICATE, None)


def replace_answer(outcome: object, answer: Answer, partition: int) -> object:
    """Return a first answer as it is given again from another partition."""
    return outcome._replace(answer=answer, partition=partition)  # type: ignore[attr-defined]  # an outcome


async def test_what_builds_on_a_repeat_of_before_the_move_is_a_conflict(log: Log) -> None:
    home, to = await home_and_next(log)
    await log.append_batch(home, [append("a/1", 0, key=key("k"))])
    await log.move_tenant(TENANT, to)
    outcomes = await log.append_batch(to, [append("a/1", 1, key=key("k")), append("a/1", 2)])
    assert [one.answer for one in outcomes] == [DUPLICATE, CONFLICT]


async def test_conditions_from_the_beginning_ask_the_past(log: Log) -> None:  # F55
    home, to = await home_and_next(log)
    await log.append_batch(home, [tagged("a/1", "x", "y", type="Taken")])
    await log.move_tenant(TENANT, to)
    outcomes = await log.append_batch(
        to,
        [
            tagged("a/2", conditions=[unless("x")]),
            tagged("a/2", conditions=[unless("x", "y", types=["Taken"])]),
            tagged("a/7", conditions=[unless("x", types=["Other"])]),
            tagged("a/3", conditions=[unless("x", "z")]),
            tagged("a/4", conditions=[unless("x", after=1)]),
        ],
    )
    assert [one.answer for one in outcomes] == [CONFLICT, CONFLICT, APPENDED, APPENDED, APPENDED]
    assert outcomes[0].conflict == CONDITION
    await log.append_batch(to, [tagged("a/5", "x")])
    (late,) = await log.append_batch(
        to, [tagged("a/6", conditions=[unless("x", after=outcomes[-1].position)])]
    )
    assert late.answer is CONFLICT


async def test_events_by_tag_are_found_over_all_residences(log: Log) -> None:
    home, to = await home_and_next(log)
    await log.append_batch(home, [tagged("a/1", "x"), tagged("a/2", "y")])
    await log.move_tenant(TENANT, to)
    await log.append_batch(to, [tagged("a/1", "x")])
    (xs, ys, new), head = await log.read_tagged(
        to, [TagTail(TENANT, "x"), TagTail(TENANT, "y"), TagTail(TENANT, "x", 1)]
    )
    assert versions(xs) == [("a/1", home, 1), ("a/1", to, 2)]
    assert versions(ys) == [("a/2", home, 1)]
    assert versions(new) == [("a/1", to, 2)]
    assert head == (await log.heads())[to]


async def test_a_tenant_may_move_on_and_has_all_of_its_past(log: Log) -> None:
    home, to = await home_and_next(log)
    third = next(partition for partition in log.partitions if partition not in (home, to))
    (first,) = await log.append_batch(home, [append("a/1", 0, key=key("one"), tags=["x"])])
    await log.move_tenant(TENANT, to)
    (second,) = await log.append_batch(to, [append("a/1", 1, key=key("two"), tags=["x"])])
    await log.move_tenant(TENANT, third)
    outcomes = await log.append_batch(
        third, [append("a/1", 0, key=key("one")), append("a/1", 1, key=key("two"))]
    )
    assert [(one.answer, one.partition, one.position) for one in outcomes] == [
        (DUPLICATE, home, first.position),
        (DUPLICATE, to, second.position),
    ]
    (third_event,) = await log.append_batch(third, [append("a/1", 2, tags=["x"])])
    assert third_event.answer is APPENDED
    assert await stream(log, "a/1") == [(home, 1), (to, 2), (third, 3)]
    (xs,), _ = await log.read_tagged(third, [TagTail(TENANT, "x")])
    assert versions(xs) == [("a/1", home, 1), ("a/1", to, 2), ("a/1", third, 3)]
    tails, _ = await log.read_tails(to, [StreamTail(TENANT, "a/1")])
    assert versions(tails) == [("a/1", home, 1), ("a/1", to, 2)]


async def test_a_lost_call_is_settled_where_it_was_sent(log: Log) -> None:
    home, to = await home_and_next(log)
    stored, lost = append("a/1", 0, key=key("k")), append("b/1", 0, key=key("lost"))
    await log.append_batch(home, [stored])
    await log.move_tenant(TENANT, to)
    found = await log.settle(home, stored)
    assert found is not None
    assert (found.answer, found.position) == (APPENDED, 1)
    assert await log.settle(home, lost) is None
    (late,) = await log.append_batch(to, [replace(lost)])
    assert late.answer is APPENDED
