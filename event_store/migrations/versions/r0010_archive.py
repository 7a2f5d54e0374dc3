"""Old events in an archive: which ones, and reads that know of it."""

from event_store.migrations.steps import run_sql

revision = "r0010_archive"
down_revision = "r0009_guards"


def upgrade() -> None:
    """Make the tables and the function."""
    run_sql("migrations/archive.sql", "functions/page_end_v2.sql", "functions/stream_version_v2.sql")


def downgrade() -> None:
    """Take them away, if nothing was archived."""
    run_sql("migrations/archive_down.sql")
