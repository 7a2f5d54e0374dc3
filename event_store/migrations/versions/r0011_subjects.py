"""The keys of persons that personal data is encrypted with, and their erasure."""

from event_store.migrations.steps import run_sql

revision = "r0011_subjects"
down_revision = "r0010_archive"


def upgrade() -> None:
    """Make the tables and the functions that work on them."""
    run_sql(
        "migrations/subjects.sql",
        "functions/make_subject_keys_v1.sql",
        "functions/destroy_subject_keys_v1.sql",
    )


def downgrade() -> None:
    """Take them away, unless there are keys."""
    run_sql("migrations/subjects_down.sql")
