"""Snapshots: saved states of streams."""

from event_store.migrations.steps import run_sql

revision = "r0007_snapshots"
down_revision = "r0006_reading"


def upgrade() -> None:
    """Make the tables, empty; whoever folds long streams fills them."""
    run_sql(
        "migrations/snapshots.sql",
        "functions/read_states_v1.sql",
        "functions/save_states_v1.sql",
        "functions/forget_states_v1.sql",
    )


def downgrade() -> None:
    """Take them away; states are folded from the log again."""
    run_sql("migrations/snapshots_down.sql")
