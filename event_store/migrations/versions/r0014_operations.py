"""What operators have asked for, what the drift detector has checked, and who waits for whose locks."""

from event_store.migrations.steps import run_sql

revision = "r0014_operations"
down_revision = "r0011_subjects"


def upgrade() -> None:
    """Make the tables, and the function that says what sessions wait for."""
    run_sql("migrations/operations.sql", "functions/session_waits_v1.sql")


def downgrade() -> None:
    """Take them away."""
    run_sql("migrations/operations_down.sql")
