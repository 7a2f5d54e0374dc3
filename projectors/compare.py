"""
Compares two generations' tables row by row, as one statement sees them, and names the first row that differs.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from event_store.checkpoints import Connection
from projectors.tables import Table

NOT_BUILT = object()


class Difference(NamedTuple):
    """A row that is not what it should be."""

    table: str
    tenant: str
    key: tuple[str, ...]
    live: Any
    """The row's document in the live table; None: there is no such row."""
    expected: Any
    """The row's document as a fold of the log in memory has it."""
    rebuilt: Any = NOT_BUILT
    """The row's document in the generation that was built."""

    def document(self) -> dict[str, Any]:
        """Return the difference as JSON."""
        rebuilt = {} if self.rebuilt is NOT_BUILT else {"rebuilt": _text(self.rebuilt)}
        return {
            "table": self.table, "tenant": self.tenant, "key": list(self.key),
            "live": _text(self.live), **rebuilt, "expected": _text(self.expected),
        }  # fmt: skip


def _text(document: bytes | str | None) -> str | None:
    return document.decode(errors="replace") if isinstance(document, bytes) else document


async def first_difference(
    connection: Connection, live: Mapping[str, Table], fresh: Mapping[str, Table]
) -> tuple[int, Difference | None]:
    """
    Return how many live rows there are, and the first that differs from its rebuilt one, in the key's order.

    What is expected is left for the caller to find out.
    """
    rows = 0
    for name, table in live.items():
        rows += await connection.fetchval(f"SELECT count(*) FROM {table.full_name}")
        found = await connection.fetchrow(_difference_sql(table, fresh[name]))
        if found is not None:
            tenant, *key = found[: 1 + len(table.key)]
            return rows, Difference(name, tenant, tuple(key), found["live"], None, found["fresh"])
    return rows, None


def _difference_sql(live: Table, fresh: Table) -> str:
    """Whole rows are compared as text, because not every type (json) knows when it is equal."""
    keys = ", ".join(f'"{name}"' for name in ("tenant", *live.key))
    return (
        f"SELECT {keys}, l.doc AS live, f.doc AS fresh "
        f"FROM {live.full_name} AS l FULL JOIN {fresh.full_name} AS f USING ({keys}) "
        f"WHERE (l.*)::text IS DISTINCT FROM (f.*)::text ORDER BY {keys} LIMIT 1"
    )
