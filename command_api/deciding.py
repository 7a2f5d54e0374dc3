"""
Turns one command and the states of its streams into one append, without waiting for anything.

A batch's later commands are decided on the events of its earlier ones before those are stored. What each
decision looked at goes into its append as checks, so the log itself notices when that was wrong.
"""

from collections import ChainMap
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import uuid_utils

from command_api.decider import Context, Decider, Rules, States, To
from command_api.pending import Pending
from command_api.requests import MUST_EXIST, AppendedEvent, CommandRequest
from command_api.state_cache import Known, StateCache, StreamKey
from event_store.log import (
    APPEND_EVENTS_MAX,
    EVENT_BYTES_MAX,
    Append,
    Check,
    Condition,
    NewEvent,
    QueryItem,
)
from infra.telemetry import log
from schemas import Event
from schemas.envelope import Metadata
from schemas.errors import BadDefinition, ServiceError, TooLarge, VersionMismatch

FURTHER_ROUNDS_MAX = 8
NOTHING_BEFORE: Mapping[StreamKey, Known] = {}

Found = Mapping[StreamKey, Known | ServiceError]


class Speculation:
    """What is believed of streams while a draft is decided: what was loaded, and on top what was decided."""

    __slots__ = (
        "_before",
        "_cache",
        "_partition",
        "_tagged_before",
        "is_together",
        "loaded",
        "tagged",
        "written",
    )

    def __init__(self, cache: StateCache, partition: int, before: "Speculation | None" = None) -> None:
        """`before` is what the draft before this one was decided on, while it is on its way to the log."""
        self._cache, self._partition = cache, partition
        self._before = before.written if before else NOTHING_BEFORE
        self._tagged_before: Container[StreamKey] = before.tagged if before else ()
        self.is_together = False
        """Whether all decisions will be appended together or not at all."""
        self.loaded: dict[StreamKey, Known | ServiceError] = {}
        self.written: dict[StreamKey, Known] = {}
        self.tagged: dict[StreamKey, list[tuple[str, Event]]] = {}
        """What was decided by tag, with the streams: where it will stand is not known yet."""

    def look(self, key: StreamKey) -> Known | None:
        """
        Return what is believed of a stream; None where it has to be loaded first.

        Raises:
            ServiceError: The stream cannot be read.
        """
        known = self.written.get(key) or self._before.get(key) or self.loaded.get(key)
        if known is None:
            known = self._cache.get(self._partition, key)
            if known is not None:
                self.loaded[key] = known
        elif isinstance(known, ServiceError):
            raise known
        return known

    def look_at_tag(self, key: StreamKey, decider: Decider[Any]) -> Known | None:
        """
        Return what is believed of what carries a tag, as of the position of the last such event that is stored.

        Raises:
            Deferred: Events that carry it are on their way to the log.
            ServiceError: The events that carry it cannot be read.
        """
        decided = self.tagged.get(key, ())
        if key in self._tagged_before or (decided and not self.is_together):
            raise Deferred
        known = self.look(key)
        if known is None or not decided:
            return known
        state = known.state
        for stream, event in decided:
            state = decider.evolve_tagged(state, stream, event)
        return known._replace(state=state)


class Seen(NamedTuple):
    """What a decision looked at."""

    streams: dict[str, int]
    """The version of each stream."""
    tags: dict[str, int]
    """Of each tag the position of the last event that carries it; 0 where there is none."""


@dataclass(slots=True)
class Decision:
    """What follows from one command, ready to be appended."""

    pending: Pending
    append: Append
    events: Sequence[AppendedEvent] = ()
    objects: Sequence[Event] = ()
    written: Mapping[str, Known] = field(default_factory=dict)
    """The states of the streams that it adds to, by stream, after its events."""
    seen: Mapping[str, int] = field(default_factory=dict)
    """The versions of all streams that it looked at, before its events."""
    seen_tags: Mapping[str, int] = field(default_factory=dict)
    """Of the tags that it looked at the positions of the last events."""
    tags: Sequence[str] = ()
    """What its events carry."""
    refusal: ServiceError | None = None
    bytes: int = 0

    @property
    def version(self) -> int:
        """The main stream's version after it."""
        stream = self.append.stream
        known = self.written.get(stream)
        return known.version if known else self.seen[stream]


class Missing(Exception):
    """Streams have to be loaded before the command can be decided."""

    def __init__(self, keys: Sequence[StreamKey]) -> None:
        super().__init__(keys)
        self.keys = keys


class Deferred(Exception):
    """A command rests on events by tag that have no positions yet; it is decided when they have."""


class Desk:
    """Where commands are decided: the rules, and one time for the batch."""

    def __init__(self, rules: Rules, now: datetime) -> None:
        self._rules, self._now = rules, now

    def named_streams(self, pending: Pending) -> Sequence[str]:
        """Return the streams that a command's fields name, its own first."""
        if pending.streams is None:
            command = pending.request.command
            named = pending.decider.streams(command)
            pending.streams = tuple(dict.fromkeys((pending.stream, *named))) if named else (pending.stream,)
            for stream in pending.streams[1:]:
                self._rules.of_stream(stream)
        return pending.streams

    def decide(self, pending: Pending, speculation: Speculation) -> Decision:
        """
        Return what follows from a command, and add it to what is believed.

        Raises:
            Missing: Streams have to be loaded first.
            Deferred: What it rests on is on its way to the log, and has to be there first.
            ServiceError: The command cannot be decided; nobody need ask the log.
        """
        states, seen = self.look(pending, speculation)
        request = pending.request
        try:
            if request.expected_version is not None:
                _check_expectation(pending.stream, request.expected_version, seen.streams)
            results = pending.decider.decide(request.command, states, self._context(request))
        except ServiceError as error:
            if error.status >= 500:
                raise
            return self._refused(pending, seen, error)
        return self._accepted(pending, seen, results, speculation)

    def look(self, pending: Pending, speculation: Speculation) -> tuple[States, Seen]:
        """
        Return the states that a command's decision looks at, and their versions.

        Raises:
            Missing: Streams have to be loaded first.
            Deferred: What it rests on is on its way to the log, and has to be there first.
        """
        tenant, command = pending.tenant, pending.request.command
        states: dict[str, Any] = {}
        seen = Seen({}, {})
        self._fill(tenant, self.named_streams(pending), speculation, states, seen)
        view = States(states, ChainMap(seen.streams, seen.tags) if self._rules.has_tags else seen.streams)
        if pending.names_further:
            for _ in range(FURTHER_ROUNDS_MAX):
                named = [
                    name for name in pending.decider.further_streams(command, view) if name not in states
                ]
                if not named:
                    return view, seen
                for stream in named:
                    self._rules.of_stream(stream)
                self._fill(tenant, named, speculation, states, seen)
            raise BadDefinition(
                type(pending.decider).__name__, f"names further streams for ever ({command.command_name})"
            )
        return view, seen

    def _fill(
        self, tenant: str, names: Iterable[str], speculation: Speculation, states: dict[str, Any], seen: Seen
    ) -> None:
        missing = []
        is_tag = self._rules.is_tag if self._rules.has_tags else None
        for name in names:
            if is_tag is not None and is_tag(name):
                known = speculation.look_at_tag((tenant, name), self._rules.of_stream(name))
                versions = seen.tags
            else:
                known, versions = speculation.look((tenant, name)), seen.streams
            if known is None:
                missing.append((tenant, name))
            else:
                states[name], versions[name] = known.state, known.version
        if missing:
            raise Missing(missing)

    def _context(self, request: CommandRequest) -> Context:
        return Context(
            self._now,
            request.occurred_at or self._now,
            request.principal.subject,
            request.principal.is_system,
            request.reason,
        )

    def _refused(self, pending: Pending, seen: Seen, error: ServiceError) -> Decision:
        append = Append(
            pending.tenant,
            pending.stream,
            checks_of(seen.streams),
            key=pending.key,
            binds=False,
            conditions=conditions_of(seen.tags),
        )
        return Decision(pending, append, seen=seen.streams, seen_tags=seen.tags, refusal=error)

    def _accepted(
        self,
        pending: Pending,
        seen: Seen,
        results: Sequence[Event | To],
        speculation: Speculation,
    ) -> Decision:
        main, tenant = pending.stream, pending.tenant
        written: dict[str, Known] = {}
        new: list[NewEvent] = []
        appended: list[AppendedEvent] = []
        objects: list[Event] = []
        size = 0
        carried: list[str] = []
        for result in results:
            stream, event, tags = result if isinstance(result, To) else (main, result, ())
            if stream not in seen.streams:
                raise BadDefinition(
                    type(pending.decider).__name__, f"adds to {stream}, which it did not name"
                )
            if event.is_past:
                raise BadDefinition(
                    type(pending.decider).__name__,
                    f"decides {type(event).__name__}, which is read as something else today: decide that",
                )
            data = event.encode()
            if len(data) > EVENT_BYTES_MAX or len(new) >= APPEND_EVENTS_MAX:
                raise TooLarge(EVENT_BYTES_MAX)
            before = written.get(stream) or speculation.look((tenant, stream))
            assert before is not None
            state = self._rules.of_stream(stream).evolve(before.state, event)
            written[stream] = known = Known(before.version + 1, state, before.weight + len(data))
            event_id = str(uuid_utils.uuid7())
            new.append(NewEvent(stream, event_id, event.type, event.schema_version, data, tags))
            if tags:
                carried.extend(tags)
                for tag in filter(self._rules.is_tag, tags):
                    speculation.tagged.setdefault((tenant, tag), []).append((stream, event))
            appended.append(
                AppendedEvent(event_id, event.type, event.schema_version, stream, known.version, data)
            )
            objects.append(event)
            size += len(data)
        for stream, known in written.items():
            speculation.written[tenant, stream] = known
        metadata = self._metadata(pending.request) if new or pending.key else b"{}"
        append = Append(
            tenant,
            main,
            checks_of(seen.streams),
            new,
            metadata,
            pending.key,
            conditions=conditions_of(seen.tags) if seen.tags else (),
        )
        size += len(metadata) * len(new)
        return Decision(
            pending, append, appended, objects, written, seen.streams, seen.tags, carried, bytes=size
        )

    def _metadata(self, request: CommandRequest) -> bytes:
        return Metadata(
            actor=request.principal.subject,
            roles=request.principal.roles,
            command=request.command.command_name,
            occurred_at=request.occurred_at or self._now,
            correlation_id=request.correlation_id or str(uuid_utils.uuid7()),
            causation_id=request.causation_id,
            reason=request.reason,
            idempotency_key=request.key,
            traceparent=request.traceparent,
        ).encode()


def _check_expectation(stream: str, expected: int, versions: Mapping[str, int]) -> None:
    version = versions[stream]
    if version == 0 if expected == MUST_EXIST else version != expected:
        raise VersionMismatch(stream, version)


def checks_of(versions: Mapping[str, int]) -> list[Check]:
    """Return that streams are expected to be as they were seen."""
    return [Check(stream, version) for stream, version in versions.items()]


def conditions_of(positions: Mapping[str, int]) -> list[Condition]:
    """Return that nothing is expected to have been added to tags since they were seen."""
    return [Condition((QueryItem((tag,)),), position) for tag, position in positions.items()]


def foreseen_error(pending: Pending, error: Exception) -> ServiceError:
    """Return the error that a command is answered with whose decision failed, and log what nobody foresaw."""
    if isinstance(error, ServiceError) and error.status != 500:
        return error
    log.error("command could not be decided", command=pending.request.command.command_name, exc_info=error)
    return error if isinstance(error, ServiceError) else ServiceError()
