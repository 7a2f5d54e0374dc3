"""What operators have done, and why."""

from event_store.migrations.steps import run_sql

revision = "r0004_operator_acts"
down_revision = "r0003_workflows"


def upgrade() -> None:
    """Make the table."""
    run_sql("migrations/operator_acts.sql")


def downgrade() -> None:
    """Take it away."""
    run_sql("migrations/operator_acts_down.sql")
