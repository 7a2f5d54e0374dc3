"""What changed between two instants is exactly what is different, and each change names the event that made it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_store.log import Append, Check, Expect, NewEvent
from event_store.memory import MemoryLog
from query_api.differences import ABSENT, Instant, changed, difference, leaves, query_of_stream
from schemas import Event
from schemas.errors import NotFound
from tests.integration.projectors.accounts import METADATA, event_id
from tests.toy import AccountClosed, AccountOpened, Deposited, Withdrawn
from tests.toy.queries import GetAccount
from tests.toy.world import REGISTRY

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.text("a/~", max_size=2)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("a/~b", max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


def kind_and_value(value: Any) -> tuple[type, Any]:
    return type(value), value


@given(
    st.dictionaries(st.text("ab", max_size=1), DOCUMENTS),
    st.dictionaries(st.text("ab", max_size=1), DOCUMENTS),
)
def test_the_changes_make_the_one_document_the_other_and_none_is_idle(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    one, other = dict(leaves(before)), dict(leaves(after))
    made = dict(one)
    for pointer, was, now in changed(one, other):
        assert made.get(pointer, ABSENT) is was or kind_and_value(made[pointer]) == kind_and_value(was)
        assert kind_and_value(was) != kind_and_value(now)
        if now is ABSENT:
            del made[pointer]
        else:
            made[pointer] = now
    assert {pointer: kind_and_value(value) for pointer, value in made.items()} == {
        pointer: kind_and_value(value) for pointer, value in other.items()
    }
    assert changed(one, one) == []


async def told(*events: Event) -> MemoryLog:
    log = MemoryLog(1)
    stream = "accounts/A"
    for event in events:
        new = NewEvent(stream, event_id(), event.type, event.schema_version, event.encode())
        await log.append_batch(0, [Append("acme", stream, [Check(stream, Expect.ANY)], [new], METADATA)])
    return log


async def found(log: MemoryLog, before: Instant, after: Instant) -> Any:
    query, path = query_of_stream([GetAccount], "accounts/A")
    return await difference(log, REGISTRY, query, "acme", path, before, after)


async def test_each_field_names_the_events_that_changed_it() -> None:
    log = await told(
        AccountOpened(owner="Ann"),
        Deposited(cents=5),
        Withdrawn(cents=5),
        Deposited(cents=9),
        AccountClosed(),
    )
    first = await found(log, Instant(version=2), Instant(version=4))
    changes = {change.pointer: change.document() for change in first.changes}
    assert changes["/balance_cents"] == {
        "pointer": "/balance_cents", "what": "changed", "before": 5, "after": 9, "set_by": 4, "events": [3, 4],
    }  # fmt: skip
    assert [event.version for event in first.events] == [3, 4]
    back = await found(log, Instant(version=2), Instant(version=3))
    assert [change.pointer for change in back.changes] == ["/version", "/balance_cents"]
    whole = await found(log, Instant(version=0), Instant(version=1))
    assert {change.document()["what"] for change in whole.changes} == {"added"}
    gone = await found(log, Instant(version=4), Instant())
    assert (gone.after, {change.document()["what"] for change in gone.changes}) == (None, {"removed"})


async def test_instants_are_times_too() -> None:
    log = await told(AccountOpened(owner="Ann"), Deposited(cents=5), Deposited(cents=6))
    events = [event async for event in log.read_stream("acme", "accounts/A")]
    between = await found(log, Instant(time=events[0].recorded_at), Instant(time=events[1].recorded_at))
    by_version = {version for change in between.changes for version in change.events}
    assert by_version <= {2, 3}
    assert between.changes


async def test_what_no_document_is_made_from_is_not_found() -> None:
    with pytest.raises(NotFound):
        query_of_stream([GetAccount], "accounts/A/B")
    with pytest.raises(NotFound):
        query_of_stream([GetAccount], "orders/A")
    with pytest.raises(NotFound):
        await found(MemoryLog(1), Instant(), Instant())
