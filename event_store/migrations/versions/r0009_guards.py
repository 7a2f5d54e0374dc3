"""Least-privileged roles, and row security by tenant."""

from event_store.migrations.steps import run_sql

revision = "r0009_guards"
down_revision = "r0008_heads"


def upgrade() -> None:
    """Say what each role may do, and guard every table that has tenants."""
    run_sql(
        "functions/guard_tenants_v1.sql",
        "functions/guard_every_table_v1.sql",
        "functions/guard_generation_v1.sql",
        "functions/ensure_ranges_v2.sql",
        "functions/ensure_key_days_v2.sql",
        "functions/parked_counts_v1.sql",
        # These name their tenants, which they did not when they were first made.
        "functions/append_batch_v2.sql",
        "functions/settle_v1.sql",
        "functions/read_tails_v1.sql",
        "functions/read_tagged_v1.sql",
        "functions/read_states_v1.sql",
        "functions/save_states_v1.sql",
        "functions/forget_states_v1.sql",
        "migrations/guards.sql",
    )


def downgrade() -> None:
    """Take the guards away; the roles stay."""
    run_sql("migrations/guards_down.sql")
