"""
A batch of appends as the flat arrays that `append_batch_v2` takes, and its reply as outcomes.

Everything about a batch that does not depend on the log is worked out here, once: which streams it is about, how
many events earlier appends put on a stream, which append a later one builds on, which keys appear twice. The
function then only compares and writes. Indexes are those of SQL arrays: they start at 1, and 0 means none.

Arrays travel as text and all bytes as one value, since a driver spends more on an array's elements than the rest of
an append costs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from event_store.boundaries import Boundaries
from event_store.log import (
    APPEND_EVENTS_MAX,
    BATCH_APPENDS_MAX,
    BATCH_BYTES_MAX,
    CONDITION,
    EVENT_BYTES_MAX,
    Answer,
    Append,
    BatchTooLarge,
    Outcome,
)
from schemas.envelope import BEGINNING, CommitMark
from schemas.errors import BadDefinition

ANSWERS = (Answer.APPENDED, Answer.CONFLICT, Answer.DUPLICATE, Answer.REUSED)
"""By the numbers that `append_batch_v2` gives them."""

SEPARATOR = "\x1f"
FINGERPRINT_OCTETS = 32


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
    """Appends as arrays."""

    def __init__(self, appends: Sequence[Append]) -> None:
        """
        Flatten appends.

        Raises:
            BatchTooLarge: A bound is exceeded.
            BadDefinition: An append writes a stream that it does not check, is a refusal with events, has a key
                whose fingerprint is no sha256, or a tag or condition that cannot be.
        """
        if len(appends) > BATCH_APPENDS_MAX:
            raise BatchTooLarge(BATCH_APPENDS_MAX, "appends of a batch")
        self._indexes: dict[tuple[str, str], int] = {}
        self._grown = [0]
        self._writer = [0]
        self._key_numbers: dict[tuple[str, str, str], int] = {}
        self._shapes: list[_Shape] = []
        self._bytes: list[bytes] = []
        self._octets = 0
        self._metadata: tuple[list[int], list[int]] = ([], [])
        self._checks: tuple[list[int], ...] = ([], [], [], [], [], [])
        self._events: tuple[list[Any], ...] = ([], [], [], [], [], [], [])
        self._keys: tuple[list[Any], ...] = ([], [], [], [], [], [], [], [], [])
        self._boundaries = Boundaries()
        for number, append in enumerate(appends, 1):
            self._add(number, append)
        if self._octets > BATCH_BYTES_MAX:
            raise BatchTooLarge(BATCH_BYTES_MAX, "bytes of a batch")

    def arguments(self) -> Sequence[Any]:
        """
        Return the arguments of `append_batch.sql` after the first four.

        Raises:
            BadDefinition: A name holds the character that separates them.
        """
        checks, numbers, ids, types, *event_figures = self._events
        key_appends, key_streams, subjects, keys, *key_figures = self._keys
        return (
            _names([tenant for tenant, _ in self._indexes]),
            _names([stream for _, stream in self._indexes]),
            b"".join(self._bytes),
            _figures([shape.upto for shape in self._shapes]),
            *map(_figures, self._metadata),
            *map(_figures, self._checks),
            _figures(checks),
            _figures(numbers),
            "{" + ",".join(ids) + "}",
            _names(types),
            *map(_figures, event_figures),
            _figures(key_appends),
            _figures(key_streams),
            _names(subjects),
            _names(keys),
            *map(_figures, key_figures),
            *self._boundary_arguments(len(checks)),
        )

    def _boundary_arguments(self, events: int) -> Sequence[str]:
        tags, appends, streams, after, item_tags, item_types, *within = self._boundaries.arguments(events)
        items = map(_figures, (appends, streams, after))
        return (_names(tags), *items, _names(item_tags), _names(item_types), *map(_figures, within))

    def _index(self, tenant: str, stream: str) -> int:
        index = self._indexes.setdefault((tenant, stream), len(self._indexes) + 1)
        if index == len(self._grown):
            self._grown.append(0)
            self._writer.append(0)
        return index

    def _put(self, octets: bytes) -> int:
        """Add bytes to the one value, and return where they start."""
        start = self._octets + 1
        self._bytes.append(octets)
        self._octets += len(octets)
        return start

    def _add(self, number: int, append: Append) -> None:
        if len(append.events) > APPEND_EVENTS_MAX:
            raise BatchTooLarge(APPEND_EVENTS_MAX, "events of an append")
        if append.events and not append.binds:
            raise BadDefinition("append", "a refusal has no events")
        starts, octets = self._metadata
        starts.append(self._put(append.metadata))
        octets.append(len(append.metadata))
        main = self._index(append.tenant, append.stream)
        first_check = len(self._checks[0])
        by_stream = self._add_checks(number, append)
        self._add_events(number, append, by_stream)
        if append.conditions:
            self._boundaries.add_conditions(number, main, append)
        _, streams, *_, written = self._checks
        for check in by_stream.values():
            if count := written[check - 1]:
                index = streams[check - 1]
                self._grown[index] += count
                self._writer[index] = number
        shape = _Shape(
            main, len(append.events), len(self._events[0]), self._grown[main], first_check, len(streams)
        )
        self._shapes.append(shape)
        if append.key is not None:
            self._add_key(number, append, shape)

    def _add_checks(self, number: int, append: Append) -> dict[str, int]:
        appends, streams, expectations, earlier, depends, written = self._checks
        by_stream: dict[str, int] = {}
        for stream, expected in append.checks:
            index = self._index(append.tenant, stream)
            appends.append(number)
            streams.append(index)
            expectations.append(int(expected))
            earlier.append(self._grown[index])
            depends.append(self._writer[index])
            written.append(0)
            by_stream.setdefault(stream, len(appends))
        return by_stream

    def _add_events(self, number: int, append: Append, by_stream: dict[str, int]) -> None:
        checks, numbers, ids, types, schema_versions, starts, octets = self._events
        written = self._checks[5]
        for stream, id_, type_, schema_version, data, tags in append.events:
            check = by_stream.get(stream)
            if check is None:
                raise BadDefinition(f"append to {stream}", "every stream that is written needs a check")
            if len(data) > EVENT_BYTES_MAX:
                raise BatchTooLarge(EVENT_BYTES_MAX, "bytes of an event")
            written[check - 1] += 1
            checks.append(check)
            numbers.append(written[check - 1])
            ids.append(id_)
            types.append(type_)
            schema_versions.append(schema_version)
            starts.append(self._put(data))
            octets.append(len(data))
            if tags:
                self._boundaries.add_tags(number, append.tenant, len(checks), type_, tags)

    def _add_key(self, number: int, append: Append, shape: _Shape) -> None:
        appends, streams, subjects, keys, starts, binds, twins, events, grown = self._keys
        assert append.key is not None
        subject, key, fingerprint = append.key
        if len(fingerprint) != FINGERPRINT_OCTETS:
            raise BadDefinition(f"key of an append to {append.stream}", "its fingerprint is a sha256")
        scoped = (append.tenant, subject, key)
        appends.append(number)
        streams.append(shape.main)
        subjects.append(subject)
        keys.append(key)
        starts.append(self._put(fingerprint))
        binds.append(int(append.binds))
        twins.append(self._key_numbers.get(scoped, 0))
        events.append(shape.events)
        grown.append(shape.grown)
        self._key_numbers[scoped] = len(appends)

    def outcomes(self, appends: Sequence[Append], reply: Any) -> Sequence[Outcome]:
        """Return each append's outcome from the function's reply."""
        base, before = reply["_base"], CommitMark(reply["_base"], reply["_base_hash"])
        after = CommitMark(reply["_last"], reply["_hash"])
        if reply["_answers"] is not None:
            return self._walk(appends, reply, before, after)
        versions, appended = reply["_versions"], Answer.APPENDED
        return [
            Outcome(
                appended, base + upto, events, after if upto else before, append.stream, versions[main - 1] + grown
            )
            for append, (main, events, upto, grown, _, _) in zip(appends, self._shapes, strict=True)
        ]  # fmt: skip

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
            if answer is Answer.DUPLICATE:
                twin = reply["_twins"][number - 1]
                outcomes.append(outcomes[twin - 1]._replace(answer=answer) if twin else bound[number])
                continue
            events = 0
            if answer is Answer.APPENDED:
                events = shape.events
                for check in range(shape.first_check, shape.last_check):
                    versions[self._checks[1][check]] += self._checks[5][check]
                if events:
                    head = CommitMark(head.position + events, after.hash)
            failed = reply["_failed"][number - 1]
            commit = before if head is before else after
            conflict = names[failed - 1] if failed > 0 else CONDITION if failed else None
            outcomes.append(
                Outcome(answer, head.position, events, commit, append.stream, versions[shape.main], conflict)
            )
        return outcomes


def mark_of(position: int | None, hash_: bytes | None) -> CommitMark:
    """Return the place that a row names, which is the beginning where there is no commit."""
    return BEGINNING if position is None or hash_ is None else CommitMark(position, hash_)


def _bound(reply: Any) -> Sequence[Outcome]:
    """Return what the first answers of keys said that were bound before this batch."""
    columns = ("position", "events", "stream", "version", "commit", "hash")
    rows = zip(*(reply[f"_bound_{column}"] or () for column in columns), strict=True)
    return [
        Outcome(Answer.DUPLICATE, position, events, mark_of(commit, hash_), stream, version)
        for position, events, stream, version, commit, hash_ in rows
    ]


def _figures(numbers: Sequence[int]) -> str:
    """Return numbers, in a list, as PostgreSQL writes an array of them."""
    return "{" + repr(numbers)[1:-1] + "}"


def _names(names: Sequence[str]) -> str:
    """Return names as one text."""
    text = SEPARATOR.join(names)
    if text.count(SEPARATOR) >= max(len(names), 1):
        raise BadDefinition("name in the log", "may not hold the character U+001F")
    return text
