"""What workflows tell the outside world, until it is delivered; which version of a workflow could not react."""

from event_store.migrations.steps import run_sql

revision = "r0015_outgoing"
down_revision = "r0014_operations"


def upgrade() -> None:
    """Make the table, and the column."""
    run_sql("migrations/outgoing.sql")


def downgrade() -> None:
    """Take them away, and with them messages that were not delivered."""
    run_sql("migrations/outgoing_down.sql")
