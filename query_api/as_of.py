"""
A document as of a time or a position: its one stream, folded up to there with the projection's own fold.

Commit times never run backwards, so a time is a prefix of the log as a position is.
"""

from collections.abc import AsyncIterator, Container, Sequence
from datetime import datetime
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from event_store.log import EventLog
from infra.documents import digest_of
from infra.telemetry import Counter, log
from projectors.projection import Key, Projection, Stream
from query_api.answers import Answer, Asked
from query_api.documents import NO_DIGEST
from query_api.freshness import History
from query_api.parameters import Moment, error
from query_api.query import DocumentQuery
from schemas import Event
from schemas.envelope import RecordedEvent
from schemas.errors import (
    Invalid,
    MalformedRequest,
    ProjectionBehind,
    StoreUnavailable,
    StreamsUnreadable,
    UnknownEvent,
)
from schemas.registry import Registry

AS_OF_CHARACTERS_MAX = 128
FOLDS_MAX = 4
"""Of those that stand in for a read side that is behind, in one process: the log has other things to do."""
FOLD_EVENTS_MAX = 5_000
FOLDS = Counter("everfold_query_folds_total", "Reads that asked the log for a document", ["outcome"])
_MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)


class StreamTooLong(Exception):
    """A stream has more events than may be folded for a read."""


class LogFolder:
    """Folds documents from the log."""

    def __init__(self, log: EventLog, history: History, registry: Registry) -> None:
        self._log = log
        self._history = history
        self._reader = EventReader(registry)
        self._folds = 0

    async def fold_now(self, query: type[DocumentQuery], asked: Asked) -> Answer | None:
        """
        Return the document as the log's head has it.

        None where its stream is long, as many are being folded as may be, or the log cannot be asked.
        """
        if self._folds >= FOLDS_MAX:
            FOLDS.labels("busy").inc()
            return None
        self._folds += 1
        try:
            answer = await self._fold_head(query, asked)
        except StoreUnavailable:
            FOLDS.labels("away").inc()
            return None
        finally:
            self._folds -= 1
        FOLDS.labels("long" if answer is None else "folded").inc()
        return answer

    async def _fold_head(self, query: type[DocumentQuery], asked: Asked) -> Answer | None:
        head = await self._log.head(asked.partition)
        if head is None:
            return Answer(None, NO_DIGEST, 0, "00000000")
        try:
            row, *_ = await self._fold(
                query,
                asked,
                until_position=head.last_position,
                until_partition=asked.partition,
                events_max=FOLD_EVENTS_MAX,
            )
        except StreamTooLong:
            return None
        return _answer(row, head.last_position, head.hash[:4].hex())

    async def fold_as_of(self, query: type[DocumentQuery], asked: Asked, as_of: str) -> Answer:
        """
        Return the document as it was at a time (RFC 3339, or a date: its beginning) or at a position.

        Raises:
            Invalid: It is neither.
            PositionLost: The position's history does not exist any more.
            ProjectionBehind: The position is still to come.
        """
        if as_of.startswith("p1."):
            return await self._at_position(query, asked, as_of)
        try:
            moment = _MOMENT.validate_strings(as_of)
        except ValidationError as problem:
            raise Invalid([error("as_of", "must be a position or an RFC 3339 time")]) from problem
        row, last, partition = await self._fold(query, asked, until_time=moment)
        prefix = await self._history.hash_prefix(partition, last) if last else None
        return _answer(row, last, prefix or "00000000", partition)

    async def _at_position(self, query: type[DocumentQuery], asked: Asked, as_of: str) -> Answer:
        try:
            position = await self._history.verified(as_of, asked.tenant)
        except MalformedRequest as problem:
            raise Invalid([error("as_of", "is not a position of this tenant")]) from problem
        partition = position.partition
        if position.position and await self._history.hash_prefix(partition, position.position) is None:
            raise ProjectionBehind(as_of, 0.0)
        row, *_ = await self._fold(query, asked, until_position=position.position, until_partition=partition)
        return _answer(row, position.position, position.hash_prefix, partition)

    async def _fold(
        self,
        query: type[DocumentQuery],
        asked: Asked,
        *,
        until_position: int | None = None,
        until_partition: int | None = None,
        until_time: datetime | None = None,
        events_max: int | None = None,
    ) -> tuple[Any, int, int]:
        """
        Return the row, and the position and partition of the last event of its stream that is in it.

        Raises:
            StreamTooLong: It has more events than `events_max`.
            StreamsUnreadable: An event of the stream is not known to this program: without it the row would be wrong.
        """
        stream = query.stream_of(asked.path)
        assert stream is not None  # routes offer `as_of` only where there is a stream
        projection: Projection[Any] = query.projection()
        rows: dict[tuple[str, Key], Any] = {}
        last, partition, count = 0, asked.partition, 0
        events: AsyncIterator[RecordedEvent] = self._log.read_stream(
            asked.tenant,
            stream,
            until_position=until_position,
            until_partition=until_partition,
            until_time=until_time,
            events_max=events_max and events_max + 1,
        )
        async for recorded in events:
            last, partition = recorded.position, recorded.partition
            count += 1
            if events_max is not None and count > events_max:
                raise StreamTooLong
            for event in self._reader.read(recorded, projection.whens):
                projection.fold(rows, event, stream_of(recorded))
        return rows.get((query.table, tuple(asked.path[name] for name in query.path_names))), last, partition


class EventReader:
    """Reads stored events as today's."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def read(self, recorded: RecordedEvent, folded: Container[str]) -> Sequence[Event]:
        """
        Return what a stored event is read as today, if any of that is folded.

        Raises:
            StreamsUnreadable: This program does not know the event.
        """
        today = self._registry.today(recorded.type, recorded.schema_version)
        if today is not None and not any(name in folded for name in today):
            return ()
        try:
            return self._registry.decode(recorded.type, recorded.schema_version, recorded.data)
        except UnknownEvent as error:
            log.error(
                "stream unreadable", stream=recorded.stream, position=recorded.position, error=str(error)
            )
            raise StreamsUnreadable(recorded.stream, error.type, error.schema_version) from error


def stream_of(event: RecordedEvent) -> Stream:
    """Return where an event stands, as folds are told."""
    occurred_at = datetime.fromisoformat(orjson.loads(event.metadata)["occurred_at"])
    return Stream(
        event.tenant,
        event.stream,
        event.version,
        event.position,
        event.id,
        event.recorded_at,
        occurred_at,
    )


def _answer(row: Any, position: int, hash_prefix: str, partition: int | None = None) -> Answer:
    if row is None:
        return Answer(None, NO_DIGEST, position, hash_prefix, partition=partition)
    data: bytes = row.encode()
    return Answer(data, digest_of(data), position, hash_prefix, partition=partition)
