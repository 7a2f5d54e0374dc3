"""Tickets that browsers open live streams with."""

from event_store.migrations.steps import run_sql

revision = "r0017_live_tickets"
down_revision = "r0015_outgoing"


def upgrade() -> None:
    """Make the table."""
    run_sql("migrations/live_tickets.sql")


def downgrade() -> None:
    """Take it away."""
    run_sql("migrations/live_tickets_down.sql")
