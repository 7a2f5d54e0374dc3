"""Tags and conditions, and idempotency keys in a table a day."""

from event_store.migrations.steps import run_sql

revision = "r0005_conditions"
down_revision = "r0004_operator_acts"


def upgrade() -> None:
    """Make the tables, move the keys, and add the functions that know of them."""
    run_sql(
        "functions/ensure_key_days_v1.sql",
        "functions/add_to_partition_v1.sql",
        "functions/create_partition_v2.sql",
        "migrations/conditions.sql",
        "functions/append_batch_v2.sql",
        "functions/read_tagged_v1.sql",
    )


def downgrade() -> None:
    """Go back, if no event has tags."""
    run_sql("migrations/conditions_down.sql")
