"""
A batch of appends as the flat arrays that `append_batch_v1` takes, and its reply as outcomes.

Everything about a batch that does not depend on the log is worked out here, once: which streams it is about, how
many events earlier appends put on a stream, which append a later one builds on, which keys appear twice. The
function then only compares and writes. Indexes are those of SQL arrays: they start at 1, and 0 means none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from event_store.log import (
    APPEND_EVENTS_MAX,
    BATCH_APPENDS_MAX,
    BATCH_BYTES_MAX,
    EVENT_BYTES_MAX,
    Answer,
    Append,
    Outcome,
)
from schemas.envelope import BEGINNING, CommitMark
from schemas.errors import BadDefinition, TooLarge

ANSWERS = (Answer.APPENDED, Answer.CONFLICT, Answer.DUPLICATE, Answer.REUSED)
"""By the numbers that `append_batch_v1` gives them."""


@dataclass(eq=False)
class BatchTooLarge(TooLarge, slug="too-large"):
    """An append, or a batch of them, is over a bound of the log."""

    bound: str = ""


class _Shape(NamedTuple):
    """What the batch says about one append, for its outcome."""

    main: int
    """Its main stream."""
    events: int
    upto: int
    """How many events the batch has up to its end."""
    grown: int
    """How many of them are on the main stream."""
    first_check: int
    last_check: int


class Batch:
    """Appends as arrays; `arguments` are those of `append_batch_v1` after the first four."""

    def __init__(self, appends: Sequence[Append]) -> None:
        """
        Flatten appends.

        Raises:
            BatchTooLarge: A bound is exceeded.
            BadDefinition: An append writes a stream that it does not check, or is a refusal with events.
        """
        if len(appends) > BATCH_APPENDS_MAX:
            raise BatchTooLarge(BATCH_APPENDS_MAX, "appends of a batch")
        self._indexes: dict[tuple[str, str], int] = {}
        self._grown = [0]
        self._writer = [0]
        self._key_numbers: dict[tuple[str, str, str], int] = {}
        self._shapes: list[_Shape] = []
        self._octets = 0
        self.metadata: list[bytes] = []
        self.checks: tuple[list[int], ...] = ([], [], [], [], [], [])
        self.events: tuple[list[Any], ...] = ([], [], [], [], [], [])
        self.keys: tuple[list[Any], ...] = ([], [], [], [], [], [], [], [], [])
        for number, append in enumerate(appends, 1):
            self._add(number, append)
        if self._octets > BATCH_BYTES_MAX:
            raise BatchTooLarge(BATCH_BYTES_MAX, "bytes of a batch")

    @property
    def arguments(self) -> Sequence[Any]:
        """Return the arrays in the function's order."""
        tenants = [tenant for tenant, _ in self._indexes]
        streams = [stream for _, stream in self._indexes]
        upto = [shape.upto for shape in self._shapes]
        return (tenants, streams, self.metadata, upto, *self.checks, *self.events, *self.keys)

    def _index(self, tenant: str, stream: str) -> int:
        index = self._indexes.setdefault((tenant, stream), len(self._indexes) + 1)
        if index == len(self._grown):
            self._grown.append(0)
            self._writer.append(0)
        return index

    def _add(self, number: int, append: Append) -> None:
        if len(append.events) > APPEND_EVENTS_MAX:
            raise BatchTooLarge(APPEND_EVENTS_MAX, "events of an append")
        if append.events and not append.binds:
            raise BadDefinition("append", "a refusal has no events")
        self.metadata.append(append.metadata)
        self._octets += len(append.metadata)
        main = self._index(append.tenant, append.stream)
        first_check = len(self.checks[0])
        by_stream = self._add_checks(number, append)
        self._add_events(append, by_stream)
        written = self.checks[5]
        for check in by_stream.values():
            if count := written[check - 1]:
                index = self.checks[1][check - 1]
                self._grown[index] += count
                self._writer[index] = number
        shape = _Shape(
            main, len(append.events), len(self.events[0]), self._grown[main], first_check, len(self.checks[0])
        )
        self._shapes.append(shape)
        if append.key is not None:
            self._add_key(number, append, shape)

    def _add_checks(self, number: int, append: Append) -> dict[str, int]:
        appends, streams, expected, earlier, depends, events = self.checks
        by_stream: dict[str, int] = {}
        for check in append.checks:
            index = self._index(append.tenant, check[0])
            appends.append(number)
            streams.append(index)
            expected.append(check[1])
            earlier.append(self._grown[index])
            depends.append(self._writer[index])
            events.append(0)
            by_stream.setdefault(check[0], len(appends))
        return by_stream

    def _add_events(self, append: Append, by_stream: dict[str, int]) -> None:
        checks, numbers, ids, types, schema_versions, data = self.events
        written = self.checks[5]
        for event in append.events:
            check = by_stream.get(event[0])
            if check is None:
                raise BadDefinition(f"append to {event[0]}", "every stream that is written needs a check")
            octets = len(event[4])
            if octets > EVENT_BYTES_MAX:
                raise BatchTooLarge(EVENT_BYTES_MAX, "bytes of an event")
            self._octets += octets
            written[check - 1] += 1
            checks.append(check)
            numbers.append(written[check - 1])
            ids.append(event[1])
            types.append(event[2])
            schema_versions.append(event[3])
            data.append(event[4])

    def _add_key(self, number: int, append: Append, shape: _Shape) -> None:
        appends, streams, subjects, keys, fingerprints, binds, twins, events, grown = self.keys
        assert append.key is not None
        subject, key, fingerprint = append.key
        scoped = (append.tenant, subject, key)
        appends.append(number)
        streams.append(shape.main)
        subjects.append(subject)
        keys.append(key)
        fingerprints.append(fingerprint)
        binds.append(append.binds)
        twins.append(self._key_numbers.get(scoped, 0))
        events.append(shape.events)
        grown.append(shape.grown)
        self._key_numbers[scoped] = len(appends)

    def outcomes(self, appends: Sequence[Append], reply: Any) -> Sequence[Outcome]:
        """Return each append's outcome from the function's reply."""
        base, before = reply["_base"], CommitMark(reply["_base"], reply["_base_hash"])
        after = CommitMark(reply["_last"], reply["_hash"])
        versions = reply["_versions"]
        if reply["_answers"] is None:
            appended = Answer.APPENDED
            return [
                Outcome(
                    appended,
                    base + shape.upto,
                    shape.events,
                    after if shape.upto else before,
                    append.stream,
                    versions[shape.main - 1] + shape.grown,
                )
                for append, shape in zip(appends, self._shapes, strict=True)
            ]
        return self._walk(appends, reply, before, after)

    def _walk(
        self, appends: Sequence[Append], reply: Any, before: CommitMark, after: CommitMark
    ) -> Sequence[Outcome]:
        """Follow the function through the batch: what was appended moves positions and versions on."""
        names = [stream for _, stream in self._indexes]
        versions = [0, *reply["_versions"]]
        bound = dict(zip(reply["_bound_append"] or (), _bound(reply), strict=True))
        outcomes: list[Outcome] = []
        head = before
        for number, (append, shape) in enumerate(zip(appends, self._shapes, strict=True), 1):
            answer = ANSWERS[reply["_answers"][number - 1]]
            if answer is Answer.APPENDED:
                for check in range(shape.first_check, shape.last_check):
                    versions[self.checks[1][check]] += self.checks[5][check]
                if shape.events:
                    head = CommitMark(head.position + shape.events, after.hash)
            elif answer is Answer.DUPLICATE:
                twin = reply["_twins"][number - 1]
                outcomes.append(outcomes[twin - 1]._replace(answer=answer) if twin else bound[number])
                continue
            events = shape.events if answer is Answer.APPENDED else 0
            failed = reply["_failed"][number - 1]
            outcomes.append(
                Outcome(
                    answer,
                    head.position,
                    events,
                    before if head is before else after,
                    append.stream,
                    versions[shape.main],
                    names[failed - 1] if failed else None,
                )
            )
        return outcomes


def _bound(reply: Any) -> Sequence[Outcome]:
    """Return what the first answers of keys said that were bound before this batch."""
    columns = ("position", "events", "stream", "version", "commit", "hash")
    rows = zip(*(reply[f"_bound_{column}"] or () for column in columns), strict=True)
    return [
        Outcome(Answer.DUPLICATE, position, events, mark_of(commit, hash_), stream, version)
        for position, events, stream, version, commit, hash_ in rows
    ]


def mark_of(position: int | None, hash_: bytes | None) -> CommitMark:
    """Return the place that a row names, which is the beginning where there is no commit."""
    return BEGINNING if position is None or hash_ is None else CommitMark(position, hash_)
