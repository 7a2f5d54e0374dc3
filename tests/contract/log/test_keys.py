"""Idempotency keys: the same key means the same request, and only acceptance binds."""

from event_store.log import Answer, EventLog
from schemas.envelope import BEGINNING
from tests.contract.log.appends import append, key, refusal

APPENDED, CONFLICT, DUPLICATE, REUSED = Answer.APPENDED, Answer.CONFLICT, Answer.DUPLICATE, Answer.REUSED


async def test_a_repeat_gets_the_first_answer(log: EventLog) -> None:
    first = (await log.append_batch(0, [append("a/1", 0, 3, key=key("k"))]))[0]
    await log.append_batch(0, [append("a/1", 3)])
    (again,) = await log.append_batch(0, [append("a/1", 0, 3, key=key("k"))])
    assert again == first._replace(answer=DUPLICATE)
    assert [
        e.version for e in await log.read_range(0, again.position - again.events + 1, again.position)
    ] == [1, 2, 3]


async def test_the_key_counts_before_the_version(log: EventLog) -> None:
    await log.append_batch(0, [append("a/1", 0, key=key("k"))])
    assert [o.answer for o in await log.append_batch(0, [append("a/1", 99, key=key("k"))])] == [DUPLICATE]


async def test_another_request_under_a_bound_key_is_refused(log: EventLog) -> None:
    await log.append_batch(0, [append("a/1", 0, key=key("k", request=b"one"))])
    (outcome,) = await log.append_batch(0, [append("b/1", 0, key=key("k", request=b"two"))])
    assert (outcome.answer, outcome.events, outcome.position, outcome.version) == (REUSED, 0, 1, 0)


async def test_a_key_belongs_to_its_tenant_and_subject(log: EventLog) -> None:
    appends = [
        append("a/1", 0, key=key("k")),
        append("a/2", 0, key=key("k", subject="eve")),
        append("a/1", 0, key=key("k"), tenant="other"),
    ]
    assert [o.answer for o in await log.append_batch(0, appends)] == [APPENDED] * 3
    assert [o.answer for o in await log.append_batch(0, appends)] == [DUPLICATE] * 3


async def test_a_repeat_in_the_same_batch_gets_the_first_answer(log: EventLog) -> None:
    """F08"""
    batch = [append("a/1", 0, 2, key=key("k")) for _ in range(3)] + [append("b/1", 0)]
    first, second, third, other = await log.append_batch(0, batch)
    assert (first.answer, other.answer, other.position) == (APPENDED, APPENDED, 3)
    assert second == third == first._replace(answer=DUPLICATE)


async def test_another_request_under_the_same_key_in_the_same_batch_is_refused(log: EventLog) -> None:
    batch = [append("a/1", 0, key=key("k", request=b"one")), append("b/1", 0, key=key("k", request=b"two"))]
    assert [o.answer for o in await log.append_batch(0, batch)] == [APPENDED, REUSED]


async def test_what_builds_on_a_duplicate_is_a_conflict(log: EventLog) -> None:
    """F06: a used key is sent again ahead of a new command, which was decided on top of it."""
    await log.append_batch(0, [append("a/1", 0, key=key("k"))])
    batch = [append("a/1", 1, key=key("k")), append("a/1", 2), append("a/1", 1)]
    assert [o.answer for o in await log.append_batch(0, batch)] == [DUPLICATE, CONFLICT, CONFLICT]


async def test_a_conflict_does_not_bind(log: EventLog) -> None:
    batch = [append("a/1", 7, key=key("k")), append("b/1", 0, key=key("k"))]
    assert [o.answer for o in await log.append_batch(0, batch)] == [CONFLICT, APPENDED]
    assert [o.stream for o in await log.append_batch(0, batch)] == ["b/1", "b/1"]


async def test_a_refusal_does_not_bind_but_is_answered_by_a_bound_key(log: EventLog) -> None:
    assert [o.answer for o in await log.append_batch(0, [refusal("a/1", 0, key=key("k"))])] == [APPENDED]
    (first,) = await log.append_batch(0, [append("a/1", 0, key=key("k"))])
    (again,) = await log.append_batch(0, [refusal("a/1", 1, key=key("k"))])
    assert again == first._replace(answer=DUPLICATE)


async def test_acceptance_without_events_binds_and_keeps_its_position(log: EventLog) -> None:
    await log.append_batch(0, [append("a/1", 0)])
    (first,) = await log.append_batch(0, [append("a/1", 1, 0, key=key("k"))])
    await log.append_batch(0, [append("a/1", 1)])
    (again,) = await log.append_batch(0, [append("a/1", 2, 0, key=key("k"))])
    assert again == first._replace(answer=DUPLICATE)
    assert (again.position, again.events, again.version) == (1, 0, 1)


async def test_acceptance_without_events_on_an_empty_log_binds_at_the_beginning(log: EventLog) -> None:
    (first,) = await log.append_batch(0, [append("a/1", 0, 0, key=key("k"))])
    (again,) = await log.append_batch(0, [append("a/1", 0, 0, key=key("k"))])
    assert again == first._replace(answer=DUPLICATE)
    assert again.commit == BEGINNING


async def test_keys_are_kept_beside_a_conflict_in_the_same_batch(log: EventLog) -> None:
    batch = [
        append("a/1", 0, 2, key=key("k1")),
        append("a/2", 5, key=key("k2")),
        append("a/1", 2, key=key("k3")),
    ]
    first, _, third = await log.append_batch(0, batch)
    again = await log.append_batch(0, batch)
    assert again[0] == first._replace(answer=DUPLICATE)
    assert again[1].answer is CONFLICT
    assert again[2] == third._replace(answer=DUPLICATE)
    assert (third.position, third.version) == (3, 3)


async def test_an_append_is_settled_by_its_key(log: EventLog) -> None:
    wanted = append("a/1", 0, 2, key=key("k"))
    assert await log.settle(0, wanted) is None
    (outcome,) = await log.append_batch(0, [wanted])
    await log.append_batch(0, [append("a/1", 2)])
    assert await log.settle(0, wanted) == outcome
    assert await log.settle(0, append("a/1", 0, 2, key=key("k"))) == outcome._replace(answer=DUPLICATE)
    other = await log.settle(0, append("a/1", 0, 2, key=key("k", request=b"other")))
    assert other is not None
    assert other.answer is REUSED


async def test_an_append_without_a_key_is_settled_by_its_events(log: EventLog) -> None:
    wanted = append("a/1", 0, 2, also=[("b/1", -1)])
    assert await log.settle(0, wanted) is None
    _, outcome = await log.append_batch(0, [append("c/1", 0), wanted])
    await log.append_batch(0, [append("a/1", 2)])
    assert await log.settle(0, wanted) == outcome
    assert await log.settle(0, append("a/1", 0, 2)) is None


async def test_an_append_of_nothing_has_nothing_to_settle(log: EventLog) -> None:
    assert await log.settle(0, refusal("a/1", 0)) is None
