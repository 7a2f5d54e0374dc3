"""
What a failure of PostgreSQL says about what was asked of it: it was not done, or nobody knows.

Code looks at SQLSTATEs; those that begin with ES are raised by the functions under `sql/functions`.
"""

from dataclasses import dataclass

import asyncpg

from schemas.errors import BadDefinition, Rejection, ServiceError, StoreUnavailable

NOT_HERE = "ES001"
EPOCH_CHANGED = "ES002"
CALL_GIVEN_UP = "ES004"
HAS_EVENTS = "ES006"
PLACED_ELSEWHERE = "ES008"
IN_ARCHIVE = "ES020"
LOCK_NOT_AVAILABLE = "55P03"
READ_ONLY = "25006"
NO_RANGE = "23514"
"""PostgreSQL's word for a row that no table is there for: housekeeping is behind."""

NOTHING_WRITTEN = frozenset({CALL_GIVEN_UP, LOCK_NOT_AVAILABLE, READ_ONLY, NO_RANGE})
NOTHING_WRITTEN_CLASSES = frozenset({"40", "53", "57", "58"})
"""Classes after which the same may well succeed: rolled back, out of resources, stopped, a bad disk."""

NOT_MIGRATED = frozenset({"3F000", "42P01", "42883"})
"""A schema, table or function is not there."""

LOST = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What comes in place of a reply when the connection has ended or gave none in time."""
NO_REPLY = (*LOST, asyncpg.PostgresError)
"""That, or the server's own word that it did not do it: for work that is simply tried again later."""


@dataclass(eq=False)
class PartitionNotHere(BadDefinition):
    """The log was asked for a partition that the server at its address does not have."""


@dataclass(eq=False)
class TenantHasEvents(Rejection):
    """A tenant that has events is not placed, but moved: `everfold tenants move`."""

    tenant: str


@dataclass(eq=False)
class TenantLivedThere(Rejection):
    """A tenant lives in each partition once: it cannot come back to one that it has left."""

    tenant: str
    partition: int


@dataclass(eq=False)
class TenantOnItsWay(Rejection):
    """The tenant is on its way to another partition, and has to arrive there first: run that move again."""

    tenant: str
    to_partition: int


@dataclass(eq=False)
class ClocksApart(Rejection):
    """The clocks of the two servers differ by too much; nothing has happened."""

    seconds: float


@dataclass(eq=False)
class StoreNotMigrated(StoreUnavailable, slug=StoreUnavailable.slug):
    """The event store lacks what this program needs: run `everfold migrate`; nothing has happened."""


@dataclass(eq=False)
class EventMissing(ServiceError):
    """An event that the log had is not in it: see what `everfold verify --log` says of its partition."""

    partition: int
    position: int


def leaves_unknown(error: asyncpg.PostgresError) -> bool:
    """Say whether an error does not tell if the transaction was undone: the connection ended with it."""
    is_fatal = getattr(error, "severity_en", None) in ("FATAL", "PANIC")
    return is_fatal or isinstance(error, asyncpg.PostgresConnectionError)


def means_later(error: asyncpg.PostgresError) -> bool:
    """Say whether an error of the server means that nothing was done and that the same may be asked again."""
    state = error.sqlstate or ""
    return state in NOTHING_WRITTEN or state[:2] in NOTHING_WRITTEN_CLASSES
