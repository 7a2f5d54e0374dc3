"""What consumers of the log keep: leases, checkpoints, generations, parked events."""

from event_store.migrations.steps import run_sql

revision = "r0002_feed"
down_revision = "r0001_log"


def upgrade() -> None:
    """Make the tables and the functions that work on them."""
    run_sql(
        "migrations/feed.sql",
        "functions/hold_leases_v1.sql",
        "functions/advance_checkpoint_v1.sql",
        "functions/swap_generation_v1.sql",
    )


def downgrade() -> None:
    """Take them away; all of it can be made again from the log, but for what operators skipped."""
    run_sql("migrations/feed_down.sql")
