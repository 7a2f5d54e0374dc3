"""The log: its tables, its functions, and their guards."""

from event_store.migrations.steps import run_sql

revision = "r0001_log"
down_revision = None


def upgrade() -> None:
    """Make an empty log."""
    run_sql(
        "migrations/log.sql",
        "functions/refuse_change_v1.sql",
        "functions/ensure_ranges_v1.sql",
        "functions/create_partition_v1.sql",
        "functions/guard_placement_v1.sql",
        "functions/append_batch_v1.sql",
        "functions/settle_v1.sql",
        "functions/page_end_v1.sql",
        "functions/read_tails_v1.sql",
    )


def downgrade() -> None:
    """Take the log away, if nothing was ever written to it."""
    run_sql("migrations/log_down.sql")
