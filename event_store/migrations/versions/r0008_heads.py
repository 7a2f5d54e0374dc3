"""The log's identity, its epochs, and the era that they make."""

from event_store.migrations.steps import run_sql

revision = "r0008_heads"
down_revision = "r0007_snapshots"


def upgrade() -> None:
    """Make the tables; the identity itself is given by migrate.py, the same to all servers."""
    run_sql("migrations/heads.sql", "functions/era_v1.sql")


def downgrade() -> None:
    """Take them away."""
    run_sql("migrations/heads_down.sql")
