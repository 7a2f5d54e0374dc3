"""
What the log itself says of a tenant that moves from one partition to another: two events, and nothing of any domain.

They stand in the tenant's own stream `tenant-moves/{tenant}`, whose versions go on from partition to partition as those
of every stream do. No domain's rules fold them: to a registry they are known, and read as nothing.
"""

from typing import Annotated, Final, NamedTuple

from pydantic import Field, StringConstraints

from schemas.envelope import CommitMark, RecordedEvent
from schemas.messages import Count, Event, Instant, Text

DOMAIN: Final = "everfold"
COLLECTION: Final = "tenant-moves"

CommitHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class TenantLeft(Event):
    """The fence: the last event of a tenant in a partition. What was appended before it is all that is there."""

    number: Annotated[int, Field(ge=1)]
    """Of the tenant's moves."""
    to_partition: Count
    reason: Text | None = None


class TenantArrived(Event):
    """The first event of a tenant in a partition: whatever follows, follows the fence that it names."""

    number: Annotated[int, Field(ge=1)]
    from_partition: Count
    left_position: Annotated[int, Field(ge=1)]
    """Of the fence, `TenantLeft`, in the partition that was left."""
    left_hash: CommitHash
    """Of the fence's commit."""
    left_at: Instant


OWN_EVENTS: Final[dict[tuple[str, int], type[Event]]] = {
    (event.type, event.schema_version): event for event in (TenantLeft, TenantArrived)
}
"""The log's own events, by type and version."""


class Arrival(NamedTuple):
    """What must have been taken from another partition before an event of this one, and what comes after it."""

    tenant: str
    position: int
    """Of the `TenantArrived` in its own partition."""
    from_partition: int
    fence: CommitMark
    """Where the tenant left: who has taken that partition up to here, or beyond, may go on."""


def stream_of(tenant: str) -> str:
    """Return the stream of a tenant's moves."""
    return f"{COLLECTION}/{tenant}"


def arrival_of(event: RecordedEvent) -> Arrival | None:
    """Return what an event says must have been taken before it; None for all events but `TenantArrived`."""
    if event.type != TenantArrived.type:
        return None
    arrived = TenantArrived.model_validate_json(event.data)
    fence = CommitMark(arrived.left_position, bytes.fromhex(arrived.left_hash))
    return Arrival(event.tenant, event.position, arrived.from_partition, fence)
