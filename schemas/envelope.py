"""
An event in transit, and what is known about it besides its data.

`Metadata` is one per command and is stored once beside each of its events, as bytes. `RecordedEvent` is an
event as the log has it: bytes stay bytes until somebody needs the values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from schemas.messages import format_instant


@dataclass(frozen=True, slots=True)
class Metadata:
    """Who did it, why, when it happened for the business, and what caused it."""

    actor: str
    roles: tuple[str, ...]
    command: str
    occurred_at: datetime
    """When it happened for the business; the time of the decision unless the request says otherwise (UTC)."""
    correlation_id: str
    causation_id: str | None = None
    reason: str | None = None
    idempotency_key: str | None = None
    traceparent: str | None = None

    def encode(self) -> bytes:
        """Return the bytes that the log keeps; members without a value are left out."""
        members: dict[str, Any] = {
            "actor": self.actor,
            "roles": self.roles,
            "command": self.command,
            "occurred_at": format_instant(self.occurred_at),
            "correlation_id": self.correlation_id,
        }
        if self.causation_id is not None:
            members["causation_id"] = self.causation_id
        if self.reason is not None:
            members["reason"] = self.reason
        if self.idempotency_key is not None:
            members["idempotency_key"] = self.idempotency_key
        if self.traceparent is not None:
            members["traceparent"] = self.traceparent
        return orjson.dumps(members)

    @classmethod
    def decode(cls, data: bytes) -> "Metadata":
        """Return the metadata that `encode` wrote."""
        members: dict[str, Any] = orjson.loads(data)
        members["roles"] = tuple(members.get("roles", ()))
        members["occurred_at"] = datetime.fromisoformat(members["occurred_at"])
        return cls(**members)


class CommitMark(NamedTuple):
    """
    A place in one partition's history: a position, and the hash of the commit that ends there.

    A position alone means nothing after a failover that lost a tail; with the hash it names one history.
    Position 0 with the hash of 32 zero bytes is the beginning.
    """

    position: int
    hash: bytes


BEGINNING = CommitMark(0, bytes(32))


class RecordedEvent(NamedTuple):
    """An event as the log has it."""

    partition: int
    position: int
    tenant: str
    stream: str
    version: int
    id: str
    """UUIDv7 in its canonical form."""
    type: str
    schema_version: int
    data: bytes
    metadata: bytes
    recorded_at: datetime

    @property
    def stream_ids(self) -> tuple[str, ...]:
        """The ids in the stream's name: `("H1", "R101")` for `rooms/H1/R101`."""
        return tuple(self.stream.split("/")[1:])


def cloud_event(
    event: RecordedEvent, *, namespace: str, domain: str, data: Mapping[str, Any]
) -> dict[str, Any]:
    """
    Return an event as a structured CloudEvents 1.0 JSON object.

    `data` is the event's data without its personal fields. Source: CloudEvents 1.0.2 and contract.md, section 7.
    """
    metadata = orjson.loads(event.metadata)
    mapped = {
        "specversion": "1.0",
        "id": event.id,
        "source": f"/everfold/{namespace}/{event.tenant}",
        "type": f"{domain}.{event.type}.v{event.schema_version}",
        "subject": event.stream,
        "time": format_instant(event.recorded_at),
        "datacontenttype": "application/json",
        "dataschema": f"/schemas/{domain}/{event.type}/v{event.schema_version}",
        "partitionkey": event.tenant,
        "sequence": str(event.position),
        "data": data,
    }
    if traceparent := metadata.get("traceparent"):
        mapped["traceparent"] = traceparent
    return mapped
