-- record_migration: note who changed the layout, and why (psycopg's placeholders: before, after, actor, reason).
--
-- Caller   event_store/migrate.py

INSERT INTO {namespace}.migration_runs (revision_before, revision_after, actor, reason) VALUES (%s, %s, %s, %s)
