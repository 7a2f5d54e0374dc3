"""The databases' steps, as Alembic revisions whose SQL stands in `event_store/sql`."""
