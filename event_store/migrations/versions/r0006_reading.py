"""Reading by what events are: where in a partition each type and each tenant occurs."""

from event_store.migrations.steps import run_sql

revision = "r0006_reading"
down_revision = "r0005_conditions"


def upgrade() -> None:
    """Make the tables, empty; housekeeping fills them."""
    run_sql(
        "migrations/reading.sql",
        "functions/stream_version_v1.sql",
        "functions/occurrences_filled_v1.sql",
        "functions/fill_occurrences_v1.sql",
        "functions/read_filtered_v1.sql",
    )


def downgrade() -> None:
    """Take them away; all of it can be made again from the log."""
    run_sql("migrations/reading_down.sql")
