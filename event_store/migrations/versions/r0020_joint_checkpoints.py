"""The checkpoints of several projections move together, in one statement with all that a page means to them."""

from event_store.migrations.steps import run_sql

revision = "r0020_joint_checkpoints"
down_revision = "r0019_moves_followed"


def upgrade() -> None:
    """Make the function."""
    run_sql("functions/advance_checkpoints_v1.sql")


def downgrade() -> None:
    """Drop it."""
    run_sql("migrations/joint_checkpoints_down.sql")
