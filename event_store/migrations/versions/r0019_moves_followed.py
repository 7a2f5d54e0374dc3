"""What consumers keep by position says of which partition: a tenant that moved has equal positions in several."""

from event_store.migrations.steps import run_sql

revision = "r0019_moves_followed"
down_revision = "r0018_moves"


def upgrade() -> None:
    """Say the partition beside the position."""
    run_sql("migrations/moves_followed.sql")


def downgrade() -> None:
    """Say it no more."""
    run_sql("migrations/moves_followed_down.sql")
