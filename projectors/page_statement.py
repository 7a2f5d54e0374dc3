"""
The statement that brings what a page means to projections into their tables and moves their checkpoints.

All its parts are one transaction, in one round trip: a checkpoint that is not where it was believed to be undoes them
all. It names only the tables that something is done to.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from event_store.checkpoints import Checkpoint
from event_store.waits import tag_of
from projectors.folding import Place
from projectors.tables import Table, Written
from schemas.envelope import CommitMark

STATEMENTS_MAX = 64
"""How many combinations of tables have a statement of their own; any other is written by one for all tables."""
CHECKPOINT_ARGUMENTS, FIXED_ARGUMENTS = 10, 14


class TableChanges(NamedTuple):
    """What has become of one table's rows."""

    written: Sequence[Written]
    deleted: Sequence[Place]


class Share(NamedTuple):
    """What a page means to one projection; or to several, where it is only that their checkpoints move."""

    checkpoints: Sequence[Checkpoint]
    tables: Mapping[str, Table]
    changes: Mapping[str, TableChanges]
    tenants: Mapping[str, int]
    """The last folded position of each tenant."""

    @property
    def rows(self) -> int:
        """How many rows it changes."""
        return sum(len(change.written) + len(change.deleted) for change in self.changes.values())


class _Part(NamedTuple):
    """What is done to one table."""

    table: Table
    change: TableChanges
    is_delete: bool

    @property
    def key(self) -> tuple[str, str, bool]:
        """What its statement depends on."""
        return self.table.schema, self.table.name, self.is_delete

    @property
    def arguments(self) -> list[str]:
        """The values that its statement takes."""
        if self.is_delete:
            return self.table.key_arguments(self.change.deleted)
        return self.table.row_arguments(self.change.written)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.change.deleted if self.is_delete else self.change.written)


class PageStatements:
    """The statements for some projections' tables, each made once."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._texts: dict[tuple[tuple[str, str, bool], ...], str] = {}

    def of(
        self, shares: Sequence[Share], to: CommitMark, recorded_at: datetime | None
    ) -> tuple[str, Sequence[Any]]:
        """
        Return the statement that commits shares of one partition, and its arguments.

        It fails with `FENCED_SQLSTATE` where a checkpoint is not where it is believed to be.

        Raises:
            UnwritableValue: A row cannot be sent.
        """
        every = [
            _Part(table, share.changes[name], is_delete)
            for share in shares
            for name, table in share.tables.items()
            for is_delete in (False, True)
        ]
        parts = [part for part in every if not part.is_empty]
        key = tuple(part.key for part in parts)
        if key not in self._texts and len(self._texts) >= STATEMENTS_MAX:
            parts, key = every, tuple(part.key for part in every)
        if key not in self._texts:
            self._texts[key] = self._text(parts)
        arguments = [*_fixed_arguments(shares, to, recorded_at)]
        for part in parts:
            arguments += part.arguments
        return _tag(shares) + self._texts[key], arguments

    def _text(self, parts: Sequence[_Part]) -> str:
        moved = ", ".join(f"${number}" for number in range(1, CHECKPOINT_ARGUMENTS + 1))
        steps = [
            f"moved AS (SELECT {self._namespace}.advance_checkpoints_v1({moved}) AS position)",
            f"tenants AS ({_note_tenants(self._namespace)})",
        ]
        number = FIXED_ARGUMENTS + 1
        for index, (table, _, is_delete) in enumerate(parts):
            step = table.delete(number) if is_delete else table.upsert(number)
            steps.append(f"part{index} AS ({step})")
            number += 1 + len(table.key) if is_delete else len(table.columns)
        return f"WITH {', '.join(steps)} SELECT position FROM moved"


def _tag(shares: Sequence[Share]) -> str:
    """Say for whom a statement is, where it is for one."""
    if len(shares) > 1 or len(shares[0].checkpoints) > 1:
        return ""
    (checkpoint,) = shares[0].checkpoints
    return f"{tag_of(checkpoint.consumer, checkpoint.generation)} "


def _fixed_arguments(shares: Sequence[Share], to: CommitMark, recorded_at: datetime | None) -> Iterable[Any]:
    checkpoints = [checkpoint for share in shares for checkpoint in share.checkpoints]
    tenants = [
        (tenant, checkpoint.consumer, checkpoint.generation, position)
        for share in shares
        for checkpoint in share.checkpoints
        for tenant, position in share.tenants.items()
    ]
    return (
        checkpoints[0].kind,
        checkpoints[0].partition,
        [checkpoint.consumer for checkpoint in checkpoints],
        [checkpoint.generation for checkpoint in checkpoints],
        [checkpoint.mark.position for checkpoint in checkpoints],
        [checkpoint.mark.hash for checkpoint in checkpoints],
        [checkpoint.revision for checkpoint in checkpoints],
        to.position,
        to.hash,
        recorded_at,
        *([one[number] for one in tenants] for number in range(4)),
    )


def _note_tenants(namespace: str) -> str:
    """Return the part that notes tenants' last folded positions: of several projections, in the partition `$2`."""
    return (
        f"INSERT INTO {namespace}.applied_by_tenant AS a (tenant, projection, generation, partition, position) "
        "SELECT t.tenant, t.projection, t.generation, $2, t.position "
        "FROM unnest($11::text[], $12::text[], $13::integer[], $14::bigint[]) "
        "AS t (tenant, projection, generation, position) ON CONFLICT ON CONSTRAINT applied_by_tenant_key "
        "DO UPDATE SET partition = excluded.partition, position = CASE WHEN a.partition = excluded.partition "
        "THEN greatest(a.position, excluded.position) ELSE excluded.position END"
    )
