"""
`/v1/history`: a tenant's events as they stand in the log, oldest first, for auditors.

It is read from the log itself, so it is never behind it. One request looks at a bounded stretch of the log: a
page may hold few events, or none, and still have a `next`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
from pydantic import Field

from infra.documents import digest_of
from infra.sql import load_sql
from query_api.answers import Answer, Asked
from query_api.cursor import Cursors, scope_of
from query_api.freshness import token_of
from query_api.parameters import Moment, PageParameters
from query_api.query import AUDITOR, Query
from query_api.replicas import Row, Server
from query_api.statements import positional
from schemas.messages import Instant, View, format_instant

SCAN_EVENTS_MAX = 50_000

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
    parameters, reads = HistoryParameters, ()


class HistoryReader:
    """Reads from the log's servers."""

    projections: tuple[str, ...] = ()

    def __init__(self, stores: Mapping[int, Server], namespace: str, cursors: Cursors) -> None:
        self._stores = stores
        self._cursors = cursors
        self._statement = positional(load_sql("query_api", "sql/history.sql", namespace=namespace))

    async def read(self, asked: Asked, at_least: int) -> Answer:
        """Return one page; the log is always the newest there is."""
        parameters = dict(asked.parameters)
        cursor, limit = parameters.pop("cursor"), parameters.pop("limit")
        scope = scope_of(asked.tenant, GetHistory.name, "", parameters)
        after = self._cursors.read(scope, cursor)[0] if cursor else 0
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
        found = [row for row in rows if row["position"] is not None]
        end = _end_of_page(rows, found, limit)
        next_cursor = "" if end is None else self._cursors.make(scope, [end])
        items = b",".join([_item(row, asked) for row in found[:limit]])
        body = b'{"items":[' + items + b'],"next":' + orjson.dumps(next_cursor or None) + b"}"
        position, hash_prefix = (rows[0]["head"], rows[0]["head_hash"][:4].hex()) if rows else (0, "00000000")
        return Answer(body, digest_of(body), position, hash_prefix, next_cursor=next_cursor)


def _end_of_page(rows: Sequence[Row], found: Sequence[Row], limit: int) -> int | None:
    """Return the position after which the next page begins; None when there is none."""
    if len(found) > limit:
        position: int = found[limit - 1]["position"]
        return position
    if rows and rows[0]["scanned"] < rows[0]["ends"]:
        scanned: int = rows[0]["scanned"]
        return scanned
    return None


def _item(row: Row, asked: Asked) -> bytes:
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
        "data": orjson.Fragment(row["data"]),
    }
    return orjson.dumps(known)
