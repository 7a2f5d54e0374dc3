"""What workflows keep: scheduled commands, and the answers that reactions in progress have been given."""

from event_store.migrations.steps import run_sql

revision = "r0003_workflows"
down_revision = "r0002_feed"


def upgrade() -> None:
    """Make the tables."""
    run_sql("migrations/workflows.sql")


def downgrade() -> None:
    """Take them away, and with them the timers that were set."""
    run_sql("migrations/workflows_down.sql")
