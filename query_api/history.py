"""
`/v1/history`: a tenant's events as they stand in the log, oldest first, for auditors.

It is read from the log itself, so it is never behind it. One request looks at a bounded stretch of the log: a
page may hold few events, or none, and still have a `next`. A page that begins in the archive is read from there. Of a
tenant that has moved, one partition comes after the other.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import orjson
from pydantic import Field

from event_store.log import EventLog
from infra.documents import digest_of
from infra.sql import load_sql
from query_api.answers import Answer, Asked
from query_api.cursor import Cursors, scope_of
from query_api.freshness import token_of
from query_api.parameters import Moment, PageParameters
from query_api.query import AUDITOR, Query
from query_api.replicas import Row, Server
from query_api.statements import positional, scoped, without_comments
from schemas.envelope import RecordedEvent
from schemas.messages import Instant, View, format_instant

SCAN_EVENTS_MAX = 50_000
SCAN_ARCHIVED_EVENTS_MAX = 10_000
"""Each is fetched and unpacked, while what is not archived is only looked over."""
READ_ARCHIVED_EVENTS_MAX = 1_000

OpenedEvents = Callable[[Sequence[RecordedEvent]], Awaitable[Sequence[RecordedEvent]]]
Name = Annotated[str, Field(min_length=1, max_length=256)]


class HistoryParameters(PageParameters):
    """What to look for."""

    stream: Name | None = Field(None, description="Events of this stream.", examples=["orders/INV-1"])
    actor: Name | None = Field(None, description="Events that this subject caused.")
    type_: Name | None = Field(None, alias="type", description="Events of this type.")
    from_: Moment | None = Field(None, alias="from", description="Recorded at this time or later.")
    to: Moment | None = Field(None, description="Recorded before this time.")


class HistoryEvent(View):
    """One event, and all that is known about it."""

    event_id: str
    type: str
    schema_version: int
    stream: str
    version: int
    position: str
    recorded_at: Instant
    occurred_at: Instant
    actor: str
    roles: tuple[str, ...]
    reason: str | None
    command: str
    idempotency_key: str | None
    correlation_id: str
    causation_id: str | None
    data: dict[str, Any]


class GetHistory(Query):
    """A tenant's events as they stand in the log, oldest first."""

    route, view, permission = "history", HistoryEvent, AUDITOR
    parameters, reads, cache_seconds = HistoryParameters, (), 0


class HistoryReader:
    """Reads from the log's servers."""

    projections: tuple[str, ...] = ()

    def __init__(
        self,
        stores: Mapping[int, Server],
        log: EventLog,
        namespace: str,
        cursors: Cursors,
        opened: OpenedEvents,
    ) -> None:
        """`opened` makes the personal fields of stored events readable."""
        self._stores = stores
        self._log = log
        self._cursors = cursors
        self._opened = opened
        sql = load_sql("query_api", "sql/history.sql", namespace=namespace)
        self._statement = positional(scoped(without_comments(sql), namespace))

    async def page(self, asked: Asked, at_least: int) -> Answer:
        """Return one page, as of a list that is walked to its end."""
        return await self.read(asked, at_least)

    async def read(self, asked: Asked, at_least: int) -> Answer:
        """Return one page; the log is always the newest there is."""
        parameters = dict(asked.parameters)
        cursor, limit = parameters.pop("cursor"), parameters.pop("limit")
        scope = scope_of(asked.tenant, GetHistory.name, "", parameters)
        after, *place = self._cursors.read(scope, cursor) if cursor else (0,)
        residences = list(await self._log.residences_of(asked.tenant))
        number = next((at for at, stay in enumerate(residences) if [stay.partition] == place), 0)
        stay, later = residences[number], residences[number + 1 :]
        asked = replace(asked, partition=stay.partition)
        rows = await self._stores[asked.partition].fetch(
            self._statement.sql,
            self._statement.arguments(
                {
                    **parameters,
                    "tenant": asked.tenant,
                    "partition": asked.partition,
                    "after": after,
                    "scan_max": SCAN_EVENTS_MAX,
                    "page_rows": limit + 1,
                }
            ),
        )
        if rows and (rows[0]["archived_to"] or 0) > rows[0]["begins"]:
            found, scanned = await self._read_archived(asked, parameters, rows[0], limit)
        else:
            found = [row for row in rows if row["position"] is not None]
            scanned = rows[0]["scanned"] if rows else 0
        end = _end_of_page(rows, scanned, found, limit, stay.last_position)
        next_cursor = "" if end is None else self._cursors.make(scope, [end, stay.partition])
        if end is None and later:
            next_cursor = self._cursors.make(scope, [0, later[0].partition])
        page = found[:limit]
        events = await self._opened([_recorded(row, asked) for row in page])
        items = b",".join([_item(row, event.data, asked) for row, event in zip(page, events, strict=True)])
        body = b'{"items":[' + items + b'],"next":' + orjson.dumps(next_cursor or None) + b"}"
        position, hash_prefix = (rows[0]["head"], rows[0]["head_hash"][:4].hex()) if rows else (0, "00000000")
        return Answer(
            body, digest_of(body), position, hash_prefix, next_cursor=next_cursor, partition=stay.partition
        )

    async def read_log(self, asked: Asked) -> Answer | None:
        """Return one page: it is read from the log in any case."""
        return await self.read(asked, 0)

    async def _read_archived(
        self, asked: Asked, parameters: Mapping[str, Any], place: Row, limit: int
    ) -> tuple[Sequence[Row], int]:
        """Return what a page from the archive holds, and the last position that was looked at."""
        found: list[Row] = []
        stream, begins, ends = parameters["stream"], place["begins"], place["ends"]
        last = ends if stream is not None else min(ends, begins + SCAN_ARCHIVED_EVENTS_MAX)
        async for event in self._stretch(asked, stream, begins + 1, last):
            if _is_wanted(event, parameters):
                found.append(await self._row_of(event))
                if len(found) > limit:
                    return found, event.position
        return found, last

    async def _stretch(
        self, asked: Asked, stream: str | None, first: int, last: int
    ) -> AsyncIterator[RecordedEvent]:
        """Return the tenant's events among some positions, or those of one of its streams."""
        if stream is not None:
            async for event in self._log.read_stream(
                asked.tenant, stream, until_position=last, until_partition=asked.partition
            ):
                if event.partition == asked.partition and event.position >= first:
                    yield event
            return
        for start in range(first, last + 1, READ_ARCHIVED_EVENTS_MAX):
            end = min(start + READ_ARCHIVED_EVENTS_MAX - 1, last)
            for event in await self._log.read_range(asked.partition, start, end, tenants=[asked.tenant]):
                yield event

    async def _row_of(self, event: RecordedEvent) -> dict[str, Any]:
        commit = await self._log.commit_of(event.partition, event.position)
        assert commit is not None  # the event is in the log
        return {**event._asdict(), "event_id": event.id, "hash": commit.hash}


def _is_wanted(event: RecordedEvent, parameters: Mapping[str, Any]) -> bool:
    if parameters["type_"] is not None and event.type != parameters["type_"]:
        return False
    return parameters["actor"] is None or orjson.loads(event.metadata).get("actor") == parameters["actor"]


def _end_of_page(
    rows: Sequence[Row], scanned: int, found: Sequence[Row], limit: int, left: int | None
) -> int | None:
    """Return the position after which the next page of a partition begins; None when there is none."""
    if len(found) > limit:
        position: int = found[limit - 1]["position"]
        return position
    if not rows:
        return None
    ends = rows[0]["ends"] if left is None else min(left, rows[0]["ends"])
    return scanned if scanned < ends else None


def _recorded(row: Row, asked: Asked) -> RecordedEvent:
    return RecordedEvent(
        asked.partition, row["position"], asked.tenant, row["stream"], row["version"], row["event_id"],
        row["type"], row["schema_version"], row["data"], row["metadata"], row["recorded_at"],
    )  # fmt: skip


def _item(row: Row, data: bytes, asked: Asked) -> bytes:
    metadata = orjson.loads(row["metadata"])
    known = {
        "event_id": row["event_id"],
        "type": row["type"],
        "schema_version": row["schema_version"],
        "stream": row["stream"],
        "version": row["version"],
        "position": token_of(asked.tenant, asked.partition, row["position"], row["hash"][:4].hex()).decode(),
        "recorded_at": format_instant(row["recorded_at"]),
        "occurred_at": metadata["occurred_at"],
        "actor": metadata["actor"],
        "roles": metadata.get("roles", []),
        "reason": metadata.get("reason"),
        "command": metadata["command"],
        "idempotency_key": metadata.get("idempotency_key"),
        "correlation_id": metadata["correlation_id"],
        "causation_id": metadata.get("causation_id"),
        "data": orjson.Fragment(data),
    }
    return orjson.dumps(known)
