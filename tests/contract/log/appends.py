"""Words for tests of the log: short ways to say what is appended."""

from collections.abc import Sequence
from itertools import count
from uuid import UUID

from event_store.log import Append, Check, Condition, Expect, IdempotencyKey, NewEvent, QueryItem

TENANT = "acme"
METADATA = b'{"actor": "bob"}'
_numbers = count(1)


def event(stream: str, data: bytes = b"{}", *, type: str = "Counted", tags: Sequence[str] = ()) -> NewEvent:
    """Return an event with an id of its own."""
    return NewEvent(stream, str(UUID(int=next(_numbers))), type, 1, data, tags)


def unless(*tags: str, after: int = 0, types: Sequence[str] = ()) -> Condition:
    """Return the condition that no event after a position carries all of some tags and is of one of some types."""
    return Condition((QueryItem(tags, types),), after)


def tagged(
    stream: str,
    *tags: str,
    type: str = "Counted",
    conditions: Sequence[Condition] = (),
    expected: int = Expect.ANY,
    tenant: str = "acme",
    key: IdempotencyKey | None = None,
) -> Append:
    """Return an append of one event with tags, on conditions."""
    written = [event(stream, type=type, tags=tags)]
    return Append(tenant, stream, [Check(stream, expected)], written, METADATA, key, conditions=conditions)


def key(name: str, *, subject: str = "bob", request: bytes = b"") -> IdempotencyKey:
    """Return a key; another `request` is another fingerprint."""
    return IdempotencyKey(subject, name, request.ljust(32, b"\0"))


def append(
    stream: str,
    expected: int,
    events: int = 1,
    *,
    also: Sequence[tuple[str, int]] = (),
    reads: Sequence[tuple[str, int]] = (),
    key: IdempotencyKey | None = None,
    tenant: str = TENANT,
    binds: bool = True,
    data: bytes = b"{}",
    type: str = "Counted",
    tags: Sequence[str] = (),
) -> Append:
    """Return an append of some events to a stream, one more to each of `also`, that also rests on `reads`."""
    written = [event(stream, data, type=type, tags=tags) for _ in range(events)]
    written += [event(name) for name, _ in also]
    checks = [Check(stream, expected), *(Check(*check) for check in (*also, *reads))]
    return Append(tenant, stream, checks, written, METADATA, key, binds)


def refusal(stream: str, expected: int, *, key: IdempotencyKey | None = None) -> Append:
    """Return an append that says no: it checks what the refusal rests on and writes nothing."""
    return append(stream, expected, 0, key=key, binds=False)


ANY, EXISTS = Expect.ANY, Expect.EXISTS
