"""The two appends of a move: the fence where a tenant leaves, and the first event where it arrives."""

from datetime import UTC, datetime

import uuid_utils

from event_store.log import Append, Check, NewEvent
from event_store.residences import Move
from schemas.envelope import Metadata
from schemas.moves import TenantArrived, TenantLeft, stream_of

ROLE = "operator"


def leaving(
    tenant: str, version: int, number: int, to_partition: int, *, actor: str = ROLE, reason: str | None = None
) -> Append:
    """Return the append of the fence; `version` is that of the tenant's stream of moves."""
    return _append(
        tenant, version, TenantLeft(number=number, to_partition=to_partition, reason=reason), actor, reason
    )


def arriving(move: Move, version: int, *, actor: str = ROLE, reason: str | None = None) -> Append:
    """Return the append of the arrival; `version` is that of the tenant's stream of moves."""
    event = TenantArrived(
        number=move.number,
        from_partition=move.from_partition,
        left_position=move.left.position,
        left_hash=move.left.hash.hex(),
        left_at=move.left_at,
    )
    return _append(move.tenant, version, event, actor, reason)


def _append(
    tenant: str, version: int, event: TenantLeft | TenantArrived, actor: str, reason: str | None
) -> Append:
    stream = stream_of(tenant)
    metadata = Metadata(
        actor=actor,
        roles=(ROLE,),
        command="tenants.move",
        occurred_at=datetime.now(UTC),
        correlation_id=str(uuid_utils.uuid7()),
        reason=reason,
    )
    new = NewEvent(stream, str(uuid_utils.uuid7()), event.type, event.schema_version, event.encode())
    return Append(tenant, stream, [Check(stream, version)], [new], metadata.encode())
