"""
What a revision may do: run a `.sql` file, with the namespace filled in, inside the migration's one transaction.

A revision names its files and nothing else, so its SQL can be read, linted and run by itself.
"""

from typing import Any

from alembic import context, op

from infra.sql import load_sql


def run_sql(*files: str) -> None:
    """Run files under `event_store/sql`, such as `migrations/log.sql`, in order; each may hold many statements."""
    cursor: Any = op.get_bind().connection.cursor()
    for file in files:
        cursor.execute(load_sql("event_store", f"sql/{file}", namespace=namespace()))


def namespace() -> str:
    """Return the schema that is being migrated."""
    return str(context.config.attributes["namespace"])
