"""Tenants that move from one partition to another."""

from event_store.migrations.steps import run_sql

revision = "r0018_moves"
down_revision = "r0017_live_tickets"


def upgrade() -> None:
    """Make the tables, have placements follow moves, and cut pages before arrivals."""
    run_sql(
        "migrations/moves.sql",
        "functions/guard_placement_v2.sql",
        "functions/note_move_v1.sql",
        "functions/page_end_v3.sql",
    )


def downgrade() -> None:
    """Take them away, if no tenant has moved."""
    run_sql("migrations/moves_down.sql")
